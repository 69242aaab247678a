"""Reading rows of the source as data: chunks of tables, each behind its place in the binlog (DESIGN P3).

A chunk is read in a fresh read view after it was placed (watermark.py), so it contains everything up to its place;
what it contains of later changes arrives again in the binlog under higher versions. Several threads read at once, each
with its own connections (reader.py); they know nothing of versions, lanes or the queue.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from syncbridge.capture.bell import Bell
from syncbridge.capture.connection import Server
from syncbridge.capture.snapshot import scan
from syncbridge.capture.snapshot.orders import Chunk, ChunkOrder, Exchange
from syncbridge.capture.snapshot.rate import Rate
from syncbridge.capture.snapshot.reader import Reader
from syncbridge.capture.snapshot.scan import TableScan
from syncbridge.capture.snapshot.watermark import Interrupted, Placing, WatermarkRows, placing_without_rows
from syncbridge.capture.tables import Name


class ChunkReader:
    """Takes ChunkOrders, gives Chunks in any order; retries by itself while the source is away."""

    def __init__(
        self,
        pipeline: str,
        connect: Callable[..., Any],
        connect_writer: Callable[[], Any],
        *,
        readers: int = 1,
        rate: int = 0,
    ) -> None:
        """`readers`: how many chunks are read at once. `rate`: rows per second of all scans, 0: as fast as it goes."""

        def by_row(interrupted: Interrupted) -> Placing:
            return WatermarkRows(pipeline, connect_writer, interrupted)

        self._by_row = by_row
        self._rate = rate
        self._exchange = Exchange(connect, by_row, Rate(rate))
        self._readers = [Reader(self._exchange, number) for number in range(readers)]

    # -- what to read --------------------------------------------------------------------------------------------------

    @property
    def ahead(self) -> int:
        """How many chunks of scans to order at once: those being read, and as many that wait to become events."""
        return 2 * len(self._readers)

    def scan(self, db: str, table: str, after_key: list[Any] | None) -> TableScan:
        """A scan of a table from behind a key, for orders."""
        return TableScan(db, table, after_key, min(scan.MAX_ROWS, self._rate or scan.MAX_ROWS))

    def read(self, order: ChunkOrder) -> None:
        """Ask for a chunk."""
        self._exchange.orders.put(order)

    # -- what was read -------------------------------------------------------------------------------------------------

    @property
    def bell(self) -> Bell:
        """Rings when chunks are finished."""
        return self._exchange.bell

    @property
    def any_finished(self) -> bool:
        """Whether finished() has something. Asks no socket, so it may be asked for every transaction."""
        return not self._exchange.chunks.empty()

    def finished(self) -> list[Chunk]:
        """Chunks finished since the last call. Raises what ended a reader, if nobody asked it to end."""
        if self._exchange.failure is not None:
            raise self._exchange.failure
        self.bell.quiet()
        found: list[Chunk] = []
        while True:
            try:
                found.append(self._exchange.chunks.get_nowait())
            except queue.Empty:
                return found

    def reading(self, token: int) -> Name | None:
        """The table whose chunk is being read behind this watermark: it will be finished, or reading() forgets it."""
        return self._exchange.tokens.reading(token)

    # -- which server --------------------------------------------------------------------------------------------------

    def reset(self) -> int:
        """Open new connections: the source may be another server now. Answers the last token of the old one."""
        for reader in self._readers:
            reader.resetting.set()
        return self._exchange.tokens.last

    def place(self, server: Server, *, by_row: bool) -> None:
        """How to place chunks of this source: by watermark rows, or without writing. Raises ConfigError."""
        if not by_row:
            placing_without_rows(server, lambda timeout: True)
        self._place(self._by_row if by_row else lambda interrupted: placing_without_rows(server, interrupted))

    def place_with(self, placing: Placing) -> None:
        """Place chunks in a way of the caller's own."""
        self._place(lambda interrupted: placing)

    def _place(self, make: Callable[[Interrupted], Placing]) -> None:
        self._exchange.make_placing = make

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for reader in self._readers:
            reader.start()

    def stop(self) -> None:
        """Ask all to end; they do as soon as the server answers them."""
        self.bell.close()
        for reader in self._readers:
            reader.stop()
            self._exchange.orders.put(None)

    def join(self, timeout: float) -> bool:
        """Whether all have ended, after at most `timeout` seconds for each."""
        for reader in self._readers:
            reader.join(timeout)
        return not any(reader.is_alive() for reader in self._readers)
