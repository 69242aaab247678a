"""One reader of chunks: a thread that takes an order, places it, reads its rows and gives the chunk (DESIGN P3)."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pymysql

from syncbridge.capture.changes import ReadRows
from syncbridge.capture.connection import TABLE_CHANGED, source_errors
from syncbridge.capture.schema import TableSchema
from syncbridge.capture.snapshot.orders import Chunk, ChunkOrder, Exchange
from syncbridge.capture.snapshot.rows import RowSource
from syncbridge.capture.snapshot.scan import KeyChanged, Piece
from syncbridge.capture.snapshot.watermark import Interrupted, Place, Placing
from syncbridge.errors import ConfigError, TransientError

log = logging.getLogger(__name__)

#: Pause after a failure, seconds: doubled with each one in a row, up to the maximum.
_PAUSE, _MAX_PAUSE = 0.5, 30.0
#: Longest wait of a reader that was too fast, before it looks whether it is still wanted, seconds.
_LOOK = 0.5
#: How long connections wait for another order, seconds.
_IDLE = 30.0


class Reader(threading.Thread):
    """Retries by itself while the source is away. `resetting` is set when the source may be another server."""

    def __init__(self, exchange: Exchange, number: int) -> None:
        super().__init__(name=f"chunks {number}", daemon=True)
        self.resetting = threading.Event()
        self._stopping = threading.Event()
        self._exchange = exchange
        self._source: RowSource | None = None
        self._placing: Placing | None = None
        self._made_by: Callable[[Interrupted], Placing] | None = None

    def stop(self) -> None:
        self._stopping.set()
        self.resetting.set()  # wakes it

    def run(self) -> None:
        try:
            while (order := self._next_order()) is not None and not self._stopping.is_set():
                self._serve(order)
        except BaseException as error:
            self._exchange.fail(error)
        finally:
            self._disconnect()

    def _next_order(self) -> ChunkOrder | None:
        """None: to end. Connections are not kept while there is nothing to read."""
        try:
            return self._exchange.orders.get(timeout=_IDLE)
        except queue.Empty:
            self._disconnect()
            return self._exchange.orders.get()

    def _interrupted(self, timeout: float) -> bool:
        return self.resetting.wait(timeout) or self._stopping.is_set()

    def _serve(self, order: ChunkOrder) -> None:
        pause = _PAUSE
        while not self._stopping.is_set() and not order.cancelled:
            if self.resetting.is_set():
                self.resetting.clear()
                self._disconnect()
                pause = _PAUSE
            try:
                if self._read(order):
                    return
            except ConfigError as error:
                self._exchange.give(Chunk(order=order, rows=[], refusal=error))
                return
            except TransientError as error:
                log.warning("cannot read %s.%s: %s (trying again)", order.db, order.table, error)
                self._disconnect()
                self._interrupted(pause * (0.5 + random.random()))  # noqa: S311 - jitter
                pause = min(2 * pause, _MAX_PAUSE)

    def _connect(self) -> tuple[RowSource, Placing]:
        if self._source is None or not self._source.open:
            self._disconnect()
            connect = self._exchange.connect
            self._source = RowSource(connect(raw=True), connect())
        if self._placing is None or self._made_by is not self._exchange.make_placing:
            self._made_by = self._exchange.make_placing
            self._placing = self._made_by(self._interrupted)
        return self._source, self._placing

    def _disconnect(self) -> None:
        if self._source is not None:
            self._source.close()
        if self._placing is not None:
            self._placing.close()
        self._source = self._placing = None

    def _read(self, order: ChunkOrder) -> bool:
        """Give one chunk; False: it must be tried again."""
        if self._too_fast(order):
            return False
        source, placing = self._connect()
        with source_errors():
            schema = self._known(order) or source.schema((order.db, order.table))
            try:
                return self._read_as(order, schema, source, placing)
            except KeyChanged:
                self._exchange.give(Chunk(order=order, rows=[], rekeyed=True))
                return True
            except (pymysql.MySQLError, ValueError) as error:
                # A statement that the table does not fit any more, or values that are not what they were.
                changed = isinstance(error, ValueError) or error.args[0] in TABLE_CHANGED
                if changed and not self._still(order, schema, source):
                    return False
                raise

    def _known(self, order: ChunkOrder) -> TableSchema | None:
        """What the table looked like a chunk ago: it is looked at behind each."""
        return order.scan.schema if order.scan is not None else None

    def _still(self, order: ChunkOrder, schema: TableSchema | None, source: RowSource) -> bool:
        """Whether the table looks like that."""
        now = source.schema((order.db, order.table))
        if order.scan is not None:
            order.scan.schema = now
        return now == schema

    def _read_as(self, order: ChunkOrder, schema: TableSchema | None, source: RowSource, placing: Placing) -> bool:
        """Give the chunk of a table that looks like this; False: it did not, or not at this place."""
        if not self._take(order, schema, source):
            self._exchange.give(Chunk(order=order, rows=[], nothing=True))
            return True
        with self._placed(order, source, placing) as (token, place):
            chunk = self._chunk(order, schema, source, token, place)
            placing.end(source.raw)
            if not self._still(order, schema, source):
                return False
            if self.resetting.is_set() or self._made_by is not self._exchange.make_placing:
                return False
            self._exchange.give(chunk)
            return True

    def _too_fast(self, order: ChunkOrder) -> bool:
        """Whether earlier rows must be paid for first; waits for a while then."""
        wait = self._exchange.rate.wait(time.monotonic()) if order.scan is not None else 0.0
        if wait:
            self._interrupted(min(wait, _LOOK))
        return wait > 0

    def _take(self, order: ChunkOrder, schema: TableSchema | None, source: RowSource) -> bool:
        """Make sure that an order of a scan names a range; False: there is none left. Raises KeyChanged."""
        if order.scan is None:
            return True
        key = None if schema is None else order.key_columns(schema)
        if order.piece is not None:
            order.scan.check(key)
        elif schema is None or key is None:
            order.piece = order.scan.take(None, lambda behind, rows: None)
        else:
            order.piece = order.scan.take(key, lambda behind, rows: source.boundary(schema, key, behind, rows))
        return order.piece is not None

    @contextmanager
    def _placed(self, order: ChunkOrder, source: RowSource, placing: Placing) -> Iterator[tuple[int, Place | None]]:
        """(token, place) of a chunk; its read view is made inside the block, and the chunk given."""
        tokens = self._exchange.tokens
        with tokens.order:
            token = tokens.next((order.db, order.table))
            try:
                place = placing.begin(source.raw, source.catalog, token)
            except BaseException:
                tokens.done(token)
                raise
        try:
            placing.settle(source.catalog)
            yield token, place
        finally:
            tokens.done(token)

    def _chunk(
        self, order: ChunkOrder, schema: TableSchema | None, source: RowSource, token: int, place: Place | None
    ) -> Chunk:
        rows: ReadRows = []
        weight, estimate, rest = 0, 0, None
        if schema is not None:
            estimate = source.describe(schema)
            rows, weight, rest = self._select(order, schema, source)
        return Chunk(
            order=order,
            token=token,
            schema=schema,
            place=place,
            rows=rows,
            rest=rest,
            weight=weight,
            estimate=estimate,
        )

    def _select(self, order: ChunkOrder, schema: TableSchema, source: RowSource) -> tuple[ReadRows, int, Piece | None]:
        """(rows, their bytes, what is left of the range)."""
        key, scan, piece = order.key_columns(schema), order.scan, order.piece
        if scan is None or piece is None:
            keys = [[values[name] for name in key] for values in order.keys or [] if set(values) == set(key)]
            found, weight = source.rows_with(schema, key, keys)
            return found, weight, None
        began = time.monotonic()
        rows, weight, whole = source.rows_in(schema, key, piece, scan.most + 1)
        now = time.monotonic()
        scan.size.observe(len(rows), weight, now - began)
        self._exchange.rate.spend(len(rows), now)
        if whole:
            return rows, weight, None
        number, part = piece.place
        names = [column.name for column in schema.columns]
        values = rows[-1]
        last = [values[names.index(name)] for name in key]
        return rows, weight, replace(piece, place=(number, part + 1), after=last)
