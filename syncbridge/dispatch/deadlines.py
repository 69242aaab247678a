"""Deadlines of running jobs: which ones ran out. A heap; jobs that end in time leave entries that are swept later."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count

from syncbridge.dispatch.job import Job

#: (deadline by the clock of `now`, tie-breaker, job).
Alarm = tuple[float, int, Job]

#: Below this many dead entries the heap is not cleaned up.
_MIN_GARBAGE = 64


class Deadlines:
    """A job has at most one deadline; `job.alarm` tells the live entry from dead ones."""

    __slots__ = ("_garbage", "_heap", "_numbers")

    def __init__(self) -> None:
        self._heap: list[Alarm] = []
        self._numbers = count()
        self._garbage = 0

    def set(self, job: Job, deadline: float) -> None:
        """Give the job a deadline, in place of the one it may have."""
        self.clear(job)
        job.alarm = (deadline, next(self._numbers), job)
        heappush(self._heap, job.alarm)

    def clear(self, job: Job) -> None:
        if job.alarm is None:
            return
        job.alarm = None
        self._garbage += 1
        if self._garbage > _MIN_GARBAGE and self._garbage * 2 > len(self._heap):
            self._heap = [alarm for alarm in self._heap if alarm[2].alarm is alarm]
            heapify(self._heap)
            self._garbage = 0

    def pop(self, now: float) -> Job | None:
        """A job whose deadline is over; it no longer has one."""
        if self.next() is None or self._heap[0][0] > now:
            return None
        job = heappop(self._heap)[2]
        job.alarm = None
        return job

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap and self._heap[0][2].alarm is not self._heap[0]:
            heappop(self._heap)
            self._garbage -= 1
        return self._heap[0][0] if self._heap else None
