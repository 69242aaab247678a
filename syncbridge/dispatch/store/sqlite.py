"""The default store: one SQLite file with a write-ahead log.

`full`: the log is fsynced in every commit. `batch`: it is written in every commit and fsynced by a thread, at most a
second later. One connection writes (the commit thread), one reads (the reader thread); WAL lets both work at once.
A lock file keeps a second process out: two servers on one file would hand out the same jobs.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.run import Run
from syncbridge.dispatch.store import (
    READY,
    SCHEDULED,
    UNREADABLE,
    Changes,
    JobKey,
    Move,
    Promise,
    Result,
    StoredBacklog,
)
from syncbridge.dispatch.store.sqlite_file import (
    connect,
    create_or_check,
    is_corrupt,
    lay_out_log,
    lock,
    unavailable,
    unusable,
)
from syncbridge.dispatch.store.sqlite_places import MAX_ID, PlaceKey, Places
from syncbridge.dispatch.store.sqlite_salvage import around_damage
from syncbridge.dispatch.store.syncer import Syncer

logger = logging.getLogger(__name__)

#: Rows per statement: each statement hands the interpreter over to the event loop once, not once per row.
#: Smaller remainders go in powers of two, so that few statements are ever compiled.
_STATEMENT_ROWS = 512
#: Jobs with neighbouring ids that are removed in a statement of their own.
_LONG_RUN = 32


class _Insert(NamedTuple):
    """An INSERT of many rows. Time goes by the number of columns: shapes of rows that are frequent have their own."""

    into: str
    #: Values given for each row, and which of them each column gets.
    values: int
    columns: tuple[int, ...]


_PLAIN = _Insert("INSERT INTO job (id, submitted, payload)", 3, (0, 1, 2))
_TITLED = _Insert("INSERT INTO job (id, submitted, payload, uniq)", 4, (0, 1, 2, 3))
_NAMED = _Insert("INSERT INTO job (id, submitted, payload, uniq, join_key)", 4, (0, 1, 2, 3, 3))
_ANY = _Insert(
    "INSERT INTO job (id, submitted, payload, uniq, join_key, attempts, reducer, state, due, note)",
    10,
    tuple(range(10)),
)
_RESULT = _Insert("INSERT OR REPLACE INTO result", 9, tuple(range(9)))

_PLACE = "(SELECT id << 45 FROM place WHERE function=? AND priority=? AND state=?)"
_SIZE = "CASE typeof(payload) WHEN 'blob' THEN length(payload) ELSE -1 END"
_COLUMNS = f"job.id & {MAX_ID}, submitted, uniq, join_key, attempts, reducer, due, note, {_SIZE}"
_WINDOW = (
    f"SELECT {_COLUMNS}, CASE WHEN length(payload) <= ? AND typeof(payload) = 'blob' THEN payload END FROM job "  # noqa: S608
    f"WHERE id >= {_PLACE} + ? AND id <= {_PLACE} + ? ORDER BY id LIMIT ?"
)
_BY_DUE = (
    f"SELECT {_COLUMNS}, NULL, function, priority FROM job JOIN place ON place.id = job.id >> 45 "  # noqa: S608
    f"WHERE job.state=? AND (due, job.id & {MAX_ID}) > (?,?) ORDER BY due, job.id & {MAX_ID} LIMIT ?"
)
_FIND = (
    f"SELECT {_COLUMNS}, NULL, function, priority, place.state "  # noqa: S608 - constants
    "FROM place CROSS JOIN job ON job.id = place.id << 45 | ? WHERE jobs > 0 LIMIT 1"
)
_JOINABLE = (
    f"SELECT {_COLUMNS}, NULL, function, priority, place.state FROM place CROSS JOIN job "  # noqa: S608
    f"INDEXED BY job_join ON job.id BETWEEN place.id << 45 AND (place.id << 45) + {MAX_ID} "
    f"WHERE function=? AND place.state IN ({READY}, {SCHEDULED}) AND join_key IN (%s) ORDER BY job.id & {MAX_ID}"
)

#: A file this much larger than what it holds is rewritten, where that takes a moment only; bytes.
_SHRINK_FROM = 64 << 20
_SHRINK_TO = 2 << 20
#: What a job costs in the file beside its payload, about.
_OVERHEAD = 64


class SqliteStore:
    """JobStore in one SQLite file; creates it where there is none.

    Raises ConfigError when the path cannot be used (not writable, not a queue, a newer format, damaged) and
    TransientError when another process has it.
    """

    def __init__(self, path: str | os.PathLike[str], *, durability: Promise = Promise.FULL) -> None:
        assert durability is not Promise.MEMORY, "that is MemoryStore"
        self.promise = durability
        self.sync_seconds = 0.0
        self._path = Path(path)
        self._lock = lock(self._path)
        try:
            self._writer = connect(self._path, durability)
            meta = create_or_check(self._writer, self._path)
            self.queue_id: str = meta["queue_id"]
            self.next_id: int = meta["next_id"]
            self._places = Places(self._writer)
            #: It held more than _SHRINK_FROM since it was last looked at, or may have.
            self._grown = True
            self._shrink()
            lay_out_log(self._writer, self._path)
            self._reader = connect(self._path, durability)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise unusable(self._path, error) from error
        except BaseException:
            os.close(self._lock)
            raise
        self._syncer = Syncer(f"{self._path}-wal") if durability is Promise.BATCH else None
        self._closed = False

    # -- writing (commit thread) ---------------------------------------------------------------------------------

    def commit(self, changes: Changes) -> None:
        try:
            if self._places.crowded:
                self._places.forget_empty()
            if not self._transaction(changes, self._apply):
                self._transaction(changes, self._apply_what_fits)
            self._shrink()
        except sqlite3.Error as error:
            raise unavailable(self._path, "written", error) from error
        if self._syncer is not None:
            self._syncer.written()

    def _transaction(self, changes: Changes, apply: Callable[[Changes], bool]) -> bool:
        """False: nothing was changed, since `apply` met jobs that are not where `changes` has them."""
        writer = self._writer
        self._places.begin()
        writer.execute("BEGIN IMMEDIATE")
        try:
            if apply(changes):
                self._places.save()
                self._remember(changes)
                started = time.perf_counter()
                writer.execute("COMMIT")
                self.sync_seconds = time.perf_counter() - started
                return True
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.IntegrityError) and apply == self._apply:
                return False
            raise
        self._roll_back()
        return False

    def _roll_back(self) -> None:
        self._places.undo()
        if self._writer.in_transaction:  # else SQLite did
            self._writer.execute("ROLLBACK")

    def _apply(self, changes: Changes) -> bool:
        """In large statements, trusting `changes`; False (or IntegrityError): that was wrong."""
        self._add(changes.adds, changes.runs)
        if changes.moves and self._move(changes.moves) != len(changes.moves):
            return False
        if changes.attempts:
            self._note_attempts(changes.attempts)
        return not changes.removes or self._remove(changes.removes) == len(changes.removes)

    def _apply_what_fits(self, changes: Changes) -> bool:
        """The same, job by job, leaving out what is done already."""
        changes.unroll()
        for record in changes.adds:
            if self._writer.execute(_FIND, (record.id,)).fetchone() is None:
                self._add([record])
        for number, move in changes.moves.items():
            if self._holds(number, move.old):
                self._move({number: move})
        self._note_attempts(changes.attempts)
        for number, key in changes.removes.items():
            if self._holds(number, key):
                self._remove({number: key})
        return True

    def _holds(self, number: int, key: JobKey) -> bool:
        place = self._places.get((key.function, key.priority, key.state))
        sql = "SELECT 1 FROM job WHERE id=?"
        return place is not None and self._writer.execute(sql, (place.first | number,)).fetchone() is not None

    def _add(self, adds: list[JobRecord], runs: Sequence[Run] = ()) -> None:
        rows: dict[_Insert, list[Any]] = {_PLAIN: [], _TITLED: [], _NAMED: [], _ANY: []}
        plain, titled, named, others = rows.values()
        for run in runs:
            if run.named or any(run.uniques):
                into = named if run.named else titled
                for values in zip(self._place_run(run), repeat(run.submitted), run.payloads, run.uniques, strict=False):
                    into += values
            else:
                for three in zip(self._place_run(run), repeat(run.submitted), run.payloads, strict=False):
                    plain += three
        places: dict[PlaceKey, list[int]] = {}
        for number, name, priority, unique, join, submitted, attempts, payload, size, reducer, state, due, note in adds:
            assert number <= MAX_ID
            key = name, priority, state
            place = places.get(key) or self._first(key, places)
            place[1] += 1
            place[2] += size
            if attempts or reducer or state or due or note or (join is not None and join != unique):
                rare = unique or None, join, attempts or None, reducer or None, state or None, due or None, note or None
                others += (place[0] | number, submitted, payload, *rare)
            elif unique:
                into = titled if join is None else named
                into += (place[0] | number, submitted, payload, unique)
            else:
                plain += (place[0] | number, submitted, payload)
        for key, (_, jobs, size) in places.items():
            self._places.count(key, jobs, size)
        for insert, some in rows.items():
            self._insert(insert, some)

    def _place_run(self, run: Run) -> range:
        """Count the jobs of the run; returns their row numbers."""
        assert run.end <= MAX_ID
        first = self._places.count((run.name, run.priority, READY), run.count, run.size).first | run.first
        return range(first, first + run.count)

    def _first(self, key: PlaceKey, places: dict[PlaceKey, list[int]]) -> list[int]:
        """A new entry of `places`: the place's first row number, no jobs and no bytes counted yet."""
        place = places[key] = [self._places.count(key, 0, 0).first, 0, 0]
        return place

    def _insert(self, insert: _Insert, values: list[Any]) -> None:
        each = insert.values
        for start, rows in _chunks(len(values) // each):
            some = values[start * each : (start + rows) * each]
            self._writer.execute(_with_rows(insert, rows), some)

    def _move(self, moves: dict[int, Move]) -> int:
        """Returns how many were where `moves` has them."""
        rows = []
        for number, (old, function, attempts, state, due, note) in moves.items():
            source = self._places.count((old.function, old.priority, old.state), -1, -max(old.size, 0))
            target = self._places.count((function, old.priority, state), 1, max(old.size, 0))
            later = state or None, due or None, note or None
            rows.append((target.first | number, attempts or None, *later, source.first | number))
        return self._writer.executemany(
            "UPDATE job SET id=?, attempts=?, state=?, due=?, note=? WHERE id=?", rows
        ).rowcount

    def _note_attempts(self, attempts: dict[int, tuple[JobKey, int]]) -> None:
        rows = []
        for number, (key, value) in attempts.items():
            place = self._places.get((key.function, key.priority, key.state))
            if place is not None:
                rows.append((value, place.first | number))
        self._writer.executemany("UPDATE job SET attempts=? WHERE id=?", rows)

    def _remove(self, removes: dict[int, JobKey]) -> int:
        """Returns how many were there."""
        rows: list[int] = []
        places: dict[PlaceKey, list[int]] = {}
        for number, (function, priority, size, state) in removes.items():
            key = function, priority, state
            place = places.get(key) or self._first(key, places)
            place[1] -= 1
            if size > 0:
                place[2] -= size
            rows.append(place[0] | number)
        for key, (_, jobs, size) in places.items():
            self._places.count(key, jobs, size)
        rows.sort()
        ranges, scattered = _ranges(rows)
        removed = 0
        if ranges:
            removed = self._writer.executemany("DELETE FROM job WHERE id BETWEEN ? AND ?", ranges).rowcount
        for start, some in _chunks(len(scattered)):
            removed += self._writer.execute(_delete(some), scattered[start : start + some]).rowcount
        return removed

    def _remember(self, changes: Changes) -> None:
        """What is beside the jobs."""
        writer = self._writer
        if changes.results:
            self._insert(_RESULT, [value for result in changes.results for value in result])
        if changes.expire_results:
            writer.execute("DELETE FROM result WHERE expires <= ?", (changes.expire_results,))
        for name, value in changes.settings.items():
            if value is None:
                writer.execute("DELETE FROM setting WHERE name=?", (name,))
            else:
                writer.execute("INSERT OR REPLACE INTO setting VALUES (?,?)", (name, value))
        if changes.reserve:
            writer.execute("UPDATE meta SET value=? WHERE name='next_id'", (changes.reserve,))

    def _shrink(self) -> None:
        """Give a worked-off backlog's space back to the disk: rewrite the little that is left.

        Costs nothing in the hot path, unlike auto_vacuum; SQLite uses free pages again before it asks for more.
        """
        live = self._places.bytes + self._places.jobs * _OVERHEAD
        if live > _SHRINK_FROM:
            self._grown = True
        if not self._grown or live > _SHRINK_TO:
            return
        self._grown = False
        writer = self._writer
        try:
            page, pages, free = (
                writer.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_size", "page_count", "freelist_count")
            )
            # Besides jobs there are results.
            if free * page > _SHRINK_FROM and (pages - free) * page <= 8 * _SHRINK_TO:
                writer.execute("VACUUM")
                writer.execute("PRAGMA wal_checkpoint")
        except sqlite3.Error as error:
            logger.warning("queue store %s cannot be shrunk: %s", self._path, error)

    # -- reading (reader thread) ---------------------------------------------------------------------------------

    def backlogs(self) -> list[StoredBacklog]:
        return [
            StoredBacklog(*row)
            for row in self._read(
                "SELECT function, priority, jobs, bytes, (SELECT max(id) FROM job "  # noqa: S608 - constants
                f"  WHERE id BETWEEN place.id << 45 AND (place.id << 45) + {MAX_ID}) & {MAX_ID}, state "
                "FROM place WHERE jobs > 0"
            )
        ]

    def window(
        self, function: bytes, priority: int, *, after: int, through: int, limit: int, inline: int, state: int = READY
    ) -> list[JobRecord]:
        place, first, through = (function, priority, state), max(after, 0) + 1, min(through, MAX_ID)
        try:
            rows = self._reader.execute(_WINDOW, (inline, *place, first, *place, through, limit)).fetchall()
        except sqlite3.Error as error:
            if not is_corrupt(error):
                raise unavailable(self._path, "read", error) from error
            rows = self._salvaged(place, first, through, limit, inline)
        return [_record(row, function, priority, state) for row in rows]

    def _salvaged(self, place: PlaceKey, first: int, through: int, limit: int, inline: int) -> list[Any]:
        """A window without what is damaged; payloads by themselves."""

        def query(first: int, limit: int) -> list[Any]:
            return self._reader.execute(_WINDOW, (-1, *place, first, *place, through, limit)).fetchall()

        def report(first: int, last: int, error: sqlite3.Error) -> None:
            damage = unavailable(self._path, "read", error)
            logger.error("jobs %d to %d of %s are left out: %s; %s", first, last, place[0], damage, damage.hint)

        try:
            rows = around_damage(query, first, through, limit, report)
        except sqlite3.Error as error:
            raise unavailable(self._path, "read", error) from error
        return [self._with_payload(row, place, inline) for row in rows]

    def _with_payload(self, row: tuple[Any, ...], place: PlaceKey, inline: int) -> tuple[Any, ...]:
        number, size = row[0], row[8]
        if not 0 <= size <= inline:
            return row
        payload = self.payload(*place[:2], number, place[2])
        return *row[:8], UNREADABLE if payload is None else size, payload

    def by_due(self, state: int, *, after: tuple[int, int], limit: int) -> list[JobRecord]:
        return [_record(row[:10], row[10], row[11], state) for row in self._read(_BY_DUE, (state, *after, limit))]

    def payload(self, function: bytes, priority: int, number: int, state: int = READY) -> bytes | None:
        """None too where the payload is damaged."""
        try:
            rows = self._reader.execute(
                f"SELECT payload FROM job WHERE id = {_PLACE} + ?",  # noqa: S608 - constants
                (function, priority, state, number),
            ).fetchall()
        except sqlite3.Error as error:
            if is_corrupt(error):
                logger.error("payload of job %d of %s: %s", number, function, unavailable(self._path, "read", error))
                return None
            raise unavailable(self._path, "read", error) from error
        return rows[0][0] if rows and isinstance(rows[0][0], bytes) else None

    def joinable(self, function: bytes, keys: Sequence[bytes]) -> dict[bytes, JobRecord]:
        found: dict[bytes, JobRecord] = {}
        for start in range(0, len(keys), _STATEMENT_ROWS):
            some = keys[start : start + _STATEMENT_ROWS]
            marks = 1 << (len(some) - 1).bit_length()  # few statements are ever compiled; NULL is nobody's key
            rows = self._read(_joinable(marks), (function, *some, *[None] * (marks - len(some))))
            # Ascending: the newest stays.
            found.update((row[3], _record(row[:10], row[10], row[11], row[12])) for row in rows)
        return found

    def find(self, number: int) -> JobRecord | None:
        return self._one(_FIND, number) if 0 <= number <= MAX_ID else None

    def result(self, number: int) -> Result | None:
        rows = self._read("SELECT * FROM result WHERE id=?", (number,))
        return Result(*rows[0]) if rows else None

    def settings(self) -> dict[bytes, bytes]:
        return dict(self._read("SELECT name, value FROM setting"))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._syncer is not None:
            self._syncer.close()
        self._reader.close()
        self._writer.close()
        os.close(self._lock)

    def _one(self, sql: str, *arguments: Any) -> JobRecord | None:
        rows = self._read(sql, arguments)
        return _record(rows[0][:10], rows[0][10], rows[0][11], rows[0][12]) if rows else None

    def _read(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._reader.execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise unavailable(self._path, "read", error) from error


def _record(row: tuple[Any, ...], function: bytes, priority: int, state: int) -> JobRecord:
    """A row of _COLUMNS and payload; one that makes no sense becomes UNREADABLE."""
    number, submitted, unique, join, attempts, reducer, due, note, size, payload = row
    texts, numbers = (unique, join, reducer, note), (submitted, attempts, due)
    if not all(type(n) is int or n is None for n in numbers) or not all(type(t) is bytes or t is None for t in texts):
        submitted, unique, join, attempts, reducer, size, payload = 0, b"", None, 0, b"", UNREADABLE, None
        due, note = due if type(due) is int else 0, note if type(note) is bytes else b""
    return JobRecord(
        number,
        function,
        priority,
        unique or b"",
        join,
        submitted,
        attempts or 0,
        payload,
        size,
        reducer or b"",
        state,
        due or 0,
        note or b"",
    )


def _chunks(rows: int) -> Iterator[tuple[int, int]]:
    """(start, rows) of each statement."""
    start = 0
    while start < rows:
        some = min(_STATEMENT_ROWS, 1 << ((rows - start).bit_length() - 1))
        yield start, some
        start += some


@cache
def _with_rows(insert: _Insert, rows: int) -> str:
    firsts = range(1, rows * insert.values, insert.values)
    marks = (",".join(f"?{first + value}" for value in insert.columns) for first in firsts)
    return f"{insert.into} VALUES {','.join(f'({row})' for row in marks)}"


@cache
def _joinable(keys: int) -> str:
    return _JOINABLE % ",".join("?" * keys)


@cache
def _delete(rows: int) -> str:
    return f"DELETE FROM job WHERE id IN ({','.join('?' * rows)})"  # noqa: S608 - question marks


def _ranges(rows: list[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Ascending numbers as long runs of neighbours, (first, last), and the rest.

    Workers finish the jobs of one function in about their order; those of several lie between each other.
    """
    if len(rows) >= _LONG_RUN and rows[-1] - rows[0] == len(rows) - 1:
        return [(rows[0], rows[-1])], []
    ranges, scattered, start = [], [], 0
    for end in range(1, len(rows) + 1):
        if end < len(rows) and rows[end] == rows[end - 1] + 1:
            continue
        if end - start >= _LONG_RUN:
            ranges.append((rows[start], rows[end - 1]))
        else:
            scattered += rows[start:end]
        start = end
    return ranges, scattered
