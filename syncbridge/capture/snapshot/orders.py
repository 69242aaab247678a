"""What is asked of the readers of chunks, what they answer, and what they share meanwhile."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from syncbridge.capture.bell import Bell
from syncbridge.capture.changes import ReadRows
from syncbridge.capture.schema import TableSchema
from syncbridge.capture.snapshot.rate import Rate
from syncbridge.capture.snapshot.scan import Piece, TableScan
from syncbridge.capture.snapshot.watermark import Interrupted, Place, Placing
from syncbridge.capture.tables import Name
from syncbridge.errors import ConfigError
from syncbridge.event import Row


@dataclass(slots=True, kw_only=True)
class ChunkOrder:
    """What to read: a range of a scan, or exactly the rows with `keys`."""

    db: str
    table: str
    key_columns: Callable[[TableSchema], tuple[str, ...]]
    scan: TableScan | None = None
    #: The range; None: the scan's next one, which whoever reads it puts here.
    piece: Piece | None = None
    keys: list[dict[str, Any]] | None = None
    #: Whatever the caller needs to recognise the chunk.
    purpose: Any = None

    @property
    def cancelled(self) -> bool:
        return self.scan is not None and self.scan.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What was read. `schema` None: the table does not exist (any more)."""

    order: ChunkOrder
    token: int = 0
    schema: TableSchema | None = None
    #: None: at the watermark row with this token.
    place: Place | None = None
    rows: ReadRows
    #: What is left of the range, where it was too large for once.
    rest: Piece | None = None
    #: Nothing was read, for all ranges are taken.
    nothing: bool = False
    #: Nothing was read, for the table has another key than the one that the scan is told in.
    rekeyed: bool = False
    #: Why the table cannot be read at all.
    refusal: ConfigError | None = None
    #: About how many bytes the rows weigh.
    weight: int = 0
    #: The source's guess of the table's rows.
    estimate: int = 0

    @property
    def last(self) -> bool:
        """The table has no rows behind these."""
        piece = self.order.piece
        return self.schema is None or (self.rest is None and piece is not None and piece.until is None)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.schema.columns) if self.schema else ()

    def dicts(self) -> Iterator[Row]:
        """The rows by their columns' names."""
        columns = self.columns
        return (dict(zip(columns, row, strict=True)) for row in self.rows)


class Tokens:
    """Numbers of watermarks: they ascend, and are of this process alone. Shared by threads."""

    def __init__(self) -> None:
        self.last = random.getrandbits(31) << 32
        #: Held from a number's birth until its watermark is committed: they stand in the binlog in this order.
        self.order = threading.Lock()
        self._reading: dict[int, Name] = {}

    def next(self, name: Name) -> int:
        """A new one, for a chunk of this table; `order` is held."""
        token = self.last + 1
        self._reading[token] = name  # before anybody can meet it
        self.last = token
        return token

    def done(self, token: int) -> None:
        """Its chunk is given, or never will be."""
        self._reading.pop(token, None)

    def reading(self, token: int) -> Name | None:
        """The table whose chunk is being read behind this watermark; None: there is none any more."""
        return self._reading.get(token)


class Exchange:
    """Orders in, chunks out; what readers have in common."""

    def __init__(self, connect: Callable[..., Any], make_placing: Callable[[Interrupted], Placing], rate: Rate) -> None:
        self.connect = connect
        self.make_placing = make_placing
        self.rate = rate
        self.tokens = Tokens()
        self.orders: queue.SimpleQueue[ChunkOrder | None] = queue.SimpleQueue()
        self.chunks: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
        self.bell = Bell()
        #: Why a reader ended, if nobody asked it to.
        self.failure: BaseException | None = None

    def give(self, chunk: Chunk) -> None:
        self.chunks.put(chunk)
        self.bell.ring()

    def fail(self, error: BaseException) -> None:
        self.failure = error
        self.bell.ring()
