"""MySQL's binary JSON -> the text that SELECT prints: the server's spacing, key order, doubles and opaque values.

Straight from bytes to text; no Python values in between, so nothing can be rounded or reordered.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable
from functools import lru_cache
from struct import Struct, unpack

from syncbridge.capture.binlog.numbers import decimal_reader, double_text

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = range(5)
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING = range(5, 13)
_OPAQUE = 15
_LITERALS = {0: "null", 1: "true", 2: "false"}
#: Fixed-width numbers: size in bytes and signedness.
_NUMBERS = {
    _INT16: (2, True), _UINT16: (2, False), _INT32: (4, True), _UINT32: (4, False), _INT64: (8, True),
    _UINT64: (8, False),
}  # fmt: skip

_UNSAFE = re.compile(r'["\\\x00-\x1f]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def json_text(data: bytes) -> str:
    """The text of a JSON column's value. Raises ValueError, struct.error, LookupError or RecursionError where it is
    damaged."""
    if not data:
        return "null"  # what an invalid insert under IGNORE leaves behind
    return _value(data[0], data, 1)


def _value(type_: int, data: bytes, at: int) -> str:
    """The value of a type whose body starts at `at`."""
    if type_ <= _LARGE_ARRAY:
        return _container(type_, data, at)
    if type_ == _STRING:
        length, at = _length(data, at)
        return _quoted(data[at : at + length].decode("utf-8", "replace"))
    if type_ in _NUMBERS:
        size, signed = _NUMBERS[type_]
        return str(int.from_bytes(data[at : at + size], "little", signed=signed))
    if type_ == _LITERAL:
        return _LITERALS[data[at]]
    if type_ == _DOUBLE:
        return _double(data[at : at + 8])
    if type_ == _OPAQUE:
        length, start = _length(data, at + 1)
        return _opaque(data[at], data[start : start + length])
    raise ValueError(f"JSON value type {type_} is unknown")


def _container(type_: int, data: bytes, base: int) -> str:
    """An object or array. Offsets count from its first byte; small values stand in the entry itself.

    Hot: all entries are unpacked at once, and the usual values, short strings and small numbers, made in place.
    """
    large = type_ in (_LARGE_OBJECT, _LARGE_ARRAY)
    named = type_ in (_SMALL_OBJECT, _LARGE_OBJECT)
    width = 4 if large else 2
    inlined = _INLINED_LARGE if large else _INLINED_SMALL
    count = int.from_bytes(data[base : base + width], "little")
    if count * (1 + width) > len(data):
        raise ValueError(f"JSON container claims {count} values")
    unpacker = _entries if count < 256 else _entries.__wrapped__
    entries = unpacker(count, large=large, named=named)(data, base + 2 * width)
    at = base + 2 * width + 1 + (count * (width + 2) if named else 0)  # of the value in the first value's entry
    first = 2 * count if named else 0
    parts: list[str] = []
    for index in range(count):
        name = ""
        if named:
            start = base + entries[2 * index]
            name = _NAMES[data[start : start + entries[2 * index + 1]]]
        item, value = entries[first + 2 * index], entries[first + 2 * index + 1]
        if item == _STRING and (length := data[base + value]) < 0x80:
            start = base + value + 1
            text = data[start : start + length].decode("utf-8", "replace")
            if text.isprintable() and '"' not in text and "\\" not in text:
                parts.append(f'{name}"{text}"')
            else:
                parts.append(name + _quoted(text))
        elif item == _UINT16 or (item == _INT16 and value < 0x8000):
            parts.append(f"{name}{value}")
        else:
            parts.append(name + _value(item, data, at + index * (1 + width) if item in inlined else base + value))
    return f"{{{', '.join(parts)}}}" if named else f"[{', '.join(parts)}]"


@lru_cache(1024)
def _entries(count: int, *, large: bool, named: bool) -> Callable[[bytes, int], tuple[int, ...]]:
    """Unpacks offset and length of each name, then type and value or offset of each value."""
    code = "I" if large else "H"
    return Struct("<" + (code + "H") * (count if named else 0) + ("B" + code) * count).unpack_from


class _Names(dict[bytes, str]):
    """Names of members as they are printed: they repeat from row to row."""

    def __missing__(self, name: bytes) -> str:
        if len(self) >= 10_000:
            self.clear()
        text = self[name] = _quoted(name.decode("utf-8", "replace")) + ": "
        return text


_NAMES = _Names()
_INLINED_SMALL = frozenset((_LITERAL, _INT16, _UINT16))
_INLINED_LARGE = _INLINED_SMALL | {_INT32, _UINT32}


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length in 7-bit groups, least first, and where what it measures starts."""
    length = 0
    for shift in range(0, 35, 7):
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length, at
    raise ValueError("JSON length is longer than 5 bytes")


def _quoted(text: str) -> str:
    if _UNSAFE.search(text):
        text = _UNSAFE.sub(lambda match: _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}", text)
    return f'"{text}"'


def _double(data: bytes) -> str:
    text = double_text(unpack("<d", data)[0])
    return text if "." in text or "e" in text else f"{text}.0"


_DECIMAL, _TIMESTAMP, _DATE, _TIME, _DATETIME = 246, 7, 10, 11, 12


def _opaque(type_: int, data: bytes) -> str:
    """A value of an SQL type that JSON itself lacks."""
    reader = _OPAQUE_TEXTS.get(type_)
    if reader is not None:
        return reader(data)
    return f'"base64:type{type_}:{b2a_base64(data, newline=False).decode()}"'


def _decimal(data: bytes) -> str:
    return decimal_reader(data[0], data[1])(data[2:])


def _datetime(data: bytes) -> str:
    packed = int.from_bytes(data, "little")
    return f'"{_day(packed)} {_clock(packed >> 24 & 0x1FFFF)}.{packed & 0xFFFFFF:06d}"'


def _date(data: bytes) -> str:
    return f'"{_day(int.from_bytes(data, "little"))}"'


def _time(data: bytes) -> str:
    packed = int.from_bytes(data, "little", signed=True)
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    return f'"{sign}{_clock(packed >> 24)}.{packed & 0xFFFFFF:06d}"'


def _day(packed: int) -> str:
    year, month = divmod(packed >> 46, 13)
    return f"{year:04d}-{month:02d}-{packed >> 41 & 31:02d}"


def _clock(packed: int) -> str:
    return f"{packed >> 12:02d}:{packed >> 6 & 63:02d}:{packed & 63:02d}"


_OPAQUE_TEXTS: dict[int, Callable[[bytes], str]] = {
    _DECIMAL: _decimal,
    _DATETIME: _datetime,
    _TIMESTAMP: _datetime,
    _DATE: _date,
    _TIME: _time,
}
