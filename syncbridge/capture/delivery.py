"""From events to durable jobs: lanes, the queue's answers, barriers, heartbeats on their way (DESIGN P1, P2, P6).

What capture from the binlog and capture from triggers have in common. Runs in capture's one thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from syncbridge import metrics
from syncbridge.capture.changes import ReadRows, Shape, Transaction, event
from syncbridge.capture.heartbeat import HeartbeatTracker, record
from syncbridge.capture.lanes import Lanes, lane_of
from syncbridge.capture.oversize import Oversize
from syncbridge.capture.progress import Progress
from syncbridge.capture.stopping import StopFlag
from syncbridge.capture.tables import HEARTBEAT
from syncbridge.config import Config
from syncbridge.event import UPDATE, Event
from syncbridge.seams import LaneQueue
from syncbridge.state import State
from syncbridge.workload import encode_job

#: Payload bytes waiting for the queue at which reading pauses: the source is the buffer.
MAX_BACKLOG = 32 * 1024 * 1024
#: Longest wait for something to happen, seconds.
TICK = 0.05
#: Longest time between two looks whether the lanes are empty, seconds.
_LOOK = 0.02
#: How long a stop waits for the queue to accept what was read.
STOP_SECONDS = 5.0


class Stopped(Exception):
    """Stop was asked for in the middle of a barrier: it is met again after the restart."""


class Delivery:
    """Events in, durable jobs out. `queue` is polled only through here."""

    def __init__(self, config: Config, state: State, queue: LaneQueue, stop: StopFlag) -> None:
        self.queue = queue
        self.heartbeats = HeartbeatTracker(config.queue.lanes)
        self._pipeline = config.name
        self._stop = stop
        self._progress = Progress()
        self._captured: Counter[tuple[str, str]] = Counter()
        oversize = Oversize(config, state)
        self.lanes = Lanes(
            queue, config.queue.lanes, config.queue.max_packet, slim=oversize.slim, refuse=oversize.refuse
        )

    def emit(self, one: Event, size: int) -> None:
        """Put an event into its lane; `size`: about how many bytes it weighs."""
        source = one["source"]
        lane = lane_of(source["db"], source["table"], list(one["key"].values()), self.lanes.count)
        self.lanes.add(lane, one, size)

    def emit_reads(self, transaction: Transaction, shape: Shape, number: int, rows: ReadRows, weight: int) -> None:
        """Put rows of a snapshot into their lanes, see Lanes.add_reads."""
        self.lanes.add_reads(transaction, shape, number, rows, time.time_ns() // 1000, weight)

    def captured(self, shape: Shape, op: str, number: int = 1) -> None:
        """Row events were read. A metric costs as much as an event, so they are counted together, in hear()."""
        self._captured[shape.place, op] += number

    def when_durable(self, action: Callable[[], None]) -> None:
        """Flush the lanes; run `action` once everything emitted so far is durable in the queue."""
        self._progress.when_accepted(self.lanes.flush(), action)

    def hear(self, timeout: float) -> None:
        """Let the queue work for at most `timeout` seconds, and act on what it answers."""
        for (table, op), number in self._captured.items():
            metrics.EVENTS_CAPTURED.labels(table, op).inc(number)
        self._captured.clear()
        self.queue.poll(timeout)
        self._progress.accepted(self.queue.accepted)
        now = time.monotonic()
        for lane, token in self.queue.answered():
            age = self.heartbeats.age(token, now)
            record(lane, self.heartbeats.answered(lane, token, now), age)

    @property
    def full(self) -> bool:
        """The queue is behind: read no more for now."""
        return self.queue.backlog_bytes > MAX_BACKLOG

    def wait_for_room(self, idle: Callable[[float], None]) -> None:
        """Until half of the backlog is gone; `idle` lets the queue work."""
        while self.queue.backlog_bytes > MAX_BACKLOG // 2 and not self._stop.is_set():
            idle(TICK)

    def probe(self, token: int, transaction: Transaction, now_us: int) -> None:
        """Send a heartbeat through every lane, behind everything captured so far."""
        if not self.heartbeats.ours(token):
            return
        self.lanes.flush()
        shape = Shape(*HEARTBEAT, ("pipeline",), {})
        key: dict[str, Any] = {"pipeline": self._pipeline}
        version = transaction.version(0)
        one = event(transaction, shape, UPDATE, key, None, key | {"token": token}, now_us, version)
        workload = encode_job([one])
        for lane in range(self.lanes.count):
            self.queue.probe(lane, workload, token)

    def barrier(self, sweeps: Iterable[Event], idle: Callable[[float], None]) -> None:
        """Wait until the lanes are empty, submit sweeps, wait until they are done (DESIGN P2). Raises Stopped."""
        self.wait_until_empty(idle)
        for one in sweeps:
            self.lanes.add(0, one, 0)
        self.wait_until_empty(idle)

    def wait_until_empty(self, idle: Callable[[float], None]) -> None:
        """Until no lane has a job. Raises Stopped."""
        self.lanes.flush()
        pause = 0.0
        while self.queue.backlog or self.queue.pending():
            if self._stop.is_set():
                raise Stopped
            look_at = time.monotonic() + pause
            idle(_LOOK)
            if not self.queue.backlog:
                # A queue with nothing to say returns at once, and asking it without a pause would hold up its workers.
                time.sleep(max(0.0, look_at - time.monotonic()))
                pause = min(2 * pause + 0.001, _LOOK)

    def drain(self) -> None:
        """At stop: what was submitted becomes durable, within reason; the rest is captured again."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.queue.backlog and time.monotonic() < deadline:
            self.hear(TICK)
        self.hear(0)
