"""Conditions over a table's key: the rows behind one, up to one, or exactly those with some. Pure: text and arguments.

Arguments are row values as events carry them (syncbridge.event).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from syncbridge.capture.schema import TableSchema
from syncbridge.capture.sql import quote


def after(schema: TableSchema, key: Sequence[str], values: list[Any] | None) -> tuple[str, list[Any]]:
    """`(a > 1) OR (a = 1 AND b > 2)`: unlike the row form (a, b) > (1, 2) both servers use the index for it."""
    return _beside(schema, key, values, ">", ">")


def between(
    schema: TableSchema, key: Sequence[str], lower: list[Any] | None, upper: list[Any] | None
) -> tuple[str, list[Any]]:
    """The rows behind `lower`, up to and with `upper`; None for no bound."""
    conditions = (_beside(schema, key, lower, ">", ">"), _beside(schema, key, upper, "<", "<="))
    parts = [f"({condition})" for condition, _ in conditions if condition]
    return " AND ".join(parts), [value for _, arguments in conditions for value in arguments]


def _beside(
    schema: TableSchema, key: Sequence[str], values: list[Any] | None, sign: str, last_sign: str
) -> tuple[str, list[Any]]:
    """The rows on one side of a key; `last_sign` compares the last of its columns."""
    if values is None:
        return "", []
    parts: list[str] = []
    arguments: list[Any] = []
    for index, name in enumerate(key):
        equal = [f"{doubled(orderable(schema, earlier))} = %s" for earlier in key[:index]]
        compare = last_sign if index == len(key) - 1 else sign
        parts.append("(" + " AND ".join([*equal, f"{doubled(orderable(schema, name))} {compare} %s"]) + ")")
        arguments += [argument(schema, key[i], values[i]) for i in range(index + 1)]
    return " OR ".join(parts), arguments


def among(schema: TableSchema, key: Sequence[str], rows: list[list[Any]]) -> tuple[str, list[Any]]:
    one = "(" + " AND ".join(f"{doubled(quote(name))} = %s" for name in key) + ")"
    arguments = [argument(schema, name, value) for row in rows for name, value in zip(key, row, strict=True)]
    return " OR ".join([one] * len(rows)), arguments


def doubled(sql: str) -> str:
    """For text that stands beside placeholders: a name may hold a percent sign."""
    return sql.replace("%", "%%")


def orderable(schema: TableSchema, name: str) -> str:
    """ENUM and SET sort by their number but compare with text as text: order them as text."""
    column = next(column for column in schema.columns if column.name == name)
    return f"CAST({quote(name)} AS CHAR)" if column.data_type in ("enum", "set") else quote(name)


def argument(schema: TableSchema, name: str, value: Any) -> Any:
    """A row value of an event (syncbridge.event) as an argument of a comparison with its column."""
    kind = schema.types().get(name, "")
    if kind == "binary":
        return base64.b64decode(value)
    if kind in ("zerofill", "year"):
        return int(value)
    if kind == "decimal":
        return Decimal(value)
    return value
