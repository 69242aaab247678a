"""Lanes: which lane a row belongs to, and how its events are cut into jobs (DESIGN section 5, "Jobs are batched").

A row keeps its lane for life, so that its changes stay in order. Nothing here touches a socket: jobs go to a LaneQueue.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import orjson

from syncbridge.event import Event, encode_job
from syncbridge.seams import LaneQueue

#: A job is cut when it holds this many events, or about this many bytes of binlog.
MAX_EVENTS = 500
MAX_BYTES = 256 * 1024


def lane_of(db: str, table: str, key: list[Any], lanes: int) -> int:
    """The lane of a row: stable across restarts and hosts."""
    return zlib.crc32(orjson.dumps([db, table, *key])) % lanes


class Lanes:
    """Collects events for each lane and submits them as jobs."""

    def __init__(
        self,
        queue: LaneQueue,
        count: int,
        max_packet: int,
        *,
        slim: Callable[[Event], Event],
        refuse: Callable[[Event, int], None],
    ) -> None:
        """`slim` answers a lighter form of an event that is too large for a job, itself where there is none; such an
        event is `refuse`d, with its bytes, and the lane goes on (DESIGN P5)."""
        self.count = count
        self._queue = queue
        self._slim = slim
        self._refuse = refuse
        self._max_job = max_packet - 1024  # function name and packet header
        self._events: list[list[Event]] = [[] for _ in range(count)]
        self._bytes = [0] * count
        #: Sequence number of the last job submitted.
        self.submitted = 0

    def add(self, lane: int, event: Event, size: int) -> None:
        """Put an event into its lane; `size`: about how many bytes it weighs."""
        events = self._events[lane]
        if events and self._bytes[lane] + size > MAX_BYTES:
            self._flush(lane)
            events = self._events[lane]
        events.append(event)
        self._bytes[lane] += size
        if len(events) >= MAX_EVENTS:
            self._flush(lane)

    def flush(self) -> int:
        """Submit whatever is collected. Everything added before is covered by the sequence number returned."""
        for lane, events in enumerate(self._events):
            if events:
                self._flush(lane)
        return self.submitted

    def clear(self) -> None:
        """Forget what is collected but not submitted: capture will read it again."""
        self._events = [[] for _ in range(self.count)]
        self._bytes = [0] * self.count

    def _flush(self, lane: int) -> None:
        events = self._events[lane]
        self._events[lane] = []
        self._bytes[lane] = 0
        self._submit(lane, events)

    def _submit(self, lane: int, events: list[Event]) -> None:
        workload = encode_job(events)
        if len(workload) <= self._max_job:
            self.submitted = self._queue.submit(lane, workload)
        elif len(events) > 1:  # JSON weighs more than the binlog: cut again
            middle = len(events) // 2
            self._submit(lane, events[:middle])
            self._submit(lane, events[middle:])
        else:
            (event,) = events
            slim = self._slim(event)
            if slim is not event:
                self._submit(lane, [slim])
            else:
                self._refuse(event, len(workload))
