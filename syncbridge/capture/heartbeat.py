"""Heartbeats: a row written on the source every second, followed through the binlog and every lane (DESIGN P6).

The thread writes rows; capture hands each one it meets in the binlog to every lane as a probe and reports the answers
here. Both ends are timed by this process's monotonic clock, so no clock skew can flatter the lag.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from syncbridge import metrics
from syncbridge.capture.connection import is_read_only, source_errors
from syncbridge.capture.sql import statements
from syncbridge.errors import ConfigError, PermanentError, SyncbridgeError

log = logging.getLogger(__name__)


def create_tables(connection: Any) -> None:
    """Create our schema and its tables on the source where they are missing."""
    sql = statements("heartbeat")
    with source_errors(), connection.cursor() as cursor:
        for name in ("create-schema", "create-heartbeat", "create-watermark"):
            try:
                cursor.execute(sql[name])
            except Exception as denied:
                # An account that may write the tables but not create them is fine once somebody created them.
                try:
                    cursor.execute("SELECT 1 FROM syncbridge.heartbeat, syncbridge.watermark LIMIT 1")
                except Exception:
                    raise denied from None


def refusal(connection: Any, pipeline: str) -> str:
    """Why the source takes no rows of ours; "" where it does. Raises what any other failure means.

    A read-only server is never written to, not even where the account might: it would differ from its primary.
    """
    if is_read_only(connection):
        return "it is read-only"
    try:
        create_tables(connection)
        with source_errors(), connection.cursor() as cursor:
            cursor.execute(statements("heartbeat")["write-watermark"], (pipeline, 0, 0))
    except (ConfigError, PermanentError) as error:
        return str(error)
    return ""


def heartbeat_row(pipeline: str) -> Callable[[Any, int], None]:
    """Writes the pipeline's row of the heartbeat table, for HeartbeatWriter."""
    sql = statements("heartbeat")["write-heartbeat"]
    return lambda cursor, token: cursor.execute(sql, (pipeline, token, time.time_ns() // 1000))


class HeartbeatTracker:
    """Which heartbeats are on their way, and what the answered ones say about lag. Times are monotonic seconds."""

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._open: dict[int, tuple[float, float, set[int]]] = {}
        self._lock = threading.Lock()
        #: Sent by this process; a heartbeat row of an earlier process means nothing to us.
        self.session = random.getrandbits(31) << 32
        self._count = 0

    def written(self, now: float, wall: float) -> int:
        """A heartbeat is about to be written; answers its token."""
        with self._lock:
            self._count += 1
            token = self.session | self._count
            self._open[token] = (now, wall, set(range(self._lanes)))
            if len(self._open) > 10_000:  # hours without an answer: the oldest ones keep the lag honest
                del self._open[next(reversed(self._open))]
            return token

    def failed(self, token: int) -> None:
        """It could not be written after all."""
        with self._lock:
            self._open.pop(token, None)

    def ours(self, token: int) -> bool:
        with self._lock:
            return token in self._open

    def answered(self, lane: int, token: int, now: float) -> tuple[float, float] | None:
        """A lane carried a heartbeat. When it was the last lane: (lag in seconds, wall time it was written)."""
        with self._lock:
            entry = self._open.get(token)
            if entry is None:
                return None
            written, wall, missing = entry
            missing.discard(lane)
            if missing:
                return None
            for older in [other for other in self._open if other <= token]:
                del self._open[older]  # the lanes are in order: an older probe that got lost with a connection is moot
            return now - written, wall

    def age(self, token: int, now: float) -> float:
        with self._lock:
            entry = self._open.get(token)
            return 0.0 if entry is None else now - entry[0]


class HeartbeatWriter(threading.Thread):
    """Writes a heartbeat row every `interval` seconds; reconnects by itself; never stops capture."""

    def __init__(
        self, interval: float, tracker: HeartbeatTracker, connect: Callable[[], Any], write: Callable[[Any, int], None]
    ) -> None:
        """`write(cursor, token)` writes the row."""
        super().__init__(name="heartbeat", daemon=True)
        self._write_row = write
        self._interval = interval
        self._tracker = tracker
        self._connect = connect
        self._stopping = threading.Event()
        self._resetting = threading.Event()

    def run(self) -> None:
        metrics.HEARTBEAT_INTERVAL.set(self._interval)
        connection: Any = None
        complained = ""
        while not self._stopping.is_set():
            if self._resetting.is_set():
                self._resetting.clear()
                if connection is not None:
                    connection._force_close()
                    connection = None
            try:
                connection = connection or self._connect()
                self._write(connection)
                complained = ""
            except SyncbridgeError as error:
                if connection is not None:
                    connection.close()
                    connection = None
                if str(error) != complained:
                    complained = str(error)
                    log.warning("heartbeat not written: %s (%s)", error, error.hint or "trying again")
                if isinstance(error, (ConfigError, PermanentError)):
                    self._stopping.wait(10 * self._interval)
            self._stopping.wait(self._interval)
        if connection is not None:
            connection.close()

    def _write(self, connection: Any) -> None:
        token = self._tracker.written(time.monotonic(), time.time())
        try:
            with source_errors(), connection.cursor() as cursor:
                self._write_row(cursor, token)
        except SyncbridgeError:
            self._tracker.failed(token)
            raise

    def reset(self) -> None:
        """Open a new connection for the next row: the source may be another server now."""
        self._resetting.set()

    def stop(self) -> None:
        """Ask it to end; it is a daemon, so nobody need wait."""
        self._stopping.set()


def record(lane: int, lag: tuple[float, float] | None, lane_age: float) -> None:
    """Put what a probe's answer says into the metrics."""
    metrics.LANE_LAG.labels(str(lane)).set(lane_age)
    if lag is not None:
        metrics.HEARTBEAT_LAG.set(lag[0])
        metrics.HEARTBEAT_PROVED.set(lag[1])
