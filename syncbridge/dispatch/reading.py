"""Reading ahead: what the core wants to know from the store, and what becomes of the answers.

The core never waits for the store. It lists reads; whoever drives it runs them in another thread and hands the
results back. Meanwhile the store goes on changing: what a read says of a job counts only where no later change
contradicts it (batch.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from syncbridge.dispatch.batch import Batches, key_of
from syncbridge.dispatch.endings import Endings
from syncbridge.dispatch.function import READING, Function
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.job import Job, JobRecord
from syncbridge.dispatch.line import Line
from syncbridge.dispatch.schedule import Place, Schedule
from syncbridge.dispatch.sleepers import Sleepers
from syncbridge.dispatch.store import DEAD, READY, SCHEDULED, UNREADABLE, JobKey, JobStore, Move
from syncbridge.dispatch.worker import Worker
from syncbridge.errors import SyncbridgeError

logger = logging.getLogger(__name__)

#: Jobs read from the store per refill, and the payload size up to which they come along.
_REFILL = 512
_INLINE = 4096
#: Payloads read ahead of a line whose jobs lack them: so many, up to so many bytes, and at least one.
_AHEAD = 64
_AHEAD_BYTES = 1 << 20
#: What the store could not give is asked for again after this time, seconds.
_STORE_PAUSE = 1.0


class Read(NamedTuple):
    """One look into the store."""

    #: Runs in the reader thread, touches nothing of the core.
    ask: Callable[[JobStore], Any]
    #: Gets what `ask` returned, in the event loop.
    then: Callable[[Any], None]
    #: Instead of `then`, when the store cannot be read.
    failed: Callable[[SyncbridgeError], None]


class Reading:
    """`wanted` grows until take(); one set of reads at a time."""

    __slots__ = (
        "_batches",
        "_complained",
        "_endings",
        "_holdings",
        "_schedule",
        "_schedule_retry",
        "_sleepers",
        "blocking",
        "busy",
        "waiting",
        "wanted",
    )

    def __init__(
        self, holdings: Holdings, sleepers: Sleepers, batches: Batches, endings: Endings, schedule: Schedule
    ) -> None:
        self._holdings = holdings
        self._sleepers = sleepers
        self._batches = batches
        self._endings = endings
        self._schedule = schedule
        self._schedule_retry = 0.0
        self._complained = False
        self.wanted: list[Read] = []
        #: Functions that hand out nothing until a read is done, and the workers that wait for that.
        self.blocking: set[Function] = set()
        self.waiting: dict[Worker, None] = {}
        #: Reads were taken and are not done.
        self.busy = False

    def take(self) -> list[Read]:
        """The reads to run now, in order."""
        if self.busy or not self.wanted:
            return []
        self.busy = True
        self._batches.reads_begin()
        reads, self.wanted = self.wanted, []
        return reads

    def done(self, outcomes: Sequence[tuple[Read, Any]]) -> None:
        """Every read taken, with what it returned or the error it raised."""
        for read, outcome in outcomes:
            try:
                if isinstance(outcome, SyncbridgeError):
                    read.failed(outcome)
                else:
                    self._complained = False
                    read.then(outcome)
            except Exception:  # the others shall not wait for ever
                logger.exception("what was read could not be taken in")
        self.busy = False
        self._batches.reads_end()

    # -- lines ---------------------------------------------------------------------------------------------------

    def next_missing(self, function: Function, line: Line) -> None:
        """The next job of the line, or its payload, is not in memory: hand out nothing until it is."""
        self._holdings.close(function, READING)
        self.blocking.add(function)
        if line.head() is None:
            self.want_window(function, line)
        else:
            self._want_payloads(function, line)

    def await_for(self, worker: Worker) -> None:
        """The worker got nothing: note whether that is only because a read is under way."""
        for function in worker.functions:
            if function.closed == READING and (not function.lane or function.holder in (None, worker)):
                worker.waits = True
                self.waiting[worker] = None
                return

    def keep_ahead(self, function: Function, line: Line) -> None:
        """A job was taken: see that the next ones are there in time."""
        if line.reading:
            return
        if line.on_disk and len(line.ready) * 2 < _REFILL:
            self.want_window(function, line)
        elif line.lean and line.ready:
            middle = min(_AHEAD // 4, len(line.ready) - 1)
            if line.ready[middle].payload is None:
                self._want_payloads(function, line)

    def want_window(self, function: Function, line: Line, limit: int = 0) -> None:
        """`limit`: jobs to read, 0 for as many as are good to have in memory."""
        if line.reading:
            return
        line.reading = True
        limits = self._holdings.limits
        limit = limit or (_REFILL if len(self._holdings.jobs) < limits.windows else min(_REFILL, limits.small_window))
        name, priority = function.name, function.lines.index(line)
        after, through = line.loaded, line.last
        self.wanted.append(
            Read(
                lambda store: store.window(name, priority, after=after, through=through, limit=limit, inline=_INLINE),
                lambda records: self._window(function, line, through, limit, records),
                lambda error: self._line_failed(function, line, error),
            )
        )

    def _window(self, function: Function, line: Line, through: int, limit: int, records: list[JobRecord]) -> None:
        line.reading = False
        priority, queued = function.lines.index(line), function.queued
        jobs = []
        for record in records:
            if not self.is_stored_only(record):
                continue
            if record.size == UNREADABLE or record.size > self._holdings.limits.max_packet:
                line.forget_stored()
                self._holdings.count_queued(function, priority, -1)
                self._set_aside(function, record)
            else:
                jobs.append(self._recall(function, record))
        missing = line.refill(jobs, records[-1].id if len(records) == limit else through)
        if missing:
            logger.error("%d jobs of %s are gone from the store", missing, function.name)
            self._holdings.count -= missing
            # The line has uncounted them already.
            function.queued -= missing
            if not function.closed:
                self._holdings.available[priority] -= missing
        if queued and not function.queued:
            self._endings.after_running(function)
        self._arrived(function, len(jobs))

    def _want_payloads(self, function: Function, line: Line) -> None:
        if line.reading:
            return
        holdings, size = self._holdings, 0
        jobs: list[Job] = []
        for job in line.ahead(_AHEAD):
            if job.payload is None:
                size += job.size
                if jobs and (size > _AHEAD_BYTES or size + holdings.payload_bytes > holdings.limits.memory):
                    break
                jobs.append(job)
        line.lean = line.reading = bool(jobs)
        if not jobs:
            return
        wanted = [(job.id, [key_of(job), *self._batches.former_places(job.id), key_of(job)]) for job in jobs]
        self.wanted.append(
            Read(
                lambda store: [_payload(store, number, places) for number, places in wanted],
                lambda payloads: self._payloads(function, line, jobs, payloads),
                lambda error: self._line_failed(function, line, error),
            )
        )

    def _payloads(self, function: Function, line: Line, jobs: list[Job], payloads: list[bytes | None]) -> None:
        line.reading = False
        arrived = 0
        for job, payload in zip(jobs, payloads, strict=True):
            if not job.queued or job.payload is not None:
                continue
            if payload is not None:
                job.payload = payload
                self._holdings.payload_bytes += job.size
                arrived += 1
            else:
                logger.error("job %d of %s is gone from the store", job.id, function.name)
                self._endings.unqueue(job)
                self._endings.leave(job)
        self._arrived(function, arrived)

    def _arrived(self, function: Function, jobs: int) -> None:
        if function.closed & READING:
            self._unblock(function)
            jobs = max(jobs, 1)
        if function.sleepers:
            self._sleepers.wake_for(function, jobs)

    def _line_failed(self, function: Function, line: Line, error: SyncbridgeError) -> None:
        line.reading = False
        self._complain(f"jobs of {function.name!r} wait", error)
        self._sleepers.rest(function, self._holdings.now + _STORE_PAUSE)
        self._unblock(function)

    def _unblock(self, function: Function) -> None:
        self._holdings.open(function, READING)
        self.blocking.discard(function)

    # -- the schedule --------------------------------------------------------------------------------------------

    def keep_schedule(self) -> float | None:
        """Read the next page of the schedule when it is needed; returns when to try again after a failure."""
        schedule = self._schedule
        if not schedule.hungry:
            return None
        if self._holdings.now < self._schedule_retry:
            return self._schedule_retry
        schedule.reading = True
        horizon, limit = schedule.horizon, _REFILL
        self.wanted.append(
            Read(
                lambda store: store.by_due(SCHEDULED, after=horizon, limit=limit),
                lambda records: self._page(limit, records),
                self._schedule_failed,
            )
        )
        return None

    def _page(self, limit: int, records: list[JobRecord]) -> None:
        self._schedule.reading = False
        jobs = []
        for record in records:
            if not self.is_stored_only(record):
                continue
            function = self._holdings.function(record.function)
            function.scheduled_on_disk -= 1
            if record.size == UNREADABLE or record.size > self._holdings.limits.max_packet:
                function.scheduled -= 1
                self._schedule.on_disk -= 1
                self._set_aside(function, record)
            else:
                job = self._recall(function, record)
                job.due = record.due
                jobs.append(job)
        last: Place | None = (records[-1].due, records[-1].id) if len(records) == limit else None
        missing = self._schedule.page(jobs, last)
        if missing:
            logger.error("%d scheduled jobs are gone from the store", missing)

    def _schedule_failed(self, error: SyncbridgeError) -> None:
        self._schedule.reading = False
        self._schedule_retry = self._holdings.now + _STORE_PAUSE
        self._complain("scheduled jobs wait", error)

    def _complain(self, what: str, error: SyncbridgeError) -> None:
        """Once, until a read succeeds."""
        if not self._complained:
            self._complained = True
            logger.warning("%s: %s", what, error)

    # -- records -------------------------------------------------------------------------------------------------

    def is_stored_only(self, record: JobRecord) -> bool:
        """Not one that memory knows better, nor one that is over or went elsewhere."""
        job = self._holdings.jobs.get(record.id)
        if job is not None:
            return job.spilled and job.state == record.state
        if self._batches.arriving(record.id):
            return False
        return not self._batches.outdated(record.id, record.function, record.state)

    def _recall(self, function: Function, record: JobRecord) -> Job:
        holdings = self._holdings
        job = holdings.jobs.get(record.id) or holdings.from_record(function, record)
        job.spilled, job.queued = False, record.state == READY
        if record.payload is not None and job.payload is None and holdings.payload_bytes <= holdings.limits.memory:
            job.payload = record.payload
            holdings.payload_bytes += job.size
        holdings.remember(job)
        return job

    def _set_aside(self, function: Function, record: JobRecord) -> None:
        """A row that is no use as it is becomes a dead letter."""
        holdings = self._holdings
        reason = "cannot be read" if record.size == UNREADABLE else f"is too large to be sent: {record.size} bytes"
        logger.error("job %d of %s %s: set aside as a dead letter", record.id, function.name, reason)
        key = JobKey(record.function, record.priority, record.size, record.state)
        note = f"the stored job {reason}".encode()
        self._batches.gathering.changes.moves[record.id] = Move(
            key, record.function, record.attempts, DEAD, holdings.clock(), note
        )
        function.tallies[record.priority].dead += 1
        holdings.touched.add(function)
        holdings.count -= 1
        holdings.bytes -= max(record.size, 0)
        holdings.dead += 1


def _payload(store: JobStore, number: int, places: list[JobKey]) -> bytes | None:
    """Its row may be on its way from one place to another while we look."""
    for place in places:
        payload = store.payload(place.function, place.priority, number, place.state)
        if payload is not None:
            return payload
    return None
