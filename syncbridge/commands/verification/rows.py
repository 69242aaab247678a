"""Reading the source's rows for verify and explain: in key order, or by key. Reads only, locks nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from syncbridge.capture.connection import source_errors
from syncbridge.capture.schema import TableSchema, load_tables
from syncbridge.capture.snapshot.keyset import after, among, doubled, orderable
from syncbridge.capture.snapshot.select import row_values, select_list
from syncbridge.capture.source import Source, first_that_answers
from syncbridge.capture.sql import quote
from syncbridge.config import Config
from syncbridge.event import Row

#: Rows in one SELECT.
CHUNK = 500


class RowReader:
    """One table's rows, as events hold them. Connects when it is made; close it."""

    def __init__(self, config: Config) -> None:
        self._source = Source(config.source)
        self._raw = first_that_answers(self._source, len(config.source.url), lambda: self._source.connect(raw=True))
        self.catalog = self._source.connect()

    def close(self) -> None:
        for connection in (self._raw, self.catalog):
            connection._force_close()

    def schema(self, db: str, table: str) -> TableSchema | None:
        """The table as it is now; None when it does not exist."""
        with source_errors(self._source.settings):
            return load_tables(self.catalog, [(db, table)]).get((db, table))

    def chunks(self, schema: TableSchema, key: Sequence[str]) -> Iterator[list[Row]]:
        """All rows in key order, CHUNK at a time."""
        last: list[Any] | None = None
        while True:
            rows = self._select(schema, key, *after(schema, key, last), limit=CHUNK)
            if rows:
                yield rows
            if len(rows) < CHUNK:
                return
            last = [rows[-1][name] for name in key]

    def by_key(self, schema: TableSchema, key: Sequence[str], values: Sequence[Sequence[Any]]) -> list[Row]:
        """The rows with these keys, those that exist; values as events hold them."""
        rows: list[Row] = []
        for start in range(0, len(values), CHUNK):
            part = [list(one) for one in values[start : start + CHUNK]]
            rows += self._select(schema, key, *among(schema, key, part), limit=0)
        return rows

    def _select(
        self, schema: TableSchema, key: Sequence[str], condition: str, arguments: list[Any], *, limit: int
    ) -> list[Row]:
        head = doubled(f"SELECT {select_list(schema)} FROM {quote(schema.db)}.{quote(schema.table)}")  # noqa: S608
        where = f" WHERE {condition}" if condition else ""
        order = ", ".join(orderable(schema, name) for name in key)
        tail = f" ORDER BY {doubled(order)} LIMIT {limit}" if limit else ""
        decode = row_values(schema)
        with source_errors(self._source.settings), self.catalog.cursor() as text, self._raw.cursor() as cursor:
            # The raw connection has no converters, for arguments neither.
            cursor.execute(text.mogrify(head + where + tail, tuple(arguments)))
            return [decode(row) for row in cursor.fetchall()]
