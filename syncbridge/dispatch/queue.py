"""The queue core: which job goes to which worker, and when. No socket, no clock: `now` is an argument (seconds).

A job's way, and the module of each step:

    submit() ─ intake ─ batch ─ commit ─► queued ──── grab() ─ assignment ──► running ─ endings ─► gone, or dead letter
                  │                       (line) ◄──────────────────────────────┤
                  └─────────────────────► scheduled ◄───────────────────────────┘ fail, time-out, worker lost
                                          (schedule)

Submitting and leaving are changes of the store. They gather in a batch; whoever drives the core takes it with take(),
commits it, and reports committed() or failed(). Only then is anything answered or handed out (DESIGN P1).
The core never calls the store: it lists what it wants to know (take_reads(), reads_done()), see reading.py.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.assignment import Assignment
from syncbridge.dispatch.batch import Answer, Batch, Batches
from syncbridge.dispatch.deadlines import Deadlines
from syncbridge.dispatch.endings import Endings
from syncbridge.dispatch.function import FULL as OCCUPIED
from syncbridge.dispatch.function import PAUSED, Function
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.housekeeping import Housekeeping
from syncbridge.dispatch.intake import FULL, RESERVE, Intake
from syncbridge.dispatch.job import Client, Job, JobRecord
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.policy import Policies
from syncbridge.dispatch.reading import Read, Reading
from syncbridge.dispatch.schedule import Schedule
from syncbridge.dispatch.sleepers import Sleepers
from syncbridge.dispatch.store import DEAD, READY, SCHEDULED, Changes, JobKey, JobStore
from syncbridge.dispatch.worker import Worker

__all__ = ["FULL", "FunctionStats", "JobQueue"]

#: Scheduled jobs that become due in one tick; the others a moment later.
_DUE_AT_ONCE = 1000
#: Setting in the store: the functions that are paused.
_PAUSED = b"paused\0"
_MAX_DIGITS = 18


class FunctionStats(NamedTuple):
    """One function at one moment."""

    #: Queued, scheduled and running.
    total: int
    running: int
    workers: int
    #: Seconds since the oldest job that is queued or running was submitted, 0.0 without jobs.
    oldest_age: float
    #: Queued by priority.
    queued: tuple[int, int, int] = (0, 0, 0)
    scheduled: int = 0
    paused: bool = False


class JobQueue:
    """The state of the server. Single-threaded; the methods never wait, and only the constructor uses the store.

    `epoch`: wall clock minus the clock of `now`, seconds, so that submit times survive a restart.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        limits: Limits | None = None,
        host: str = "",
        epoch: float = 0.0,
        policies: Policies | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.queue_id = store.queue_id
        # Clients keep handles in 64 bytes.
        self._prefix = f"H:{(host or socket.gethostname())[:32]}:".encode()
        self.holdings = Holdings(self.limits, policies or Policies(), epoch)
        self.functions = self.holdings.functions
        self._batches = Batches()
        self.schedule = Schedule(self.limits.schedule)
        self._deadlines = Deadlines()
        self._sleepers = Sleepers(self.holdings)
        self._endings = Endings(self.holdings, self._sleepers, self._batches, self.schedule, self._deadlines)
        self._reading = Reading(self.holdings, self._sleepers, self._batches, self._endings, self.schedule)
        self._assignment = Assignment(self.holdings, self._sleepers, self._reading, self._deadlines, self._prefix)
        self._intake = Intake(
            self.holdings, self._sleepers, self._batches, self._endings, self._reading, self.schedule, store.next_id
        )
        self._housekeeping = Housekeeping(self.holdings, self._batches, self._endings, self._reading)
        self._load(store)

    def _load(self, store: JobStore) -> None:
        intake, holdings = self._intake, self.holdings
        intake.reserved = intake.next_id + RESERVE
        store.commit(Changes(reserve=intake.reserved, expire_results=max(holdings.clock(), 1)))
        for name, priority, jobs, size, last_id, state in store.backlogs():
            if state == DEAD:
                holdings.dead += jobs
                continue
            function = holdings.function(name)
            if state == READY:
                line = function.lines[priority]
                line.count = line.on_disk = jobs
                line.last = last_id
                holdings.count_queued(function, priority, jobs)
            else:
                function.scheduled += jobs
                function.scheduled_on_disk += jobs
                self.schedule.on_disk += jobs
            holdings.count += jobs
            holdings.bytes += size
        for key in store.settings():
            if key.startswith(_PAUSED):
                holdings.close(holdings.function(key.removeprefix(_PAUSED)), PAUSED)

    # -- submitting ----------------------------------------------------------------------------------------------

    def submit(
        self,
        client: Client,
        name: bytes,
        priority: int,
        unique: bytes,
        payload: bytes,
        background: bool,
        now: float,
        *,
        reducer: bytes = b"",
        due: int = 0,
    ) -> None:
        """Take a job: a new one, one it joins, or none when refused. The client is told once its batch is through, in
        the order of its requests: created() or refused(). `due`: wall clock in microseconds, 0 for now."""
        self._intake.submit(client, name, priority, unique, payload, background, now, reducer, due)

    def answer(self, client: Client, reply: bytes | None) -> None:
        """Give the client a reply behind the answers to its earlier requests; None: refused, the queue is full."""
        self._intake.answer(client, FULL if reply is None else reply)

    def abandon(self, client: Client, job: Job) -> None:
        """The client went away. A foreground job nobody waits for is dropped; a background job stays."""
        self._intake.abandon(client, job)

    # -- group commit --------------------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        """Payload bytes that wait for the next commit, or for a read before it."""
        return self._batches.gathering.size + self._intake.waiting_size

    @property
    def answers_due(self) -> bool:
        """Somebody waits for the next commit, not only the store's own cleaning up."""
        return bool(self._batches.gathering.answers)

    @property
    def away(self) -> str:
        """Why the store could not be written the last time; empty: it could."""
        return self._intake.away

    def take(self) -> Batch | None:
        """What is to be committed next, or None. One batch at a time; while the store is away there always is one."""
        intake = self._intake
        if not self._batches.gathering and not intake.away:
            return None
        batch = self._batches.take()
        if intake.away or intake.next_id + RESERVE // 2 > intake.reserved:
            batch.changes.reserve = intake.next_id + RESERVE
        return batch

    def answer_without_store(self) -> None:
        """While the store is away: whatever needs no commit goes on, also while another attempt is under way."""
        self._intake.committed(self._batches.take_answers())

    def committed(self, batch: Batch) -> None:
        """The batch is durable: queue its jobs, answer its clients."""
        self._batches.end()
        intake = self._intake
        intake.reserved = max(intake.reserved, batch.changes.reserve)
        if batch.changes:
            intake.away = ""
        intake.committed(batch)

    def failed(self, batch: Batch, reason: str) -> None:
        """The store did not take the batch: refuse what it had to take, and refuse more of it until it is back; keep
        what must still leave the store."""
        self._batches.end()
        self._intake.away = reason
        self._intake.failed(batch, reason)
        if self.answers_due:
            self._intake.failed(self._batches.take(), reason)
            self._batches.end()

    # -- reading -------------------------------------------------------------------------------------------------

    def take_reads(self) -> list[Read]:
        """What the core wants to know, empty while earlier reads are under way. Run them in order in one thread."""
        reads = self._reading.take()
        if reads:
            self._intake.reads_begin()
        return reads

    @property
    def wants_reads(self) -> bool:
        """take_reads() would give some, now or after the present ones."""
        return bool(self._reading.wanted)

    def reads_done(self, outcomes: Sequence[tuple[Read, Any]], now: float) -> None:
        """All reads taken, each with what `ask` returned or the TransientError it raised."""
        self.holdings.now = now
        self._reading.done(outcomes)

    def take_waiting(self) -> list[Worker]:
        """After reads_done(): the workers whose grab() has to be tried again."""
        waiting, self._reading.waiting = self._reading.waiting, {}
        return list(waiting)

    def look(
        self, ask: Callable[[JobStore], Any], then: Callable[[Any], None], failed: Callable[[Exception], None]
    ) -> None:
        """One more read, for somebody who looks at the queue from outside."""
        self._reading.wanted.append(Read(ask, then, failed))

    # -- workers -------------------------------------------------------------------------------------------------

    def can_do(self, worker: Worker, name: bytes, timeout: float = 0.0) -> None:
        """The worker takes jobs of this function; `timeout`: seconds that it may take for each, 0: no limit."""
        function = self.holdings.function(name)
        if worker not in function.workers:
            function.workers[worker] = None
            worker.functions.append(function)
        if timeout > 0:
            worker.timeouts[function] = timeout
            function.timed = function.regulated = True
        else:
            worker.timeouts.pop(function, None)

    def cannot_do(self, worker: Worker, name: bytes) -> None:
        function = self.functions.get(name)
        if function is not None and worker in function.workers:
            worker.functions.remove(function)
            worker.cursor = 0
            self._sleepers.withdraw(worker, function)

    def reset_abilities(self, worker: Worker) -> None:
        functions, worker.functions, worker.cursor = worker.functions, [], 0
        for function in functions:
            self._sleepers.withdraw(worker, function)

    def pre_sleep(self, worker: Worker, now: float) -> None:
        """The worker waits for NOOP; it gets one at once if there is something for it."""
        worker.seen = now
        self._sleepers.pre_sleep(worker)

    def grab(self, worker: Worker, now: float) -> tuple[bytes, Job, bytes] | None:
        """The next job for this worker as (handle, job, payload): best priority over all its functions, then round
        robin over them, then oldest. None: NO_JOB; or, if `worker.waits`, try again when `worker.retry` is called."""
        return self._assignment.grab(worker, now)

    def disconnect(self, worker: Worker) -> None:
        """The worker is gone: its jobs return to their places, in order, and count one delivery without an answer."""
        worker.sleeping = worker.idle = False
        self.reset_abilities(worker)
        self._endings.lost(worker)

    def complete(self, worker: Worker, handle: bytes, data: bytes) -> bool:
        """WORK_COMPLETE: the job is done and leaves. False: not this worker's job."""
        return self._endings.complete(worker, handle, data)

    def fail(self, worker: Worker, handle: bytes, now: float, kind: int = p.WORK_FAIL, data: bytes = b"") -> bool:
        """WORK_FAIL or WORK_EXCEPTION: a lane keeps the job at its place, elsewhere its function's policy decides."""
        self.holdings.now = now
        return self._endings.fail(worker, handle, kind, data)

    def progress(self, worker: Worker, handle: bytes, kind: int, data: bytes) -> bool:
        """WORK_DATA, WORK_WARNING, WORK_STATUS: passed on to whoever waits. False: not this worker's job."""
        return self._endings.progress(worker, handle, kind, data)

    def set_status(self, worker: Worker, handle: bytes, numerator: bytes, denominator: bytes) -> None:
        """What GET_STATUS answers from now on."""
        job = worker.running.get(handle)
        if job is not None:
            job.progress = numerator, denominator

    # -- questions of clients ------------------------------------------------------------------------------------

    def handle(self, job: Job) -> bytes:
        """`H:<host>:<id>`; never given twice, whatever happens to the process."""
        return b"%b%d" % (self._prefix, job.id)

    def number(self, handle: bytes) -> int | None:
        """The id of the job that has, had or will have this handle; None: no handle of ours."""
        digits = handle.removeprefix(self._prefix)
        if not handle.startswith(self._prefix) or not digits.isdigit() or len(digits) > _MAX_DIGITS:
            return None
        return int(digits)

    def status(self, client: Client, handle: bytes) -> None:
        """GET_STATUS: the client gets STATUS_RES in its turn, by deliver()."""

        def reply(job: Job | None, known: bool) -> bytes:
            return p.response(p.STATUS_RES, handle, *_state_of(job, known))

        number = self.number(handle)
        job = self.holdings.jobs.get(number or 0)
        if number is None or number >= self._intake.next_id or job is not None or self._batches.leaving(number):
            self._intake.answer(client, reply(job, job is not None))
            return
        wanted = number
        self._intake.ask(
            client,
            lambda store: store.find(wanted),
            lambda record: reply(self.holdings.jobs.get(wanted), self._is_alive(record)),
        )

    def unique_status(self, client: Client, unique: bytes) -> None:
        """GET_STATUS_UNIQUE: the client gets STATUS_RES_UNIQUE in its turn, by deliver(). No matter which function."""

        def reply(job: Job | None, known: bool) -> bytes:
            clients = b"%d" % (len(job.clients) if job else 0)
            return p.response(p.STATUS_RES_UNIQUE, unique, *_state_of(job, known), clients)

        def in_memory() -> Job | None:
            found = (f.joinable.get(unique) for f in self.functions.values())
            return next((job for job in found if job is not None), None)

        job = in_memory() if unique else None
        names = [f.name for f in self.functions.values() if f.on_disk and not f.lane] if unique and not job else []
        if job is not None or not names:
            self._intake.answer(client, reply(job, job is not None))
            return
        self._intake.ask(
            client,
            lambda store: [record for name in names if (record := store.joinable(name, unique)) is not None],
            lambda records: reply(in_memory(), any(self._is_alive(record) for record in records or ())),
        )

    def _is_alive(self, record: JobRecord | None) -> bool:
        """It was read just now, and is queued or scheduled."""
        if record is None or record.state == DEAD:
            return False
        return record.id in self.holdings.jobs or self._reading.is_stored_only(record)

    def shown_jobs(self) -> Iterator[tuple[bytes, int, bool, bool, bytes]]:
        """(handle, attempts, ignored, stored, unique) of every job in memory."""
        for job in list(self.holdings.jobs.values()):
            yield self.handle(job), job.attempts, job.dropped, job.background, job.unique

    # -- what people do ------------------------------------------------------------------------------------------

    def handle_of(self, number: int) -> bytes:
        """The handle of the job with this id."""
        return b"%b%d" % (self._prefix, number)

    def cancel(self, handle: bytes, now: float) -> bool:
        """Take a job out, running or not: its clients get WORK_FAIL, its worker's report will be unknown. False: no
        such job in memory (see cancel_anywhere), or one of a lane, which nothing may take out."""
        self.holdings.now = now
        job = self.holdings.jobs.get(self.number(handle) or 0)
        return job is not None and self.cancel_job(job)

    def cancel_job(self, job: Job) -> bool:
        """The same, by a job in memory or one that stored_only() gave."""
        if job.function.lane or not (job.queued or job.worker or job.spilled or job in self.schedule):
            return False
        self._endings.cancel(job)
        return True

    def cancel_anywhere(self, client: Client, handle: bytes, now: float, *, done: bytes, unknown: bytes) -> None:
        """cancel(), also of a job that only the store has; the client gets `done` or `unknown` in its turn."""
        number = self.number(handle)
        if self.cancel(handle, now):
            self._intake.answer(client, done)
        elif number is None or number >= self._intake.next_id or number in self.holdings.jobs:
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
        job = self.holdings.from_record(self.holdings.function(record.function), record)
        job.spilled = True
        return job

    def is_outdated(self, record: JobRecord) -> bool:
        """A row that was just read no longer says where its job is."""
        return self._batches.outdated(record.id, record.function, record.state)

    def requeue(self, number: int, record: JobRecord | None) -> bool:
        """A scheduled job or a dead letter is queued now. `record`: what was just read of it. False: it is neither."""
        job = self.holdings.jobs.get(number)
        if job is None and record is not None and record.state != READY and not self.is_outdated(record):
            function = self.holdings.function(record.function)
            if function.name not in self.functions:
                return False
            job = self.holdings.from_record(function, record)
            job.spilled = record.state == SCHEDULED
            self.holdings.remember(job)
        if job is None or not self._endings.requeue(job):
            return False
        self._offer(job)
        return True

    def remove_dead(self, record: JobRecord) -> bool:
        """Delete a dead letter that was just read. False: it is none any more."""
        if record.state != DEAD or record.id in self.holdings.jobs or self.is_outdated(record):
            return False
        self._batches.gathering.changes.removes[record.id] = JobKey(record.function, record.priority, record.size, DEAD)
        self.holdings.dead -= 1
        return True

    def settle(self, client: Client) -> None:
        """deliver() once everything up to here is in the store, or refused()."""
        if self.away:
            client.refused(self.away)
        else:
            self._batches.gathering.answers.append(Answer(client, b"", True))

    def create(self, name: bytes) -> bool:
        """Know this function, as if somebody had submitted to it. False: there are too many."""
        self.holdings.function(name)
        return name in self.functions

    def drop(self, name: bytes) -> str:
        """Forget a function: `ok`, `unknown`, or `busy` while it has jobs or workers."""
        function = self.functions.get(name)
        if function is None:
            return "unknown"
        if function.total or function.workers or function.arriving:
            return "busy"
        self.resume(name)
        self.holdings.forget_function(function)
        return "ok"

    def set_max_queued(self, name: bytes, high: int, normal: int, low: int) -> None:
        """Refuse submits of a priority while the function has so many jobs; 0 or less: no limit. Until a restart."""
        function = self.holdings.function(name)
        limits = max(high, 0), max(normal, 0), max(low, 0)
        function.max_queued = limits if any(limits) else None

    def pause(self, name: bytes) -> bool:
        """Hand out nothing of this function until resume(), also after a restart. False: there are too many."""
        function = self.holdings.function(name)
        if name not in self.functions:
            return False
        self.holdings.close(function, PAUSED)
        self._batches.gathering.changes.settings[_PAUSED + name] = b"1"
        return True

    def resume(self, name: bytes) -> bool:
        """False: it was not paused."""
        function = self.functions.get(name)
        if function is None or not function.closed & PAUSED:
            return False
        self._batches.gathering.changes.settings[_PAUSED + name] = None
        self._sleepers.reopen(function, PAUSED)
        return True

    def set_policies(self, policies: Policies) -> None:
        """Other policies hold from now on, also for jobs that wait. What `maxqueue` said is forgotten."""
        self.holdings.policies = policies
        for function in self.functions.values():
            policy = policies.of(function.name)
            function.set_policy(policy)
            if policy.running and len(function.running) >= policy.running:
                self.holdings.close(function, OCCUPIED)
            else:
                self._sleepers.reopen(function, OCCUPIED)

    def drain(self) -> None:
        """Hand out nothing any more; what runs may end."""
        self._sleepers.draining = True

    # -- time and totals -----------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The time of the request being dealt with; whoever calls without `now` sets it."""
        return self.holdings.now

    @now.setter
    def now(self, now: float) -> None:
        self.holdings.now = now

    @property
    def running(self) -> int:
        """Jobs in workers' hands."""
        return sum(len(function.running) for function in self.functions.values())

    def tick(self, now: float) -> float | None:
        """Do what is due; returns when there will be more to do, or None."""
        self.holdings.now = now
        while (late := self._deadlines.pop(now)) is not None:
            self._endings.time_out(late, self.handle(late))
        deadlines = [
            self._promote(now),
            self._sleepers.end_rests(now),
            self._deadlines.next(),
            self._reading.keep_schedule(),
            self._housekeeping.tick(now),
        ]
        if self.schedule:
            self._intake.trim_schedule()
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _promote(self, now: float) -> float | None:
        """Scheduled jobs that are due become queued; returns when the next will be."""
        schedule = self.schedule
        if not schedule:
            return None
        clock = self.holdings.clock()
        for _ in range(_DUE_AT_ONCE):
            job = schedule.pop(clock)
            if job is None:
                break
            self._is_due(job)
        due = schedule.next()
        return None if due is None else max(now, due / 1e6 - self.holdings.epoch)

    def _is_due(self, job: Job) -> None:
        function = job.function
        function.scheduled -= 1
        self._endings.enqueue(job, function)
        line = function.lines[job.priority]
        self._offer(job)
        if job.stored and line.in_memory > 2 * self.limits.window:
            self._batches.move(job, function.name)
            self._batches.gathering.settled.append(job)

    def _offer(self, job: Job) -> None:
        """A job came into its line from elsewhere."""
        function = job.function
        line = function.lines[job.priority]
        self.holdings.touched.add(function)
        if function.sleepers and not function.closed:
            head = line.head()
            if head is None or head.payload is None:
                self._reading.next_missing(function, line)
            else:
                self._sleepers.wake_one(function)

    def stats(self, now: float, names: Iterable[bytes] | None = None) -> dict[bytes, FunctionStats]:
        """Every function that has or had jobs or workers; of `names`, those that still do."""
        functions = self.functions
        known = functions if names is None else [name for name in names if name in functions]
        return {name: self._stats(functions[name], now) for name in known}

    def _stats(self, function: Function, now: float) -> FunctionStats:
        high, normal, low = function.lines
        return FunctionStats(
            function.total,
            len(function.running),
            len(function.workers),
            self._oldest_age(function, now),
            (high.count, normal.count, low.count),
            function.scheduled,
            bool(function.closed & PAUSED),
        )

    def pending(self, prefix: bytes) -> int:
        """Jobs queued or running in all functions whose name starts with the prefix."""
        return sum(f.total for name, f in self.functions.items() if name.startswith(prefix))

    def _oldest_age(self, function: Function, now: float) -> float:
        submitted = [job.submitted for job in function.running.values()]
        for line in function.lines:
            if job := line.head():
                submitted.append(job.submitted)
            elif line.on_disk:
                self._reading.want_window(function, line, 1)  # known at the next look
        return max(0.0, now + self.holdings.epoch - min(submitted) / 1e6) if submitted else 0.0

    @property
    def jobs(self) -> int:
        """Background jobs, queued, scheduled and running."""
        return self.holdings.count

    @property
    def bytes(self) -> int:
        """Their payload bytes."""
        return self.holdings.bytes

    @property
    def dead(self) -> int:
        """Dead letters."""
        return self.holdings.dead

    @property
    def touched(self) -> set[Function]:
        """Functions whose tally changed; the driver reports and clears it."""
        return self.holdings.touched


def _state_of(job: Job | None, known: bool) -> tuple[bytes, bytes, bytes, bytes]:
    """known, running, numerator, denominator as STATUS_RES has them."""
    if job is None:
        return (b"1" if known else b"0"), b"0", b"0", b"0"
    return (b"0" if job.dropped else b"1"), (b"1" if job.worker else b"0"), *job.progress
