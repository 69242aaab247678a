"""How a chunk is placed in the binlog, so that it holds every change before its place (DESIGN P3).

By a watermark row committed before it is read; or, where we may write none, by a binlog position that the read view is
known to contain. Used by the threads of ChunkReader, on their connections; the loop decides when a place is reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from syncbridge.capture.connection import MARIADB, Server, current_position, fetch_one
from syncbridge.capture.sql import statements
from syncbridge.capture.start import file_number
from syncbridge.errors import ConfigError, TransientError

#: How long transactions that have their GTID but are not committed yet may hold up a chunk, seconds.
COMMIT_SECONDS = 30.0
_SQL = statements("heartbeat")


@dataclass(frozen=True, slots=True)
class Place:
    """A binlog position between two transactions: the chunk holds all before it."""

    file: str
    pos: int

    @property
    def order(self) -> tuple[int, int]:
        return file_number(self.file), self.pos


#: Waits so many seconds, and answers whether to give up.
Interrupted = Callable[[float], bool]


class Placing(Protocol):
    """How one reader places its chunks: `begin` and `settle` before the read view is made, `end` when it is read.

    Readers begin one after another, in the order of their tokens, and settle each by itself.
    """

    def begin(self, reader: Any, catalog: Any, token: int) -> Place | None:
        """Place the chunk that `reader` reads next; None: at the watermark row with this token."""

    def settle(self, catalog: Any) -> None:
        """Wait until a read view made from now on has all before the place."""

    def end(self, reader: Any) -> None: ...

    def close(self) -> None: ...


class WatermarkRows:
    """Commits a row, and waits until the server that is read shows it: it may be a replica."""

    def __init__(self, pipeline: str, connect: Callable[[], Any], interrupted: Interrupted) -> None:
        self._pipeline = pipeline
        self._connect = connect
        self._interrupted = interrupted
        self._writer: Any = None
        self._token = 0

    def begin(self, reader: Any, catalog: Any, token: int) -> None:
        self._token = token
        self._writer = self._writer or self._connect()
        with self._writer.cursor() as cursor:
            cursor.execute(_SQL["write-watermark"], (self._pipeline, token, time.time_ns() // 1000))

    def settle(self, catalog: Any) -> None:
        while fetch_one(catalog, _SQL["see-watermark"], (self._pipeline, self._token)) is None:
            if self._interrupted(0.02):
                raise TransientError("the watermark was not waited for: the source is another server now")

    def end(self, reader: Any) -> None:
        """Nothing to do."""

    def close(self) -> None:
        if self._writer is not None:
            self._writer._force_close()
            self._writer = None


class SnapshotPositions:
    """MariaDB: a transaction whose read view and binlog position the server itself keeps consistent."""

    def begin(self, reader: Any, catalog: Any, token: int) -> Place:
        with reader.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            cursor.execute("SHOW STATUS LIKE 'binlog_snapshot_%'")
            status = {name.decode().lower(): value.decode() for name, value in cursor.fetchall()}
        return Place(status["binlog_snapshot_file"], int(status["binlog_snapshot_position"]))

    def settle(self, catalog: Any) -> None:
        """Nothing to wait for: the read view is made."""

    def end(self, reader: Any) -> None:
        if reader.open:  # else it was closed in the middle of wide rows
            reader.commit()

    def close(self) -> None:
        """Nothing to do."""


class CommittedPositions:
    """MySQL: the end of the binlog, once whatever may stand before it is committed in the engine.

    The binlog is written before the engine commits. But a transaction owns its GTID from before the one until after
    the other: when none is owned any more of those owned after the end was asked for, all before the end is visible.
    """

    def __init__(self, server: Server, interrupted: Interrupted) -> None:
        self._server = server
        self._interrupted = interrupted
        self._waiting: frozenset[str] = frozenset()

    def begin(self, reader: Any, catalog: Any, token: int) -> Place:
        position = current_position(catalog, self._server)
        self._waiting = self._owned(catalog)
        return Place(position.file, position.pos)

    def settle(self, catalog: Any) -> None:
        waiting = self._waiting
        deadline = time.monotonic() + COMMIT_SECONDS
        while waiting := waiting & self._owned(catalog):
            if self._interrupted(0.002) or time.monotonic() > deadline:
                raise TransientError(
                    f"{len(waiting)} transactions hold a GTID and do not commit",
                    hint="see SELECT @@global.gtid_owned, and SHOW PROCESSLIST",
                )

    def _owned(self, catalog: Any) -> frozenset[str]:
        row = fetch_one(catalog, "SELECT @@global.gtid_owned")
        return owned_gtids(str(row[0] or "")) if row else frozenset()

    def end(self, reader: Any) -> None:
        """Nothing to do: every SELECT has a read view of its own."""

    def close(self) -> None:
        """Nothing to do."""


def owned_gtids(text: str) -> frozenset[str]:
    """The members of @@global.gtid_owned, `uuid:5#12:6#13, uuid:…`: each a GTID and the thread that owns it. Pure."""
    owned: set[str] = set()
    for part in text.replace("\n", "").split(","):
        uuid, *numbers = part.strip().split(":")
        owned.update(f"{uuid}:{number}" for number in numbers)
    return frozenset(owned)


def placing_without_rows(server: Server, interrupted: Interrupted) -> Placing:
    """The placing for a source that takes no rows of ours. Raises ConfigError where there is none."""
    if server.flavor == MARIADB:
        return SnapshotPositions()
    if not server.gtid:
        raise ConfigError(
            "source takes no watermark rows and has gtid_mode OFF, so its tables cannot be read consistently",
            hint="GRANT CREATE, SELECT, INSERT, UPDATE ON syncbridge.* TO the account, set source.write_url to the"
            " primary, or switch gtid_mode to ON",
        )
    return CommittedPositions(server, interrupted)
