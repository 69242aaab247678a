"""Reading rows of the source as data: one chunk of a table, behind its place in the binlog (DESIGN P3).

A chunk is read in a fresh read view after it was placed (watermark.py), so it contains everything up to its place;
what it contains of later changes arrives again in the binlog under higher versions. Runs in a thread of its own,
with its own connections; knows nothing of versions, lanes or the queue.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pymysql.cursors import SSCursor

from syncbridge.capture.bell import Bell
from syncbridge.capture.connection import Server, fetch_one, source_errors
from syncbridge.capture.schema import TableSchema, load_tables
from syncbridge.capture.snapshot.keyset import after, among, doubled, orderable
from syncbridge.capture.snapshot.select import row_values, select_list
from syncbridge.capture.snapshot.watermark import Place, Placing, WatermarkRows, placing_without_rows
from syncbridge.capture.sql import quote
from syncbridge.errors import ConfigError, TransientError
from syncbridge.event import Row

log = logging.getLogger(__name__)

#: A chunk ends at this many rows or about this many bytes, whichever comes first.
MAX_ROWS = 2000
MAX_BYTES = 16 * 1024 * 1024
#: Pause after a failure, seconds: doubled with each one in a row, up to the maximum.
_PAUSE, _MAX_PAUSE = 0.5, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOrder:
    """What to read: the rows after `after_key` in key order, or exactly those with `keys`."""

    db: str
    table: str
    key_columns: Callable[[TableSchema], tuple[str, ...]]
    after_key: list[Any] | None = None
    keys: list[dict[str, Any]] | None = None
    #: Whatever the caller needs to recognise the chunk.
    purpose: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What was read. `schema` None: the table does not exist (any more)."""

    order: ChunkOrder
    token: int
    schema: TableSchema | None
    #: None: at the watermark row with this token.
    place: Place | None = None
    types: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    #: The table has no rows behind these.
    last: bool = True
    #: Why the table cannot be read at all.
    refusal: ConfigError | None = None
    #: About how many bytes the rows weigh.
    weight: int = 0
    estimate: int = 0


