"""The SELECTs behind a chunk: a range of a table's key, the end of a range, rows by their keys.

Over two connections to one server: `raw` for rows, whose values come as the server's own text, and `catalog` for
everything else. Raises what PyMySQL raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from syncbridge import native
from syncbridge.capture.changes import JsonRows, ReadRows
from syncbridge.capture.connection import fetch_one
from syncbridge.capture.schema import TableSchema, load_tables
from syncbridge.capture.snapshot.keyset import after, among, between, doubled, orderable
from syncbridge.capture.snapshot.packets import Parse, Values, json_parser, read_rows, row_parser, select_rows
from syncbridge.capture.snapshot.scan import Piece
from syncbridge.capture.snapshot.select import select_expression, select_list
from syncbridge.capture.sql import quote
from syncbridge.capture.tables import Name
from syncbridge.errors import ConfigError

#: No more rows are taken into a chunk once it has this many bytes, however wide they are.
MAX_BYTES = 16 * 1024 * 1024

Key = tuple[str, ...]


class RowSource:
    """Reads rows as event values, or as their JSON. One thread."""

    def __init__(self, raw: Any, catalog: Any) -> None:
        self.raw = raw
        self.catalog = catalog
        self._parsers: dict[TableSchema, Parse] = {}

    def close(self) -> None:
        for connection in (self.raw, self.catalog):
            connection._force_close()

    @property
    def open(self) -> bool:
        """Not since rows were left in the middle of a result."""
        return self.raw.open  # type: ignore[no-any-return]

    def schema(self, name: Name) -> TableSchema | None:
        """What the table looks like now; None where there is none."""
        return load_tables(self.catalog, [name]).get(name)

    def rows_in(self, schema: TableSchema, key: Key, piece: Piece, limit: int) -> tuple[ReadRows, int, bool]:
        """(rows of the range, about their bytes, whether these are all), no more than `limit` rows."""
        condition = between(schema, key, piece.after, piece.until)
        sql = self._statement(select_list(schema), schema, key, condition, f" LIMIT {limit}")
        rows: ReadRows
        if native.functions is None:
            rows, parse = [], self._parser(schema)
        else:
            rows, parse = JsonRows(), json_parser(native.functions, schema, key)
        size, whole = read_rows(self.raw, sql, parse, MAX_BYTES, rows)
        return rows, size, whole and len(rows) < limit

    def rows_with(self, schema: TableSchema, key: Key, keys: list[list[Any]]) -> tuple[list[Values], int]:
        """(the rows with these keys, about their bytes)."""
        if not keys:
            return [], 0
        sql = self._statement(select_list(schema), schema, key, among(schema, key, keys), "")
        rows, size, _ = select_rows(self.raw, sql, self._parser(schema), inf)
        return rows, size

    def boundary(self, schema: TableSchema, key: Key, behind: list[Any] | None, rows: int) -> list[Any] | None:
        """See scan.Boundary."""
        columns = [column for name in key for column in schema.columns if column.name == name]
        what = ", ".join(select_expression(column) for column in columns)
        sql = self._statement(what, schema, key, after(schema, key, behind), f" LIMIT 1 OFFSET {rows - 1}")
        found, _, _ = select_rows(self.raw, sql, row_parser(columns), inf)
        return list(found[0]) if found else None

    def _statement(
        self, what: str, schema: TableSchema, key: Key, condition: tuple[str, Sequence[Any]], limit: str
    ) -> str:
        head = doubled(f"SELECT {what} FROM {quote(schema.db)}.{quote(schema.table)}")  # noqa: S608 - quoted
        where = f" WHERE {condition[0]}" if condition[0] else ""
        order = ", ".join(orderable(schema, name) for name in key)
        with self.catalog.cursor() as cursor:  # the raw connection has no converters, for arguments neither
            sql = cursor.mogrify(f"{head}{where} ORDER BY {doubled(order)}{limit}", tuple(condition[1]))
        return str(sql)

    def _parser(self, schema: TableSchema) -> Parse:
        parser = self._parsers.get(schema)
        if parser is None:
            self._parsers = {schema: (parser := row_parser(schema.columns))}
        return parser

    def describe(self, schema: TableSchema) -> int:
        """The source's guess of the table's rows. Raises ConfigError where it cannot be read consistently."""
        row = fetch_one(
            self.catalog,
            "SELECT engine, table_rows FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
            (schema.db, schema.table),
        )
        engine, estimate = (str(row[0]), int(row[1] or 0)) if row else ("", 0)
        refuse_unsuitable(schema, engine, order_commits=self._orders_commits())
        return estimate

    def _orders_commits(self) -> bool:
        """MySQL may be told not to commit in binlog order; MariaDB always does."""
        row = fetch_one(self.catalog, "SHOW GLOBAL VARIABLES LIKE 'binlog_order_commits'")
        return row is None or row[1] == "ON"


def refuse_unsuitable(schema: TableSchema, engine: str, *, order_commits: bool) -> None:
    """Watermarks need transactions that become visible in binlog order (DESIGN P3). Raises ConfigError. Pure."""
    name = f"{schema.db}.{schema.table}"
    if engine.lower() not in ("innodb", ""):
        raise ConfigError(
            f"{name} is a {engine} table, which cannot be read consistently", hint=f"ALTER TABLE {name} ENGINE=InnoDB"
        )
    if not order_commits:
        raise ConfigError(
            f"{name} cannot be read consistently: the source commits in another order than its binlog has",
            hint="SET GLOBAL binlog_order_commits=ON",
        )
