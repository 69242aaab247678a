"""One table read from end to end: which range of its key comes next, and how many rows a range should have.

Several readers take ranges of one scan and read them at the same time. Ranges are numbered in key order, so that what
was read can be told to the last row without a gap. Never talks to a server itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from syncbridge.capture.schema import TableSchema

#: Rows of a table's first range, and the most that a range may have.
FIRST_ROWS, MAX_ROWS = 1000, 50_000
#: What reading a range should take, and about how many bytes it should have: a bound to memory and to how long a read
#: view stays open.
TARGET_SECONDS, TARGET_BYTES = 0.2, 4 * 1024 * 1024

#: The key of the last row of a range of `rows` rows behind the key `after` (None: from the first row); None when the
#: table has less than that many.
Boundary = Callable[[list[Any] | None, int], list[Any] | None]


class KeyChanged(Exception):
    """The table has another key than the scan has been told in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The rows with keys behind `after` (None: from the first one) up to and with `until` (None: to the last one).

    `place` orders the pieces of a scan: its range's number, and which part of a range that was too large for once.
    """

    place: tuple[int, int]
    after: list[Any] | None
    until: list[Any] | None


class ChunkSize:
    """How many rows to read at once: so many that it takes TARGET_SECONDS, and no more than TARGET_BYTES."""

    def __init__(self, most: int = MAX_ROWS) -> None:
        self._most = max(1, most)
        self.rows = min(FIRST_ROWS, self._most)

    def observe(self, rows: int, size: int, seconds: float) -> None:
        """`rows` rows of `size` bytes took this long."""
        if not rows:
            return
        by_time = rows * TARGET_SECONDS / max(seconds, 1e-6)
        by_time = min(max(by_time, self.rows / 2), self.rows * 2)  # one slow answer says little
        by_size = rows * TARGET_BYTES / max(size, 1)
        self.rows = max(1, min(int(by_time), int(by_size), self._most))


class TableScan:
    """The ranges of one table, behind the key `after`. Shared by threads."""

    def __init__(self, db: str, table: str, after: list[Any] | None, most: int = MAX_ROWS) -> None:
        """`most`: the most rows of a range."""
        self.name = (db, table)
        self.most = most
        self.size = ChunkSize(most)
        #: Nobody wants it any more: readers leave it where it is.
        self.cancelled = False
        #: The last range is taken.
        self.exhausted = False
        #: What the table looked like when it was read last.
        self.schema: TableSchema | None = None
        self._after = after
        self._key: tuple[str, ...] | None = None
        self._number = 0
        self._lock = threading.Lock()

    def take(self, key: tuple[str, ...] | None, boundary: Boundary) -> Piece | None:
        """The next range, None when all are taken. `key` None: there is no table any more, so one range is left.

        Raises KeyChanged, and what `boundary` raises.
        """
        with self._lock:
            if self.exhausted:
                return None
            self._agree(key)
            until = boundary(self._after, self.size.rows) if key is not None else None
            piece = Piece(place=(self._number, 0), after=self._after, until=until)
            self._number += 1
            self._after = until
            self.exhausted = until is None
            return piece

    def check(self, key: tuple[str, ...] | None) -> None:
        """Whether a piece taken before still means the same. Raises KeyChanged."""
        with self._lock:
            self._agree(key)

    def _agree(self, key: tuple[str, ...] | None) -> None:
        if key is None:
            return
        if self._key is None and (self._after is None or len(self._after) == len(key)):
            self._key = key
        if self._key != key:
            raise KeyChanged
