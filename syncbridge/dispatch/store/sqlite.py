"""The default store: one SQLite file, write-ahead log, fsync in every commit (`synchronous=FULL`).

One connection writes (the commit thread), one reads (the event loop); WAL lets both work at once. A lock file keeps
a second process out: two servers on one file would hand out the same jobs.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import READY, Changes, JobKey, Promise, Result, StoredBacklog
from syncbridge.errors import ConfigError, TransientError

#: The layout this version writes; a file with a higher number is refused.
FORMAT = 1

_SCHEMA = Path(__file__).with_name("schema.sql")
#: Pages of write-ahead log before SQLite copies them into the file (64 MiB): fewer, longer checkpoints.
_CHECKPOINT_PAGES = 16_384

#: Jobs per INSERT statement.
_INSERT_ROWS = 128
_ROW = "(?,?,?,?,?,?,?,?)"
_Row = tuple[int, int, int, bytes, bytes | None, int, int, bytes | None]

_COLUMNS = "id, uniq, join_key, submitted, attempts, length(payload)"


class SqliteStore:
    """JobStore in one SQLite file; creates it where there is none.

    Raises ConfigError when the path cannot be used (not writable, not a queue, a newer format) and TransientError when
    another process has it.
    """

    promise = Promise.FULL

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._functions: dict[bytes, int] = {}
        self._lock = _lock(self._path)
        try:
            self._writer = _connect(self._path)
            self._create_or_check()
            self._reader = _connect(self._path)
            self._load_functions()
        except sqlite3.Error as error:
            os.close(self._lock)
            raise ConfigError(
                f"queue store {self._path} cannot be used: {error}",
                hint="queue.store must name a writable file that syncbridge created, or one that does not exist yet",
            ) from error
        except BaseException:
            os.close(self._lock)
            raise
        self._closed = False

    # -- writing (commit thread) ---------------------------------------------------------------------------------

    def commit(self, changes: Changes) -> None:
        writer, functions = self._writer, len(self._functions)
        try:
            writer.execute("BEGIN IMMEDIATE")
            self._write(writer, changes)
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            if len(self._functions) != functions:
                self._load_functions()
            raise TransientError(
                f"queue store {self._path} cannot be written: {error}", hint="free space on its disk, check its mount"
            ) from error

    def _write(self, writer: sqlite3.Connection, changes: Changes) -> None:
        totals: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        if changes.adds:
            _insert(writer, self._rows(changes.adds, totals))
        if changes.moves:
            moves = [
                (self._function_id(function), attempts, *self._taken(number, old, totals))
                for number, (old, function, attempts, *_) in changes.moves.items()
            ]
            writer.executemany(
                "UPDATE job SET function_id=?, attempts=? WHERE function_id=? AND priority=? AND id=?", moves
            )
            for old, function, *_ in changes.moves.values():
                _count(totals[self._function_id(function), old.priority], 1, old.size)
        if changes.attempts:
            writer.executemany(
                "UPDATE job SET attempts=? WHERE function_id=? AND priority=? AND id=?",
                [
                    (attempts, self._function_id(key.function), key.priority, number)
                    for number, (key, attempts) in changes.attempts.items()
                ],
            )
        if changes.removes:
            removed = [self._taken(number, key, totals) for number, key in changes.removes.items()]
            writer.executemany("DELETE FROM job WHERE function_id=? AND priority=? AND id=?", removed)
        writer.executemany(
            "INSERT INTO backlog VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET jobs=jobs+excluded.jobs, "
            "bytes=bytes+excluded.bytes",
            [(*place, *counts) for place, counts in totals.items()],
        )
        if changes.reserve:
            writer.execute("UPDATE meta SET value=? WHERE name='next_id'", (changes.reserve,))

    def _rows(self, adds: list[JobRecord], totals: defaultdict[tuple[int, int], list[int]]) -> list[_Row]:
        rows = []
        for number, name, priority, unique, join_key, submitted, attempts, payload, size, *_ in adds:
            function = self._function_id(name)
            counts = totals[function, priority]
            counts[0] += 1
            counts[1] += size
            rows.append((function, priority, number, unique, join_key, submitted, attempts, payload))
        return rows

    def _taken(self, number: int, key: JobKey, totals: defaultdict[tuple[int, int], list[int]]) -> tuple[int, int, int]:
        function = self._function_id(key.function)
        _count(totals[function, key.priority], -1, -key.size)
        return function, key.priority, number

    def _function_id(self, name: bytes) -> int:
        known = self._functions.get(name)
        if known is None:
            known = self._writer.execute("INSERT INTO function (name) VALUES (?)", (name,)).lastrowid
            assert known is not None
            self._functions[name] = known
        return known

    # -- reading (event loop) ------------------------------------------------------------------------------------

    def backlogs(self) -> list[StoredBacklog]:
        return [
            StoredBacklog(*row)
            for row in self._read(
                "SELECT name, priority, jobs, bytes, (SELECT max(id) FROM job "
                "  WHERE function_id=backlog.function_id AND priority=backlog.priority) "
                "FROM backlog JOIN function ON function.id=function_id WHERE jobs > 0"
            )
        ]

    def window(
        self, function: bytes, priority: int, *, after: int, through: int, limit: int, inline: int, state: int = READY
    ) -> list[JobRecord]:
        rows = self._read(
            f"SELECT {_COLUMNS}, CASE WHEN length(payload) <= ? THEN payload END FROM job "  # noqa: S608 - constants
            "WHERE function_id=? AND priority=? AND id > ? AND id <= ? ORDER BY id LIMIT ?",
            (inline, self._functions.get(function), priority, after, through, limit),
        )
        return [
            JobRecord(number, function, priority, unique, join_key, submitted, attempts, payload, size)
            for number, unique, join_key, submitted, attempts, size, payload in rows
        ]

    def payload(self, function: bytes, priority: int, number: int, state: int = READY) -> bytes | None:
        rows = self._read(
            "SELECT payload FROM job WHERE function_id=? AND priority=? AND id=?",
            (self._functions.get(function), priority, number),
        )
        return rows[0][0] if rows else None

    def joinable(self, function: bytes, key: bytes) -> JobRecord | None:
        return self._one(
            f"SELECT priority, {_COLUMNS} FROM job INDEXED BY job_join "  # noqa: S608 - constants
            "WHERE function_id=? AND join_key=? ORDER BY id DESC LIMIT 1",
            function,
            key,
        )

    def find(self, number: int) -> JobRecord | None:
        for backlog in self._read("SELECT name, priority FROM backlog JOIN function ON id=function_id WHERE jobs > 0"):
            record = self._one(
                f"SELECT priority, {_COLUMNS} FROM job "  # noqa: S608 - constants
                "WHERE function_id=? AND priority=? AND id=?",
                backlog[0],
                backlog[1],
                number,
            )
            if record:
                return record
        return None

    def by_due(self, state: int, *, after: tuple[int, int], limit: int) -> list[JobRecord]:
        return []

    def result(self, number: int) -> Result | None:
        return None

    def settings(self) -> dict[bytes, bytes]:
        return {}

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._reader.close()
        self._writer.close()
        os.close(self._lock)

    def _one(self, sql: str, function: bytes, *arguments: Any) -> JobRecord | None:
        for priority, number, unique, join_key, submitted, attempts, size in self._read(
            sql, (self._functions.get(function), *arguments)
        ):
            return JobRecord(number, function, priority, unique, join_key, submitted, attempts, None, size)
        return None

    def _read(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._reader.execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise TransientError(f"queue store {self._path} cannot be read: {error}") from error

    # -- opening -------------------------------------------------------------------------------------------------

    def _create_or_check(self) -> None:
        writer = self._writer
        writer.execute("PRAGMA journal_mode=WAL")
        if not writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            # One transaction: a crash in the middle leaves an empty file, not half a schema.
            meta = f"INSERT INTO meta VALUES ('format',{FORMAT}),('queue_id','{secrets.token_hex(16)}'),('next_id',1);"  # noqa: S608
            writer.executescript(f"BEGIN IMMEDIATE;{_SCHEMA.read_text()}{meta}COMMIT;")
        stored = dict(writer.execute("SELECT name, value FROM meta"))
        if stored.get("format") != FORMAT:
            self._refuse_format(stored.get("format"))
        self.queue_id: str = stored["queue_id"]
        self.next_id: int = stored["next_id"]
        # Names that only finished jobs used.
        writer.execute("DELETE FROM backlog WHERE jobs = 0")
        writer.execute("DELETE FROM function WHERE id NOT IN (SELECT function_id FROM backlog)")

    def _load_functions(self) -> None:
        self._functions = {name: number for number, name in self._writer.execute("SELECT id, name FROM function")}

    def _refuse_format(self, found: object) -> NoReturn:
        raise ConfigError(
            f"queue store {self._path} has format {found}, this syncbridge reads format {FORMAT}",
            hint="run the syncbridge version that wrote it, or point queue.store at a new file",
        )


def _insert(writer: sqlite3.Connection, rows: list[_Row]) -> None:
    """Many rows per statement: each statement hands the interpreter over to the event loop once, not once per row."""
    for start in range(0, len(rows), _INSERT_ROWS):
        some = rows[start : start + _INSERT_ROWS]
        sql = "INSERT INTO job VALUES " + ",".join([_ROW] * len(some))  # noqa: S608 - question marks
        writer.execute(sql, list(chain.from_iterable(some)))


def _count(counts: list[int], jobs: int, size: int) -> None:
    counts[0] += jobs
    counts[1] += size


def _connect(path: Path) -> sqlite3.Connection:
    # Explicit transactions only; each connection is used by one thread at a time, not by the one that opened it.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute("PRAGMA cache_size=-65536")
    return connection


def _lock(path: Path) -> int:
    """Hold `<path>.lock` as long as this process lives; the kernel lets go of it however the process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"queue store {path} cannot be created: {error.strerror}",
            hint="point queue.store at a folder that this user may write",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise TransientError(
            f"queue store {path} is in use by another process",
            hint="stop the other syncbridge server, or give this one a store of its own",
        ) from None
    return descriptor
