"""What jobs of plain functions hold: a row as a JSON object, or several in an array. Pure.

Hand-written triggers and old UDFs write it, not always well. It is read leniently: NaN and Infinity are NULL (so writes
lib_mysqludf_json a NULL number), control characters may stand raw in strings. And exactly: numbers keep their digits.
What is no UTF-8 or no JSON is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from syncbridge.errors import PermanentError
from syncbridge.event import Row

#: Half a surrogate pair may be in there: JSON allows it, UTF-8 and Redis's readers do not.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
#: Digits of an integer that surely fits 64 bits.
_SAFE_DIGITS = 18


class Number:
    """A JSON number that is no 64-bit integer, as it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def decode_objects(workload: bytes) -> list[Any]:
    """The elements of a job; each should be a dict. Raises PermanentError when it is no JSON."""
    try:
        text = workload.decode()
        decoded = _DECODER.decode(text)
        if _SURROGATE.search(text):
            _encode(decoded)
    except UnicodeDecodeError as error:
        raise PermanentError(f"job is not UTF-8: {error}", hint="send binary columns through TO_BASE64()") from error
    except (ValueError, RecursionError, TypeError) as error:
        raise PermanentError(f"job is not JSON: {error}") from error
    return decoded if isinstance(decoded, list) else [decoded]


def encode_object(element: Any) -> bytes:
    """An element of a job as a job of its own."""
    try:
        return _encode(element)
    except TypeError:  # nested too deep for orjson
        return json.dumps(element, default=lambda number: number.text).encode()


def row_of(element: Any) -> tuple[Row, dict[str, str]]:
    """The element as a row of an event, and the kinds of its values (event.py). Raises PermanentError."""
    if not isinstance(element, dict):
        raise PermanentError("job holds something that is not an object")
    row: Row = {}
    types = {}
    for name, value in element.items():
        if value is None or type(value) is str or type(value) is int:
            row[name] = value
        elif type(value) is bool:
            row[name], types[name] = int(value), "bool"
        elif type(value) is Number:
            row[name], types[name] = value.text, "float"
        else:
            try:
                row[name], types[name] = _encode(value).decode(), "json"
            except TypeError as error:
                raise PermanentError(f"{name} cannot be shown: {error}") from error
    return row, types


def _integer(text: str) -> int | Number:
    return int(text) if len(text) <= _SAFE_DIGITS or -(2**63) <= int(text) < 2**64 else Number(text)


def _encode(value: Any) -> bytes:
    return orjson.dumps(value, default=lambda number: orjson.Fragment(number.text))


_DECODER = json.JSONDecoder(
    strict=False,
    parse_float=Number,
    parse_int=_integer,
    parse_constant=lambda _: None,
)
