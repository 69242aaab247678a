"""One table's snapshot under way: the scan of its rows, and which chunk becomes events next."""

from __future__ import annotations

import orjson

from syncbridge.capture.snapshot.chunks import ChunkReader
from syncbridge.capture.snapshot.orders import Chunk
from syncbridge.capture.tables import Name
from syncbridge.state import SnapshotRow


class UnderWay:
    """Chunks are read in any order and become events in that of the key, so that `row` always says how far it is."""

    def __init__(self, row: SnapshotRow, reader: ChunkReader) -> None:
        #: As it will be in the state once everything emitted so far is durable.
        self.row = row
        self.scan = reader.scan(row.db, row.table, orjson.loads(row.last_key) if row.last_key else None)
        #: Chunks ordered that have not become events yet.
        self.ordered = 0
        #: All rows have become events.
        self.ended = False
        self._next = (0, 0)

    @property
    def name(self) -> Name:
        return self.row.db, self.row.table

    @property
    def begun(self) -> bool:
        """The first chunk has become events."""
        return self._next != (0, 0)

    @property
    def wants_more(self) -> bool:
        """Another chunk may be ordered. The first one comes alone: it says what the table looks like."""
        return not self.ended and not self.scan.exhausted and (self.begun or not self.ordered)

    def is_next(self, chunk: Chunk) -> bool:
        piece = chunk.order.piece
        return piece is not None and piece.place == self._next

    def emitted(self, chunk: Chunk, row: SnapshotRow) -> None:
        """The next chunk has become events, which brought the snapshot as far as `row`."""
        self.row = row
        self.ordered -= 1
        self.ended = chunk.last
        number, _ = self._next
        self._next = chunk.rest.place if chunk.rest is not None else (number + 1, 0)
