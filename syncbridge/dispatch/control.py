"""Control: what people do to functions and to single jobs. Lanes refuse most of it: their mirror would miss changes."""

from __future__ import annotations

from syncbridge.dispatch.batch import Batches
from syncbridge.dispatch.endings import Endings
from syncbridge.dispatch.function import FULL, PAUSED
from syncbridge.dispatch.handles import Handles
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.intake import Intake
from syncbridge.dispatch.job import Client, Job, JobRecord
from syncbridge.dispatch.policy import Policies
from syncbridge.dispatch.promotion import Promotion
from syncbridge.dispatch.reading import Reading
from syncbridge.dispatch.schedule import Schedule
from syncbridge.dispatch.sleepers import Sleepers
from syncbridge.dispatch.store import DEAD, READY, SCHEDULED, JobKey

#: Setting in the store, followed by a name: this function is paused.
_PAUSED = b"paused\0"


class Control:
    """Methods that take a record trust that it was read just now (they are called from a read's `then`)."""

    __slots__ = (
        "_batches",
        "_endings",
        "_handles",
        "_holdings",
        "_intake",
        "_promotion",
        "_reading",
        "_schedule",
        "_sleepers",
    )

    def __init__(
        self,
        holdings: Holdings,
        sleepers: Sleepers,
        batches: Batches,
        endings: Endings,
        reading: Reading,
        intake: Intake,
        promotion: Promotion,
        schedule: Schedule,
        handles: Handles,
    ) -> None:
        self._holdings = holdings
        self._sleepers = sleepers
        self._batches = batches
        self._endings = endings
        self._reading = reading
        self._intake = intake
        self._promotion = promotion
        self._schedule = schedule
        self._handles = handles

    # -- jobs ----------------------------------------------------------------------------------------------------

    def cancel(self, handle: bytes, now: float) -> bool:
        """Take a job out, running or not: its clients get WORK_FAIL, its worker's report will be unknown. False: no
        such job in memory (see cancel_anywhere), or one of a lane, which nothing may take out."""
        self._holdings.now = now
        job = self._holdings.jobs.get(self._handles.number(handle) or 0)
        return job is not None and self.cancel_job(job)

    def cancel_job(self, job: Job) -> bool:
        """The same, by a job in memory or one that stored_only() gave."""
        if job.function.lane or not (job.queued or job.worker or job.spilled or job in self._schedule):
            return False
        self._endings.cancel(job)
        return True

    def cancel_anywhere(self, client: Client, handle: bytes, now: float, *, done: bytes, unknown: bytes) -> None:
        """cancel(), also of a job that only the store has; the client gets `done` or `unknown` in its turn."""
        number = self._handles.number(handle)
        if self.cancel(handle, now):
            self._intake.answer(client, done)
        elif number is None or number >= self._intake.next_id or number in self._holdings.jobs:
            self._intake.answer(client, unknown)
        else:
            wanted = number

            def reply(record: JobRecord | None) -> bytes:
                return done if self.cancel(handle, now) or self._cancel_stored(record) else unknown

            self._intake.ask(client, lambda store: store.find(wanted), reply)

    def _cancel_stored(self, record: JobRecord | None) -> bool:
        job = self.stored_only(record)
        return job is not None and self.cancel_job(job)

    def stored_only(self, record: JobRecord | None) -> Job | None:
        """A queued or scheduled job that was just read (in a read's `then`), if memory does not know it better."""
        if record is None or record.state == DEAD or not self._reading.is_stored_only(record):
            return None
        job = self._holdings.from_record(self._holdings.function(record.function), record)
        job.spilled = True
        return job

    def is_outdated(self, record: JobRecord) -> bool:
        """A row that was just read no longer says where its job is."""
        return self._batches.outdated(record.id, record.function, record.state)

    def requeue(self, number: int, record: JobRecord | None) -> bool:
        """A scheduled job or a dead letter is queued now. `record`: what was just read of it. False: it is neither."""
        job = self._holdings.jobs.get(number)
        if job is None and record is not None and record.state != READY and not self.is_outdated(record):
            function = self._holdings.function(record.function)
            if function.name not in self._holdings.functions:
                return False
            job = self._holdings.from_record(function, record)
            job.spilled = record.state == SCHEDULED
            self._holdings.remember(job)
        if job is None or not self._endings.requeue(job):
            return False
        self._promotion.offer(job)
        return True

    def remove_dead(self, record: JobRecord) -> bool:
        """Delete a dead letter that was just read. False: it is none any more."""
        if record.state != DEAD or record.id in self._holdings.jobs or self.is_outdated(record):
            return False
        self._batches.gathering.changes.removes[record.id] = JobKey(record.function, record.priority, record.size, DEAD)
        self._holdings.dead -= 1
        return True

    # -- functions -----------------------------------------------------------------------------------------------

    def create(self, name: bytes) -> bool:
        """Know this function, as if somebody had submitted to it. False: there are too many."""
        self._holdings.function(name)
        return name in self._holdings.functions

    def drop(self, name: bytes) -> str:
        """Forget a function: `ok`, `unknown`, or `busy` while it has jobs or workers."""
        function = self._holdings.functions.get(name)
        if function is None:
            return "unknown"
        if function.total or function.workers or function.arriving:
            return "busy"
        self.resume(name)
        self._holdings.forget_function(function)
        return "ok"

    def set_max_queued(self, name: bytes, high: int, normal: int, low: int) -> None:
        """Refuse submits of a priority while the function has so many jobs; 0 or less: no limit. Until a restart."""
        function = self._holdings.function(name)
        limits = max(high, 0), max(normal, 0), max(low, 0)
        function.max_queued = limits if any(limits) else None

    def pause(self, name: bytes) -> bool:
        """Hand out nothing of this function until resume(), also after a restart. False: there are too many."""
        function = self._holdings.function(name)
        if name not in self._holdings.functions:
            return False
        self._holdings.close(function, PAUSED)
        self._batches.gathering.changes.settings[_PAUSED + name] = b"1"
        return True

    def resume(self, name: bytes) -> bool:
        """False: it was not paused."""
        function = self._holdings.functions.get(name)
        if function is None or not function.closed & PAUSED:
            return False
        self._batches.gathering.changes.settings[_PAUSED + name] = None
        self._sleepers.reopen(function, PAUSED)
        return True

    def set_policies(self, policies: Policies) -> None:
        """Other policies hold from now on, also for jobs that wait. What `maxqueue` said is forgotten."""
        self._holdings.policies = policies
        for function in self._holdings.functions.values():
            policy = policies.of(function.name)
            function.set_policy(policy)
            if policy.running and len(function.running) >= policy.running:
                self._holdings.close(function, FULL)
            else:
                self._sleepers.reopen(function, FULL)

    def load(self, settings: dict[bytes, bytes]) -> None:
        """Functions that were paused stay so."""
        for key in settings:
            if key.startswith(_PAUSED):
                self._holdings.close(self._holdings.function(key.removeprefix(_PAUSED)), PAUSED)
