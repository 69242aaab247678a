"""Promotion: jobs whose time has come go from the schedule into their lines."""

from __future__ import annotations

from syncbridge.dispatch.batch import Batches
from syncbridge.dispatch.endings import Endings
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.job import Job
from syncbridge.dispatch.reading import Reading
from syncbridge.dispatch.schedule import Schedule
from syncbridge.dispatch.sleepers import Sleepers

#: Jobs that become due in one tick; the others a moment later.
_DUE_AT_ONCE = 1000


class Promotion:
    """promote() as often as you like."""

    __slots__ = ("_batches", "_endings", "_holdings", "_reading", "_schedule", "_sleepers")

    def __init__(
        self,
        holdings: Holdings,
        sleepers: Sleepers,
        batches: Batches,
        endings: Endings,
        reading: Reading,
        schedule: Schedule,
    ) -> None:
        self._holdings = holdings
        self._sleepers = sleepers
        self._batches = batches
        self._endings = endings
        self._reading = reading
        self._schedule = schedule

    def promote(self, now: float) -> float | None:
        """Scheduled jobs that are due become queued; returns when the next will be."""
        schedule = self._schedule
        if not schedule:
            return None
        clock = self._holdings.clock()
        for _ in range(_DUE_AT_ONCE):
            job = schedule.pop(clock)
            if job is None:
                break
            self._is_due(job)
        due = schedule.next()
        return None if due is None else max(now, due / 1e6 - self._holdings.epoch)

    def _is_due(self, job: Job) -> None:
        function = job.function
        function.scheduled -= 1
        self._endings.enqueue(job, function)
        line = function.lines[job.priority]
        self.offer(job)
        if job.stored and line.in_memory > 2 * self._holdings.limits.window:
            self._batches.move(job, function.name)
            self._batches.gathering.settled.append(job)

    def offer(self, job: Job) -> None:
        """A job came into its line from elsewhere."""
        function = job.function
        line = function.lines[job.priority]
        self._holdings.touched.add(function)
        if function.sleepers and not function.closed:
            head = line.head()
            if head is None or head.payload is None:
                self._reading.next_missing(function, line)
            else:
                self._sleepers.wake_one(function)