class ChunkReader(threading.Thread):
    """Takes ChunkOrders, gives Chunks, one at a time; retries by itself while the source is away."""

    def __init__(self, pipeline: str, connect: Callable[..., Any], connect_writer: Callable[[], Any]) -> None:
        super().__init__(name="chunks", daemon=True)
        self._connect = connect
        self._orders: queue.Queue[ChunkOrder | None] = queue.Queue()
        #: Finished chunks, for the capture loop to collect when the bell rings.
        self.chunks: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
        self.bell = Bell()
        #: Why the thread ended, if nobody asked it to: for the capture loop to raise.
        self.failure: BaseException | None = None
        #: What keeps it from reading now.
        self.trouble: TransientError | None = None
        self._stopping = threading.Event()
        self._resetting = threading.Event()
        self._session = random.getrandbits(31) << 32
        self._token = self._session
        self._reader: Any = None  # raw values, for rows
        self._catalog: Any = None  # the same server, for information_schema
        self._rows = WatermarkRows(pipeline, connect_writer, self._interrupted)
        self._placing: Placing = self._rows

    def read(self, order: ChunkOrder) -> None:
        """Ask for a chunk."""
        self._orders.put(order)

    def wrote(self, token: int) -> bool:
        """Whether a watermark is of this process: a chunk with its token, or a later one, will come."""
        return self._session < token <= self._token

    def reset(self) -> int:
        """Open new connections: the source may be another server now. Answers the last token of the old one."""
        self.trouble = None  # was the old server's
        self._resetting.set()
        return self._token

    def place(self, server: Server, *, by_row: bool) -> None:
        """How to place chunks of this source: by watermark rows, or without writing. Raises ConfigError."""
        self._placing = self._rows if by_row else placing_without_rows(server, self._interrupted)

    def place_with(self, placing: Placing) -> None:
        """Place chunks in a way of the caller's own."""
        self._placing = placing

    def _interrupted(self, timeout: float) -> bool:
        return self._resetting.wait(timeout) or self._stopping.is_set()

    def _give(self, chunk: Chunk) -> None:
        self.chunks.put(chunk)
        self.bell.ring()

    def stop(self) -> None:
        self._stopping.set()
        self.bell.close()
        self._resetting.set()  # wakes it
        self._orders.put(None)

    def run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self.failure = error
        finally:
            self._disconnect()

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None and not self._stopping.is_set():
            pause = _PAUSE
            while not self._stopping.is_set():
                if self._resetting.is_set():
                    self._resetting.clear()
                    self._disconnect()
                    pause = _PAUSE
                try:
                    chunk = self._read(order)
                except ConfigError as error:
                    self._give(Chunk(order=order, token=self._token, schema=None, refusal=error))
                    break
                except TransientError as error:
                    self.trouble = error
                    log.warning("cannot read %s.%s: %s (trying again)", order.db, order.table, error)
                    self._disconnect()
                    self._interrupted(pause * (0.5 + random.random()))  # noqa: S311 - jitter
                    pause = min(2 * pause, _MAX_PAUSE)
                    continue
                self.trouble = None
                if chunk is not None and not self._resetting.is_set():
                    self._give(chunk)
                    break

    def _disconnect(self) -> None:
        for connection in (self._reader, self._catalog):
            if connection is not None:
                connection._force_close()
        self._reader = self._catalog = None
        self._rows.close()

    def _read(self, order: ChunkOrder) -> Chunk | None:
        """One chunk, or None when the table changed its shape meanwhile and it must be read again."""
        self._reader = self._reader or self._connect(raw=True)
        self._catalog = self._catalog or self._connect()
        placing = self._placing
        name = (order.db, order.table)
        with source_errors():
            schema = load_tables(self._catalog, [name]).get(name)
            self._token += 1
            token = self._token
            place = placing.begin(self._reader, self._catalog, token)
            rows: list[Row] = []
            weight, last, estimate = 0, True, 0
            if schema is not None:
                engine, estimate = self._describe(schema)
                refuse_unsuitable(schema, engine, order_commits=self._orders_commits())
                rows, weight, last = self._select(schema, order)
            placing.end(self._reader)
            if load_tables(self._catalog, [name]).get(name) != schema:
                return None
        types = schema.types() if schema else {}
        return Chunk(
            order=order,
            token=token,
            schema=schema,
            place=place,
            types=types,
            rows=rows,
            last=last,
            weight=weight,
            estimate=estimate,
        )

    def _select(self, schema: TableSchema, order: ChunkOrder) -> tuple[list[Row], int, bool]:
        """(rows, their bytes, whether the table has none behind them)."""
        key = order.key_columns(schema)
        if order.keys is not None:
            rows_wanted = [[values[name] for name in key] for values in order.keys if set(values) == set(key)]
            condition, arguments = among(schema, key, rows_wanted) if rows_wanted else ("FALSE", [])
        else:
            condition, arguments = after(schema, key, order.after_key)
        where = f" WHERE {condition}" if condition else ""
        ordering = ", ".join(orderable(schema, name) for name in key)
        head = f"SELECT {select_list(schema)} FROM {quote(schema.db)}.{quote(schema.table)}"  # noqa: S608 - quoted
        sql = f"{doubled(head)}{where} ORDER BY {doubled(ordering)} LIMIT {MAX_ROWS}"
        with self._catalog.cursor() as cursor:  # the raw connection has no converters, for arguments neither
            sql = cursor.mogrify(sql, tuple(arguments))
        decode = row_values(schema)
        rows: list[Row] = []
        weight = 0
        with self._reader.cursor(SSCursor) as cursor:
            cursor.execute(sql)
            while (raw := cursor.fetchone()) is not None:
                rows.append(decode(raw))
                weight += sum(len(value) for value in raw if value is not None)
                if weight > MAX_BYTES and order.keys is None:
                    # Wide rows: what is left of the result would have to be read to keep the connection.
                    self._reader._force_close()
                    self._reader = None
                    cursor.connection = None
                    return rows, weight, False
        return rows, weight, len(rows) < MAX_ROWS

    def _describe(self, schema: TableSchema) -> tuple[str, int]:
        """(engine, the source's guess of its rows)."""
        row = fetch_one(
            self._catalog,
            "SELECT engine, table_rows FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
            (schema.db, schema.table),
        )
        return (str(row[0]), int(row[1] or 0)) if row else ("", 0)

    def _orders_commits(self) -> bool:
        """MySQL may be told not to commit in binlog order; MariaDB always does."""
        row = fetch_one(self._catalog, "SHOW GLOBAL VARIABLES LIKE 'binlog_order_commits'")
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
