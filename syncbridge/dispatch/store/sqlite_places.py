"""Places of the SQLite store: their numbers, which are the upper bits of job rows, and their totals."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import count

from syncbridge.errors import TransientError

#: A job's row number: place << ID_BITS | job id.
ID_BITS = 45
MAX_ID = (1 << ID_BITS) - 1
_MAX_PLACE = (1 << (63 - ID_BITS)) - 1
#: Places that may be empty before they are swept out.
_SPARE = 1000

#: Function, priority, state.
PlaceKey = tuple[bytes, int, int]


class Place:
    """`first`: the row number that its job 0 would have."""

    __slots__ = ("bytes", "first", "jobs")

    def __init__(self, number: int, jobs: int, size: int) -> None:
        self.first = number << ID_BITS
        self.jobs = jobs
        self.bytes = size


class Places:
    """All places as the transaction under way sees them; begin() and undo() frame it.

    jobs, bytes: of the whole queue.
    """

    def __init__(self, writer: sqlite3.Connection) -> None:
        self._writer = writer
        self._undo: dict[PlaceKey, tuple[int, int] | None] = {}
        self.forget_empty()

    def forget_empty(self) -> None:
        """Outside of a transaction: what no job lies in goes, and its number with it."""
        self._writer.execute("DELETE FROM place WHERE jobs = 0")
        rows = self._writer.execute("SELECT id, function, priority, state, jobs, bytes FROM place").fetchall()
        self._known = {
            (function, priority, state): Place(number, jobs, size)
            for number, function, priority, state, jobs, size in rows
        }
        self.jobs = self._jobs_before = sum(row[4] for row in rows)
        self.bytes = self._bytes_before = sum(row[5] for row in rows)
        used = {row[0] for row in rows}
        self._numbers: Iterator[int] = (number for number in count(1) if number not in used)
        self._crowded = 2 * len(rows) + _SPARE

    @property
    def crowded(self) -> bool:
        """It is time for forget_empty()."""
        return len(self._known) > self._crowded

    def begin(self) -> None:
        self._undo.clear()
        self._jobs_before, self._bytes_before = self.jobs, self.bytes

    def undo(self) -> None:
        """The transaction was rolled back."""
        for key, totals in self._undo.items():
            if totals is None:
                del self._known[key]
            else:
                self._known[key].jobs, self._known[key].bytes = totals
        self._undo.clear()
        self.jobs, self.bytes = self._jobs_before, self._bytes_before

    def get(self, key: PlaceKey) -> Place | None:
        return self._known.get(key)

    def count(self, key: PlaceKey, jobs: int, size: int) -> Place:
        """Jobs came (or went, negative) with this many bytes; the place is made where there is none."""
        place = self._known.get(key)
        if place is None:
            place = self._add(key)
        elif key not in self._undo:
            self._undo[key] = place.jobs, place.bytes
        place.jobs += jobs
        self.jobs += jobs
        size = size if place.jobs else -place.bytes
        place.bytes += size
        self.bytes += size
        return place

    def _add(self, key: PlaceKey) -> Place:
        number = next(self._numbers)
        if number > _MAX_PLACE:
            raise TransientError("the queue holds jobs of too many functions", hint="work off or purge some of them")
        self._writer.execute("INSERT INTO place VALUES (?,?,?,?,0,0)", (number, *key))
        place = self._known[key] = Place(number, 0, 0)
        self._undo[key] = None
        return place

    def save(self) -> None:
        """Write the totals that changed."""
        touched = [self._known[key] for key in self._undo]
        self._writer.executemany(
            "UPDATE place SET jobs=?, bytes=? WHERE id=?",
            [(place.jobs, place.bytes, place.first >> ID_BITS) for place in touched],
        )
