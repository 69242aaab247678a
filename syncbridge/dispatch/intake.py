"""Intake: from submit to queued, and every answer in the order of its client's requests.

    submit() ── joins a job in memory ──────────────────────────► answered with the next batch
        │   └── may join one that only the store has ── read ──┘
        └── a new job ── batch ── commit ──► queued, or scheduled, or left to the store beyond the window
                                     └────► refused

While the store is away, background jobs are refused at once; foreground jobs need no store. A volatile queue has
nothing to wait for: it queues and answers within submit(), and leaves to the store what goes beyond the window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from syncbridge.dispatch.batch import About, Batch, Batches
from syncbridge.dispatch.endings import Endings
from syncbridge.dispatch.function import Function
from syncbridge.dispatch.holdings import OVERHEAD, Holdings
from syncbridge.dispatch.job import REFUSED, Client, Job, JobRecord, join_key
from syncbridge.dispatch.reading import Reading
from syncbridge.dispatch.run import Run
from syncbridge.dispatch.runs import Runs
from syncbridge.dispatch.schedule import Schedule
from syncbridge.dispatch.sleepers import Sleepers
from syncbridge.dispatch.store import DEAD, READY, SCHEDULED, JobStore
from syncbridge.dispatch.turns import Found, Turn, Turns

#: Job ids promised to this process at a time; a crash skips what is left, so a handle never returns.
RESERVE = 1_000_000

FULL = "Job queue is full"


class Submission(NamedTuple):
    """What SUBMIT_JOB says."""

    client: Client
    function: bytes
    priority: int
    unique: bytes
    payload: bytes
    background: bool
    now: float
    reducer: bytes
    due: int


class Intake:
    """`away`: why the store cannot be written, empty while it can."""

    __slots__ = (
        "_batches",
        "_behind",
        "_clock",
        "_endings",
        "_holdings",
        "_now",
        "_reading",
        "_schedule",
        "_sleepers",
        "_volatile",
        "away",
        "next_id",
        "reserved",
        "runs",
        "spilled",
        "turns",
    )

    def __init__(
        self,
        holdings: Holdings,
        sleepers: Sleepers,
        batches: Batches,
        endings: Endings,
        reading: Reading,
        schedule: Schedule,
        next_id: int,
    ) -> None:
        self._holdings = holdings
        self._sleepers = sleepers
        self._batches = batches
        self._endings = endings
        self._reading = reading
        self._schedule = schedule
        self._volatile = batches.volatile
        self.next_id = next_id
        self.reserved = next_id
        self.away = ""
        #: The time of the last submit, as it was given and in wall clock microseconds.
        self._now, self._clock = -1.0, 0
        self.turns = Turns(reading)
        self._behind = self.turns.behind
        #: Jobs left to the store since reads were taken, by join key: lookups among these reads may miss them.
        self.spilled: dict[tuple[bytes, bytes], JobRecord] = {}
        self.runs = Runs(self, holdings, sleepers, batches, reading)

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
        reducer: bytes = b"",
        due: int = 0,
        looked: bool = False,
    ) -> None:
        """Take a job: a new one, one it joins, or none when refused. The client is told once its batch is through, in
        the order of its requests: created() or refused(). `due`: wall clock in microseconds, 0 for now. `looked`: it is
        this submission's turn, and there is no job it joins.

        Every job passes here: one function without calls for what most jobs are spares 0.6 of 2.8 µs.
        """
        holdings = self._holdings
        function = holdings.functions.get(name) or holdings.function(name)
        key = None
        if unique and not function.lane:
            key = unique if unique != b"-" else join_key(unique, payload)
        if not looked:
            if self._behind and client in self._behind:
                wanted = Submission(client, name, priority, unique, payload, background, now, reducer, due)
                self._wait(wanted, key, look=key is not None and not self.away)
                return
            if key is not None:
                joined = function.joinable.get(key)
                if joined is not None:
                    job = self.runs.make(joined, key) if type(joined) is Run else joined
                    self._join(client, job, background=background)
                    return
                if function.on_disk and not self.away:
                    wanted = Submission(client, name, priority, unique, payload, background, now, reducer, due)
                    self._wait(wanted, key, look=True)
                    return
        size, number = len(payload), self.next_id
        reason = self._refusal(function, priority, size, background)
        if reason:
            self._tell(client, reason, False)
            return
        self.next_id = number + 1
        if now != self._now:
            self._now, self._clock = now, int((now + holdings.epoch) * 1e6)
        job = Job(number, function, priority, unique, payload, holdings.handle_format % number, key, self._clock)
        if reducer:
            job.reducer = reducer
        if due > self._clock:
            job.state, job.due = SCHEDULED, due
        holdings.jobs[number] = job
        if key is not None:
            function.joinable[key] = job
        if background:
            job.background = True
            holdings.count += 1
            holdings.bytes += size
            holdings.payload_bytes += size
        else:
            job.clients = (client,)
            holdings.foreground_bytes += size + OVERHEAD
        if self._volatile:
            self._queue(job)
            client.created(job)
            return
        function.arriving += 1
        batch = self._batches.gathering
        if background:
            job.stored = True
            batch.changes.adds.append(job.record())
            batch.size += size + OVERHEAD
        batch.jobs.append(job)
        batch.answers.append((client, job, background))

    def _refusal(self, function: Function, priority: int, size: int, background: bool) -> str:
        """Why this job cannot be taken; empty: it can."""
        holdings = self._holdings
        limits = holdings.limits
        if self.next_id >= self.reserved or function.name not in holdings.functions:
            return FULL
        if function.max_queued is not None:
            limit = function.max_queued[priority]
            if limit > 0 and function.total + function.arriving >= limit:
                return FULL
        if not background:
            return FULL if holdings.foreground_bytes + size + OVERHEAD > limits.max_foreground_bytes else ""
        if self.away:
            return self.away
        return FULL if holdings.count >= limits.max_jobs or holdings.bytes + size > limits.max_bytes else ""

    def _join(self, client: Client, job: Job, *, background: bool) -> None:
        """Coalesce: the same handle; what the later submit says of workload and priority is ignored."""
        if background:
            if not job.background:
                if self.away:
                    self._tell(client, self.away, False)
                    return
                self._upgrade(job)
        else:
            job.clients += (client,)
            if job.spilled:
                self._holdings.remember(job)
        self._tell(client, job, background)

    def _upgrade(self, job: Job) -> None:
        """A background submit joined a foreground job: from now on it must survive clients and crashes."""
        job.background = True
        holdings, batch = self._holdings, self._batches.gathering
        holdings.foreground_bytes -= job.size + OVERHEAD
        holdings.count += 1
        holdings.bytes += job.size
        holdings.payload_bytes += job.size
        if job in self._schedule:
            job.state = SCHEDULED
        if not self._volatile:
            batch.changes.adds.append(job.record())
            batch.upgraded.append(job)

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait(self, wanted: Submission, key: bytes | None, look: bool) -> None:
        client, size = wanted.client, len(wanted.payload)
        if key is None or not look:
            self.turns.add(client, Turn(lambda: self._submit_after(wanted, key, None), size=size))
        else:
            self.turns.look(
                client, wanted.function, [key], lambda found: self._submit_after(wanted, key, found.get(key)), size
            )

    def _submit_after(self, wanted: Submission, key: bytes | None, record: JobRecord | None) -> None:
        function = self._holdings.function(wanted.function)
        if key is not None:
            known = function.joinable.get(key)
            job = (
                self.runs.make(known, key) if type(known) is Run else known or self._only_stored(function, key, record)
            )
            if job is not None:
                self._join(wanted.client, job, background=wanted.background)
                return
        self.submit(*wanted, looked=True)

    def submit_after(
        self,
        client: Client,
        name: bytes,
        priority: int,
        uniques: list[bytes],
        payloads: list[bytes],
        now: float,
        found: Found,
    ) -> None:
        """The turn of background jobs, one by one. `found`: what the store knows of their join keys."""
        for unique, payload in zip(uniques, payloads, strict=True):
            key = None if self._holdings.function(name).lane else unique or None
            wanted = Submission(client, name, priority, unique, payload, True, now, b"", 0)
            self._submit_after(wanted, key, found.get(unique))

    def _only_stored(self, function: Function, key: bytes, record: JobRecord | None) -> Job | None:
        """The job with this key that memory does not know, if it is still to be done."""
        record = self.spilled.get((function.name, key), record)
        if record is None or record.id in self._holdings.jobs or not self._reading.is_stored_only(record):
            return None
        job = self._holdings.from_record(function, record)
        job.spilled = True
        return job

    def ask(self, client: Client, ask: Callable[[JobStore], Any], reply: Callable[[Any], bytes]) -> None:
        """Answer the client, in its turn, with what `reply` makes of a read (of None when the store is away)."""
        self.turns.ask(client, ask, lambda found: self._tell(client, reply(found), False))

    def reads_begin(self) -> None:
        """What was left to the store before can be found there."""
        self.spilled.clear()
        self.turns.reads_begin()

    def answer(self, client: Client, reply: bytes | str) -> None:
        """Give the client a reply behind the answers to its earlier requests; text: refused, and why."""
        if self._behind and client in self._behind:
            self.turns.add(client, Turn(lambda: self._tell(client, reply, False)))
        else:
            self._tell(client, reply, False)

    # -- after the commit ----------------------------------------------------------------------------------------

    def committed(self, batch: Batch) -> None:
        """The batch is durable: queue its jobs, answer its clients."""
        for job in batch.upgraded:
            job.stored = True
        for arrived in batch.jobs:
            if type(arrived) is Run:
                self.runs.queue(arrived)
            else:
                self._activate(arrived)
        for job in batch.settled:
            self._settle(job)
        self._answer(batch, "")

    def failed(self, batch: Batch, reason: str) -> None:
        """The store did not take the batch: refuse its background jobs, keep what must still leave the store."""
        for job in batch.upgraded:
            self._downgrade(batch, job)
        for arrived in batch.jobs:
            if type(arrived) is Run:
                self.runs.refuse(arrived)
            elif arrived.stored:  # not one that a background submit joined meanwhile
                self.unmake(arrived)
            else:
                self._activate(arrived)
        self._batches.carry(batch.changes)
        self._batches.gathering.settled += batch.settled
        self._answer(batch, reason)

    def _tell(self, client: Client, about: About, durable: bool) -> None:
        """In its turn, which is now where nothing waits for a commit."""
        if self._volatile:
            self._say(client, about, durable, "")
        else:
            self._batches.gathering.answers.append((client, about, durable))

    def _answer(self, batch: Batch, failure: str) -> None:
        for client, about, durable in batch.answers:
            self._say(client, about, durable, failure)

    @staticmethod
    def _say(client: Client, about: About, durable: bool, failure: str) -> None:
        if isinstance(about, Run):
            if not failure:
                about.client.created_run(about.first, about.count)
            for _ in range(about.count if failure else 0):
                client.refused(failure)
        elif isinstance(about, Job):
            if about.state == REFUSED or (durable and not about.background):
                client.refused(failure or FULL)  # its own commit failed, or the one of the job it joined
            else:
                client.created(about)
        elif isinstance(about, str):
            client.refused(about)
        elif durable and failure:
            client.refused(failure)
        else:
            client.deliver(about)

    def _activate(self, job: Job) -> None:
        """Its commit is through."""
        job.function.arriving -= 1
        if job.dropped:
            self._holdings.forget(job)
        else:
            self._queue(job)

    def _queue(self, job: Job) -> None:
        """Somebody may have it from now on, or once it is due."""
        function, holdings, priority = job.function, self._holdings, job.priority
        function.tallies[priority].submitted += 1
        holdings.touched.add(function)
        if job.state == SCHEDULED:
            if self._volatile and job.background:
                self._batches.write(job)
            self._endings.schedule(job)
            if job.stored:
                holdings.release_payload(job)
            return
        if function.lane:
            holdings.count_queued(function, priority, 1)
        else:
            function.queued += 1
            if not function.closed:
                holdings.available[priority] += 1
        limits, line = holdings.limits, function.lines[priority]
        window = limits.window if len(holdings.jobs) < limits.windows else limits.small_window
        if self._volatile and job.background and (line.on_disk or len(line.ready) >= window):
            self._batches.write(job)
        job.queued = line.append(job, window)
        if not job.queued:
            self.spill(job)
        elif job.stored and holdings.payload_bytes > limits.memory:
            holdings.release_payload(job)
        if function.sleepers:
            self._sleepers.wake_one(function)

    def spill(self, job: Job) -> None:
        """From now on only the store has it; memory knows it for its clients' sake, if at all."""
        holdings = self._holdings
        holdings.release_payload(job)
        job.spilled = True
        if job.join_key is not None and self._reading.busy:
            self.spilled[job.function.name, job.join_key] = job.record()
        if not job.clients:
            holdings.forget_joinable(job)
            del holdings.jobs[job.id]

    def _settle(self, job: Job) -> None:
        """It was due, and its line had more than enough in memory."""
        line = job.function.lines[job.priority]
        if job.queued and not job.clients and not line.reading:
            line.spill(job)
            job.queued = False
            self.spill(job)

    def trim_schedule(self) -> None:
        """Leave jobs that are due late to the store."""

        def may_go(job: Job) -> bool:
            return job.stored and not job.clients and not self._batches.moving(job.id)

        for job in self._schedule.trim(may_go):
            job.function.scheduled_on_disk += 1
            self.spill(job)

    def _downgrade(self, batch: Batch, job: Job) -> None:
        """Its row could not be written: a foreground job again, unless it is over already."""
        holdings = self._holdings
        for changes in (self._batches.gathering.changes, batch.changes):
            changes.removes.pop(job.id, None)
            changes.attempts.pop(job.id, None)
            move = changes.moves.pop(job.id, None)
            if move is not None:
                job.state = READY
                holdings.dead -= move.state == DEAD
        if job.id not in holdings.jobs:
            return
        job.background = False
        holdings.uncount(job)
        holdings.foreground_bytes += job.size + OVERHEAD
        if job.payload is not None:
            holdings.payload_bytes -= job.size
        self.drop_unwanted(job)

    def unmake(self, job: Job) -> None:
        job.function.arriving -= 1
        self._holdings.uncount(job)
        job.dropped = True
        job.state = REFUSED
        self._holdings.forget(job)

    # -- clients that leave --------------------------------------------------------------------------------------

    def abandon(self, client: Client, job: Job) -> None:
        job.clients = tuple(other for other in job.clients if other is not client)
        self.drop_unwanted(job)

    def drop_unwanted(self, job: Job) -> None:
        """A foreground job nobody waits for is dropped; a background job stays."""
        if job.clients or job.dropped:
            return
        if job.background:
            if job.spilled:
                self._holdings.forget(job)  # known to memory for its client's sake only
            return
        queued = job.queued
        if not queued and job not in self._schedule:
            job.dropped = True  # it is running, or its batch is under way: forgotten when that is over
            self._holdings.forget_joinable(job)
            return
        self._endings.unqueue(job)
        self._holdings.forget(job)
        if queued:
            self._endings.after_running(job.function)
