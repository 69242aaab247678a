"""From a Redis key back to the row that wrote it: the opposite way of a key template. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from syncbridge.sinks.render import encode_key
from syncbridge.template import KEY, TABLE, Template

#: A key like a:b:c:d may be split in many ways over {x}:{y}; more than so many are not tried.
MAX_READINGS = 32


def readings(template: Template, table: str, primary: Sequence[str], key: bytes) -> list[dict[str, str]]:
    """Every way to read `key` as a rendering of the template: column -> text as `key_text` writes it."""
    text = key.decode("utf-8", "surrogateescape")
    found = []
    for values in _split(_pieces(template, table), text):
        reading = _columns(values, primary)
        if reading is not None and reading not in found:
            found.append(reading)
        if len(found) >= MAX_READINGS:
            break
    return found


def owner_values(owner: bytes, primary: Sequence[str]) -> dict[str, str] | None:
    """The primary key's texts out of the owner part of a guard; None when it does not fit this key."""
    return _key_values(owner.decode("utf-8", "surrogateescape"), primary)


def event_value(text: str, kind: str) -> Any:
    """What an event holds for a column whose text in a key is `text`. `kind`: as checks.tables.kinds_of says.

    Raises ValueError when no such column could have written it.
    """
    if kind == "binary":
        return base64.b64encode(encode_key(text)).decode()
    return int(text) if kind == "int" else text


def _pieces(template: Template, table: str) -> list[str]:
    """Literal, name, literal, name, ..., literal; `{_table}` filled in."""
    marked = template.render(lambda name: table if name == TABLE else f"\0{name}\0") or ""
    return marked.split("\0")


def _split(pieces: list[str], text: str) -> Iterator[list[tuple[str, str]]]:
    """All ways to cut `text` along the literals: (name, value) in order."""
    if not text.startswith(pieces[0]):
        return
    text = text[len(pieces[0]) :]
    if len(pieces) == 1:
        if not text:
            yield []
        return
    name, literal, last = pieces[1], pieces[2], len(pieces) == 3
    if last:
        if text.endswith(literal):
            yield [(name, text[: len(text) - len(literal)])]
        return
    start = -1
    while (start := text.find(literal, start + 1)) >= 0:
        for rest in _split(pieces[2:], text[start:]):
            yield [(name, text[:start]), *rest]


def _columns(values: list[tuple[str, str]], primary: Sequence[str]) -> dict[str, str] | None:
    """Values by column, `{_key}` taken apart; None when one column would have two values."""
    columns: dict[str, str] = {}
    for name, value in values:
        parts: Mapping[str, str] | None = _key_values(value, primary) if name == KEY else {name: value}
        if parts is None:
            return None
        for column, text in parts.items():
            if columns.setdefault(column, text) != text:
                return None
    return columns


def _key_values(text: str, primary: Sequence[str]) -> dict[str, str] | None:
    if len(primary) == 1:
        return {primary[0]: text}
    parts = text.split(":")
    if len(parts) != len(primary):
        return None
    return {name: unquote(part, errors="surrogateescape") for name, part in zip(primary, parts, strict=True)}
