"""The queue core: which job goes to which worker, and when. No socket, no clock: `now` is an argument (seconds).

A job's way, and the module of each step:

    submit() ─ intake ─ batch ─ commit ─► queued ──── grab() ─ assignment ──► running ─ endings ─► gone, or dead letter
                  │                       (line) ◄──────────────────────────────┤
                  │                          ▲ promotion                        │ fail, time-out, worker lost
                  └─────────────────────► scheduled ◄───────────────────────────┘
                                          (schedule)

    beside it: runs (submits that arrive together), turns (answers that wait), holdings (what is in memory, totals),
    sleepers (who is woken), reading (what the store knows), deadlines, housekeeping; questions of clients, control by
    people, levels for gauges

Submitting and leaving are changes of the store. They gather in a batch; whoever drives the core takes it with take(),
commits it, and reports committed() or failed(). Only then is anything answered or handed out (DESIGN P1).
The core never calls the store: it lists what it wants to know (take_reads(), reads_done()), see reading.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.assignment import Assignment
from syncbridge.dispatch.batch import Batch, Batches
from syncbridge.dispatch.control import Control
from syncbridge.dispatch.deadlines import Deadlines
from syncbridge.dispatch.endings import Endings
from syncbridge.dispatch.function import Function
from syncbridge.dispatch.handles import Handles
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.housekeeping import Housekeeping
from syncbridge.dispatch.intake import FULL, RESERVE, Intake
from syncbridge.dispatch.job import Client, Job
from syncbridge.dispatch.levels import FunctionStats, Levels
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.policy import Policies
from syncbridge.dispatch.promotion import Promotion
from syncbridge.dispatch.questions import Questions
from syncbridge.dispatch.reading import Read, Reading
from syncbridge.dispatch.schedule import Schedule
from syncbridge.dispatch.sleepers import Sleepers
from syncbridge.dispatch.store import DEAD, READY, Changes, JobStore
from syncbridge.dispatch.worker import Worker

__all__ = ["FULL", "FunctionStats", "JobQueue"]


class JobQueue:
    """The state of the server. Single-threaded; the methods never wait, and only the constructor uses the store.

    `epoch`: wall clock minus the clock of `now`, seconds, so that submit times survive a restart.
    `volatile`: the store is memory of this process and takes every commit, so nothing waits for one: what is said below
    of batches holds only for jobs that memory here does not keep. Then commit before every take_reads().
    """

    def __init__(
        self,
        store: JobStore,
        *,
        limits: Limits | None = None,
        host: str = "",
        epoch: float = 0.0,
        policies: Policies | None = None,
        volatile: bool = False,
    ) -> None:
        self.limits = limits or Limits()
        self.queue_id = store.queue_id
        self.handles = Handles(host)
        self.holdings = Holdings(self.limits, policies or Policies(), epoch, self.handles.format)
        self.functions = self.holdings.functions
        self._batches = Batches(volatile=volatile)
        self.schedule = Schedule(self.limits.schedule)
        self._deadlines = Deadlines()
        self._sleepers = Sleepers(self.holdings)
        self._endings = Endings(self.holdings, self._sleepers, self._batches, self.schedule, self._deadlines)
        self._reading = Reading(self.holdings, self._sleepers, self._batches, self._endings, self.schedule)
        self._assignment = Assignment(self.holdings, self._sleepers, self._reading, self._deadlines)
        self._intake = Intake(
            self.holdings, self._sleepers, self._batches, self._endings, self._reading, self.schedule, store.next_id
        )
        self._promotion = Promotion(
            self.holdings, self._sleepers, self._batches, self._endings, self._reading, self.schedule
        )
        self._questions = Questions(self.holdings, self._batches, self._reading, self._intake, self.handles)
        self._levels = Levels(self.holdings, self._reading)
        #: What people do.
        self.control = Control(
            self.holdings,
            self._sleepers,
            self._batches,
            self._endings,
            self._reading,
            self._intake,
            self._promotion,
            self.schedule,
            self.handles,
        )
        self._housekeeping = Housekeeping(self.holdings, self._batches, self._endings, self._reading)
        #: What every job passes, without a call between.
        self.submit = self._intake.submit
        self.submit_run = self._intake.runs.submit
        self.grab = self._assignment.grab
        self.complete = self._endings.complete
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
        self.control.load(store.settings())

    # -- submitting ----------------------------------------------------------------------------------------------

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
        return self._batches.gathering.size + self._intake.turns.size

    @property
    def answers_due(self) -> bool:
        """Somebody waits for the next commit, not only the store's own cleaning up."""
        return bool(self._batches.gathering.answers)

    @property
    def leaving(self) -> int:
        """How many jobs are over and shall leave the store, if the next commit is about nothing else and nobody waits
        for it; else 0. Should the process end before, they are delivered again."""
        batch = self._batches.gathering
        return len(batch.changes.removes) if not batch.answers and not batch.jobs and batch.changes.only_removes else 0

    @property
    def away(self) -> str:
        """Why the store could not be written the last time; empty: it could."""
        return self._intake.away

    def take(self) -> Batch | None:
        """What is to be committed next, or None. One batch at a time; while the store is away, or ids run out, there
        always is one."""
        intake = self._intake
        reserve = intake.away or intake.next_id + RESERVE // 2 > intake.reserved
        if not self._batches.gathering and not reserve:
            return None
        batch = self._batches.take()
        if reserve:
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

    def disconnect(self, worker: Worker) -> None:
        """The worker is gone: its jobs return to their places, in order, and count one delivery without an answer."""
        worker.sleeping = worker.idle = False
        self.reset_abilities(worker)
        self._endings.lost(worker)

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
        return job.handle

    def status(self, client: Client, handle: bytes) -> None:
        """GET_STATUS: the client gets STATUS_RES in its turn, by deliver()."""
        self._questions.status(client, handle)

    def unique_status(self, client: Client, unique: bytes) -> None:
        """GET_STATUS_UNIQUE: the client gets STATUS_RES_UNIQUE in its turn, by deliver(). No matter which function."""
        self._questions.unique_status(client, unique)

    def shown_jobs(self) -> Iterator[tuple[bytes, int, bool, bool, bytes]]:
        """(handle, attempts, ignored, stored, unique) of every job in memory."""
        return self._questions.shown_jobs()

    def settle(self, client: Client) -> None:
        """deliver() once everything up to here is in the store, or refused()."""
        if self.away:
            client.refused(self.away)
        else:
            self._batches.gathering.answers.append((client, b"", True))

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
            self._promotion.promote(now),
            self._sleepers.end_rests(now),
            self._deadlines.next(),
            self._reading.keep_schedule(),
            self._housekeeping.tick(now),
        ]
        if self.schedule:
            self._intake.trim_schedule()
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def stats(self, now: float, names: Iterable[bytes] | None = None) -> dict[bytes, FunctionStats]:
        """Every function that has or had jobs or workers; of `names`, those that still do."""
        return self._levels.stats(now, names)

    def pending(self, prefix: bytes) -> int:
        """Jobs queued or running in all functions whose name starts with the prefix."""
        return sum(f.total for name, f in self.functions.items() if name.startswith(prefix))

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
