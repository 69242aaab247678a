"""How a trigger writes a column's value into JSON, and how capture reads it again: both ends of one pipe.

What comes out is exactly what the binlog decoder and SELECT yield (DESIGN section 3), whatever time zone, character set
and sql_mode the user's session has. Pure: builds text and converts values.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import orjson

from syncbridge.capture.binlog.numbers import double_text, float_text
from syncbridge.capture.schema import BINARY_TYPES, GEOMETRY_TYPES, INTEGER_TYPES, Column, TableSchema
from syncbridge.capture.sql import quote
from syncbridge.capture.trigger.reported import Json
from syncbridge.event import Row

#: Types whose values may be larger than a packet.
_LARGE = GEOMETRY_TYPES - {"point"} | {
    "text",
    "mediumtext",
    "longtext",
    "blob",
    "mediumblob",
    "longblob",
    "json",
    "vector",
}
_EPOCH = datetime.datetime(1970, 1, 1)


def json_object(columns: list[Column], side: str, *, mariadb: bool) -> str:
    """JSON_OBJECT of these columns of NEW or OLD."""
    values = (expression(column, f"{side}.{quote(column.name)}", mariadb=mariadb) for column in columns)
    pairs = (f"{literal(column.name)}, {value}" for column, value in zip(columns, values, strict=True))
    return f"JSON_OBJECT({', '.join(pairs)})"


def json_row(columns: list[Column], side: str, *, mariadb: bool) -> str:
    """JSON_OBJECT of all columns of NEW or OLD; NULL where a value might not fit into a packet as text.

    TO_BASE64 and CONVERT give NULL for one that does not, which nobody could tell from a value that is NULL. Text grows
    to at most four times as many bytes on its way to utf8mb4, base64 is shorter.
    """
    row = json_object(columns, side, mariadb=mariadb)
    large = [f"{side}.{quote(column.name)}" for column in columns if column.data_type in _LARGE]
    if not large:
        return row
    return f"IF({' OR '.join(f'LENGTH({value}) > @@max_allowed_packet DIV 4' for value in large)}, NULL, {row})"


def literal(text: str) -> str:
    """A string literal that means the same under every character set and sql_mode: hexadecimal, marked as utf8mb4."""
    return f"_utf8mb4 0x{text.encode().hex()}" if text else "''"


def expression(column: Column, value: str, *, mariadb: bool) -> str:
    """What to put into JSON for one value."""
    data_type = column.data_type
    if data_type in BINARY_TYPES:
        return f"TO_BASE64({value})"
    if data_type == "bit":
        return f"CAST({value} AS UNSIGNED)"
    if data_type in INTEGER_TYPES and not column.zerofill:
        return value
    if data_type == "timestamp":
        # As text it would be in the session's time zone, where an hour of every autumn is ambiguous.
        # MariaDB has no number for the zero date.
        return f"IF({value} IS NULL, NULL, COALESCE(CAST(UNIX_TIMESTAMP({value}) AS CHAR), '0'))"
    if _is_real(column) and not mariadb:
        return value  # MySQL's CAST chooses the exponent form sooner than its SELECT
    if data_type in GEOMETRY_TYPES:
        return f"ST_AsText({value})"
    return f"CONVERT(CAST({value} AS CHAR) USING utf8mb4)"


def reader(schema: TableSchema) -> Callable[[Json], Row]:
    """A function from the JSON that a trigger wrote, decoded or not, to the row's event values.

    Columns that the trigger did not know are absent, those that the table no longer has are dropped.
    """
    conversions = {column.name: conversion for column in schema.columns if (conversion := _conversion(column))}
    names = {column.name for column in schema.columns}

    def read(written: Json) -> Row:
        values = orjson.loads(written) if isinstance(written, str) else written
        row: dict[str, Any] = {name: value for name, value in values.items() if name in names}
        for name, convert in conversions.items():
            if (value := row.get(name)) is not None:
                row[name] = convert(value)
        return row

    return read


def _conversion(column: Column) -> Callable[[Any], Any] | None:
    if column.data_type in BINARY_TYPES:
        return _without_newlines
    if column.data_type == "timestamp":
        return lambda value: _timestamp(value, column.fsp)
    if _is_real(column):
        text = float_text if column.data_type == "float" else double_text
        return lambda value: value if isinstance(value, str) else text(float(value))
    return None


def _is_real(column: Column) -> bool:
    """FLOAT and DOUBLE; those with fixed decimals print alike everywhere."""
    return column.data_type in ("float", "double") and column.decimals is None and not column.zerofill


def _without_newlines(value: str) -> str:
    """TO_BASE64 breaks its lines at 76 characters."""
    return value.replace("\n", "")


def _timestamp(value: str, digits: int) -> str:
    """Seconds since 1970 as SELECT prints them in UTC; 0 is the zero date, which is the only TIMESTAMP there."""
    seconds, _, fraction = value.partition(".")
    text = f".{fraction:0<{digits}.{digits}}" if digits else ""
    if not int(seconds) and not int(fraction or 0):
        return "0000-00-00 00:00:00" + text
    return f"{_EPOCH + datetime.timedelta(seconds=int(seconds)):%Y-%m-%d %H:%M:%S}{text}"
