"""The other way to a row: a SELECT whose values come out exactly as the decoder's do.

Snapshot and verify read tables through it, over a raw connection (`connect(settings, raw=True)`): every value then is
the server's own text. Builds text and converts values; never talks to a server.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from typing import Any

from syncbridge.capture.schema import BINARY_TYPES, GEOMETRY_TYPES, INTEGER_TYPES, Column, TableSchema

#: One row as a raw connection returns it.
RawRow = Sequence[bytes | None]


def select_list(schema: TableSchema) -> str:
    """The column list of a SELECT, in schema order, that row_values() understands. Invisible columns included."""
    return ", ".join(select_expression(column) for column in schema.columns)


def select_expression(column: Column) -> str:
    """What to SELECT for one column."""
    name = "`" + column.name.replace("`", "``") + "`"
    if column.data_type in GEOMETRY_TYPES:
        # Without an SRID of its own a column may mix systems: there, all coordinates are printed x first.
        return f"ST_AsText({name})"
    return name


def row_values(schema: TableSchema) -> Callable[[RawRow], dict[str, Any]]:
    """A function from a raw row of `SELECT select_list(schema)` to the row's event values."""
    items = []
    for index, column in enumerate(schema.columns):
        items.append(f"{column.name!r}: None if r[{index}] is None else {conversion(column, f'r[{index}]')}")
    source = "lambda r: {" + ", ".join(items) + "}"
    return eval(source, conversion_names())  # type: ignore[no-any-return] # noqa: S307 - names through repr, numbers


def conversion_names() -> dict[str, Any]:
    """The names that conversion() speaks of."""
    return {"b64": b2a_base64}


#: How the server's text becomes an event's value, by the letters of kind_of().
_CONVERSIONS = {
    "b": "b64({}, newline=False).decode()",
    "B": "int.from_bytes({}, 'big')",
    "i": "int({})",
    "t": "{}.decode('utf-8', 'replace')",
}


def kind_of(column: Column) -> str:
    """What the server's text of a column is: b bytes, B a bit string, i a number's digits, t text as it is."""
    data_type = column.data_type
    if data_type in BINARY_TYPES:
        return "b"
    if data_type == "bit":
        return "B"
    return "i" if data_type in INTEGER_TYPES and not column.zerofill else "t"


def conversion(column: Column, value: str) -> str:
    """Source of the expression that turns the server's text, the expression `value`, into the event's value."""
    return _CONVERSIONS[kind_of(column)].format(value)
