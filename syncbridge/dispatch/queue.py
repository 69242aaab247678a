"""The queue core: which job goes to which worker, and when. No socket, no clock: `now` is an argument (seconds).

A job's way:

    submit() ── batch ── commit ──► queued ──grab()──► running ──complete()/fail()──► gone
                   │                  ▲                   │
                refused               └── lane: fail, any function: worker lost
                                          lane, 3 deliveries without an answer ──► queued in <lane>.isolated

Submitting and leaving are changes of the store. They gather in a batch; whoever drives the core takes it with take(),
commits it, and reports committed() or failed(). Only then is anything answered or handed out (DESIGN P1).
The core reads the store itself: windows of long queues, payloads left on disk, joinable jobs.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from syncbridge.dispatch import lanes
from syncbridge.dispatch.batch import Answer, Batch
from syncbridge.dispatch.function import Function
from syncbridge.dispatch.job import PRIORITIES, Client, Job, JobRecord, join_key
from syncbridge.dispatch.lanes import LaneGroup
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.line import Line
from syncbridge.dispatch.packets import WORK_COMPLETE, WORK_FAIL
from syncbridge.dispatch.store import READY, Changes, JobKey, JobStore, Move
from syncbridge.dispatch.worker import Worker
from syncbridge.errors import TransientError

logger = logging.getLogger(__name__)

#: Job ids promised to this process at a time; a crash skips what is left, so a handle never returns.
_RESERVE = 1_000_000
#: Jobs read from the store per refill, and the payload size up to which they come along.
_REFILL = 512
_INLINE = 4096
#: Functions looked at, when there are too many, for some that nobody needs any more.
_SWEEP = 100
#: A function whose jobs the store could not give rests this long, seconds.
_STORE_PAUSE = 1.0

#: What a job costs beside its payload, bytes, where jobs without payload must count too.
_OVERHEAD = 512

FULL = "Job queue is full"


class FunctionStats(NamedTuple):
    """One function at one moment."""

    #: Queued and running.
    total: int
    running: int
    workers: int
    #: Seconds since the oldest job was submitted, 0.0 without jobs.
    oldest_age: float


class JobStatus(NamedTuple):
    known: bool
    running: bool = False
    numerator: bytes = b"0"
    denominator: bytes = b"0"


class JobQueue:
    """The state of the server. Single-threaded; the methods never wait.

    `epoch`: wall clock minus the clock of `now`, seconds, so that submit times survive a restart.
    """

    def __init__(self, store: JobStore, *, limits: Limits | None = None, host: str = "", epoch: float = 0.0) -> None:
        self.limits = limits or Limits()
        self._store = store
        self.queue_id = store.queue_id
        self._epoch = epoch
        # Clients keep handles in 64 bytes.
        self._prefix = f"H:{(host or socket.gethostname())[:32]}:".encode()
        self.functions: dict[bytes, Function] = {}
        self._groups: dict[bytes, LaneGroup] = {}
        #: Jobs in memory by id.
        self._jobs: dict[int, Job] = {}
        #: Queued jobs by priority over all functions: lets grab() stop at the best there is.
        self._queued = [0] * len(PRIORITIES)
        self._paused: dict[Function, float] = {}
        self._batch = Batch()
        self._committing = Batch()
        #: Background jobs and their payload bytes, the batch included; foreground bytes; payload bytes in memory.
        self.jobs = 0
        self.bytes = 0
        self.foreground_bytes = 0
        self.payload_bytes = 0
        #: Functions whose tally changed; the driver reports and clears it.
        self.touched: set[Function] = set()
        self._next_id = store.next_id
        self._reserved = self._next_id + _RESERVE
        store.commit(Changes(reserve=self._reserved))
        self._load()

    def _load(self) -> None:
        for name, priority, jobs, size, last_id, state in self._store.backlogs():
            if state != READY:
                continue
            function = self._function(name)
            line = function.lines[priority]
            line.count = line.on_disk = jobs
            line.last = last_id
            self._count_queued(function, priority, jobs)
            self.jobs += jobs
            self.bytes += size

    # -- submitting ----------------------------------------------------------------------------------------------

    def submit(
        self, client: Client, name: bytes, priority: int, unique: bytes, payload: bytes, background: bool, now: float
    ) -> Job | None:
        """Take a job: a new one, one it joins, or None when refused. The client is told once its batch is through."""
        function = self.functions.get(name) or self._function(name)
        key = None if function.lane or not unique else join_key(unique, payload)
        if key is not None:
            joined = self._joinable(function, key)
            if joined is not None:
                self._join(client, joined, background=background)
                return joined
        if self._refuses(function, len(payload), background=background):
            self.answer(client, None)
            return None
        job = Job(self._next_id, function, priority, unique, payload)
        self._next_id += 1
        job.join_key = key
        job.submitted = int((now + self._epoch) * 1e6)
        self._jobs[job.id] = job
        if key is not None:
            function.joinable[key] = job
        batch = self._batch
        if background:
            job.background = job.stored = True
            batch.changes.adds.append(job.record())
            batch.size += job.size + _OVERHEAD
            self.jobs += 1
            self.bytes += job.size
            self.payload_bytes += job.size
        else:
            job.clients.append(client)
            self.foreground_bytes += job.size + _OVERHEAD
        batch.jobs.append(job)
        batch.answers.append(Answer(client, job, background))
        return job

    def answer(self, client: Client, reply: bytes | None) -> None:
        """Give the client a reply behind the answers to its earlier submissions; None: refused, the queue is full."""
        self._batch.answers.append(Answer(client, b"" if reply is None else reply, reply is None))

    def _refuses(self, function: Function, size: int, *, background: bool) -> bool:
        limits = self.limits
        if self._next_id >= self._reserved or function.name not in self.functions:
            return True
        if background:
            return self.jobs >= limits.max_jobs or self.bytes + size > limits.max_bytes
        return self.foreground_bytes + size + _OVERHEAD > limits.max_foreground_bytes

    def _joinable(self, function: Function, key: bytes) -> Job | None:
        job = function.joinable.get(key)
        if job is not None or not function.on_disk:
            return job
        try:
            record = self._store.joinable(function.name, key)
        except TransientError:
            return None  # two jobs rather than none; the commit will say what is wrong
        if record is None or record.id in self._jobs or self._leaving(record.id):
            return None
        job = self._job(function, record)
        job.spilled = True
        return job

    def _join(self, client: Client, job: Job, *, background: bool) -> None:
        """Coalesce: the same handle; what the later submit says of workload and priority is ignored."""
        if background:
            if not job.background:
                self._upgrade(job)
        else:
            job.clients.append(client)
            if job.spilled:
                self._remember(job)
        self._batch.answers.append(Answer(client, job, background))

    def _upgrade(self, job: Job) -> None:
        """A background submit joined a foreground job: from now on it must survive clients and crashes."""
        job.background = True
        self.foreground_bytes -= job.size + _OVERHEAD
        self.jobs += 1
        self.bytes += job.size
        self.payload_bytes += job.size
        self._batch.changes.adds.append(job.record())
        self._batch.upgraded.append(job)

    # -- group commit --------------------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        """Payload bytes that wait for the next commit."""
        return self._batch.size

    @property
    def answers_due(self) -> bool:
        """Somebody waits for the next commit, not only the store's own cleaning up."""
        return bool(self._batch.answers)

    def take(self) -> Batch | None:
        """What is to be committed next, or None. One batch at a time."""
        batch = self._batch
        if not batch:
            return None
        if self._next_id + _RESERVE // 2 > self._reserved:
            batch.changes.reserve = self._next_id + _RESERVE
        self._batch, self._committing = Batch(), batch
        return batch

    def committed(self, batch: Batch) -> None:
        """The batch is durable: queue its jobs, answer its clients."""
        self._committing = Batch()
        self._reserved = max(self._reserved, batch.changes.reserve)
        for job in batch.upgraded:
            job.stored = True
        for job in batch.jobs:
            self._activate(job)
        self._answer(batch, FULL)

    def failed(self, batch: Batch, reason: str) -> None:
        """The store did not take the batch: refuse its background jobs, keep what must still leave the store."""
        self._committing = Batch()
        for job in batch.upgraded:
            self._downgrade(batch, job)
        for job in batch.jobs:
            if job.stored:  # not one that a background submit joined meanwhile: the next commit decides about that
                self._unmake(job)
            else:
                self._activate(job)
        self._carry(batch.changes)
        self._answer(batch, reason)

    def _answer(self, batch: Batch, reason: str) -> None:
        for client, about, durable in batch.answers:
            if isinstance(about, bytes):
                client.refused(FULL) if durable else client.deliver(about)
            elif about.dropped or (durable and not about.background):
                client.refused(reason)  # its own commit failed, or the one of the job it joined
            else:
                client.created(about)

    def _activate(self, job: Job) -> None:
        if job.dropped:
            self._forget(job)
            return
        function = job.function
        function.tally.submitted += 1
        self.touched.add(function)
        self._count_queued(function, job.priority, 1)
        window = self.limits.window if len(self._jobs) < self.limits.windows else self.limits.small_window
        job.queued = function.lines[job.priority].append(job, window)
        if not job.queued:
            self._spill(job)
        elif job.stored and self.payload_bytes > self.limits.memory:
            self._release_payload(job)
        if function.sleepers:
            self._wake_one(function)

    def _spill(self, job: Job) -> None:
        self._release_payload(job)
        job.spilled = True
        if not job.clients:
            self._forget_joinable(job)
            del self._jobs[job.id]

    def _downgrade(self, batch: Batch, job: Job) -> None:
        """Its row could not be written: a foreground job again, unless it is over already."""
        for changes in (self._batch.changes, batch.changes):
            changes.removes.pop(job.id, None)
            changes.attempts.pop(job.id, None)
            changes.moves.pop(job.id, None)
        if job.id not in self._jobs:
            return
        job.background = False
        self._uncount(job)
        self.foreground_bytes += job.size + _OVERHEAD
        if job.payload is not None:
            self.payload_bytes -= job.size
        self._drop_unwanted(job)

    def _unmake(self, job: Job) -> None:
        self._uncount(job)
        job.dropped = True
        self._forget(job)

    def _carry(self, changes: Changes) -> None:
        """Take over what a failed commit wanted to remove or note: it happened, and stays to be written."""
        pending = self._batch.changes
        # The older notes are the larger part when the store stays away: take them and add the newer ones.
        changes.attempts = {n: note for n, note in changes.attempts.items() if n not in pending.moves}
        for old, new in (
            (changes.removes, pending.removes),
            (changes.moves, pending.moves),
            (changes.attempts, pending.attempts),
        ):
            old.update(new)  # type: ignore[arg-type]
        pending.removes, pending.moves, pending.attempts = changes.removes, changes.moves, changes.attempts

    # -- workers -------------------------------------------------------------------------------------------------

    def can_do(self, worker: Worker, name: bytes) -> None:
        function = self._function(name)
        if worker not in function.workers:
            function.workers[worker] = None
            worker.functions.append(function)

    def cannot_do(self, worker: Worker, name: bytes) -> None:
        function = self.functions.get(name)
        if function is not None and worker in function.workers:
            worker.functions.remove(function)
            worker.cursor = 0
            self._withdraw(worker, function)

    def reset_abilities(self, worker: Worker) -> None:
        functions, worker.functions, worker.cursor = worker.functions, [], 0
        for function in functions:
            self._withdraw(worker, function)

    def _withdraw(self, worker: Worker, function: Function) -> None:
        for workers in (function.workers, function.sleepers, function.idle):
            workers.pop(worker, None)
        if function.queued and function.sleepers:
            self._wake_one(function)  # the NOOP for its job may have gone to the worker that leaves

    def pre_sleep(self, worker: Worker, now: float) -> None:
        """The worker waits for NOOP; it gets one at once if there is something for it."""
        worker.sleeping = worker.idle = True
        for function in worker.functions:
            function.sleepers[worker] = function.idle[worker] = None
        if any(function.queued and self._may_take(worker, function, now) for function in worker.functions):
            self._wake(worker)

    def grab(self, worker: Worker, now: float) -> tuple[bytes, Job, bytes] | None:
        """The next job for this worker as (handle, job, payload): best priority over all its functions, then round
        robin over them, then oldest. None: NO_JOB."""
        if worker.sleeping:
            self._stir(worker)
        while True:
            function = self._choose(worker, now)
            if function is None:
                return None
            try:
                taken = self._next(function)
            except TransientError as error:
                logger.warning("jobs of %s wait: %s", function.name, error)
                self._pause(function, now + _STORE_PAUSE)
                continue
            if taken is not None:
                return self._assign(worker, function, *taken)

    def _choose(self, worker: Worker, now: float) -> Function | None:
        functions, start = worker.functions, worker.cursor
        count = len(functions)
        high, normal, low = self._queued
        if not (high or normal or low):
            return None
        best_there_is = 0 if high else 1 if normal else 2
        best, chosen = len(PRIORITIES), None
        for step in range(count):
            at = start + step
            if at >= count:
                at -= count
            function = functions[at]
            if not function.queued or not self._may_take(worker, function, now):
                continue
            lines = function.lines
            priority = 0 if lines[0].count else 1 if lines[1].count else 2
            if priority < best:
                best, chosen = priority, function
                worker.cursor = at + 1 if at + 1 < count else 0
                if priority == best_there_is:
                    break
        return chosen

    def _may_take(self, worker: Worker, function: Function, now: float) -> bool:
        if function.paused_until > now:
            return False
        if not function.lane:
            return True
        holder = function.holder
        if holder is not None and holder is not worker:
            return False
        idle = function.idle
        if not idle or (len(idle) == 1 and worker in idle):
            return True
        # Somebody else has nothing to do: leave him the lanes beyond our share, the held ones by letting them drain.
        return function.group.within_share(worker, len(function.workers), more=int(holder is None))

    def _next(self, function: Function) -> tuple[Job, bytes] | None:
        """Take the function's next job out of its line; None when the store turned out to lack it."""
        for line in function.lines:
            if not line.count:
                continue
            if line.hungry:
                self._refill(function, line)
            job = line.head()
            if job is None:
                assert line.hungry, "a line lost count of its jobs"
                return None
            payload = job.payload if job.payload is not None else self._stored_payload(job)
            line.take(job)
            self._count_queued(function, job.priority, -1)
            if payload is not None:
                return job, payload
            logger.error("job %d of %s is gone from the store", job.id, function.name)
            self._leave(job)
            return None
        return None

    def _stored_payload(self, job: Job) -> bytes | None:
        """Its row may still lie in the function that it moved from."""
        payload = self._store.payload(job.function.name, job.priority, job.id)
        for batch in (self._batch, self._committing):
            if payload is None and job.id in batch.changes.moves:
                payload = self._store.payload(batch.changes.moves[job.id].old.function, job.priority, job.id)
        return payload

    def _refill(self, function: Function, line: Line) -> None:
        priority = function.lines.index(line)
        records = self._store.window(
            function.name, priority, after=line.loaded, through=line.last, limit=_REFILL, inline=_INLINE
        )
        jobs = [self._recall(function, record) for record in records if self._is_stored_only(record.id)]
        missing = line.refill(jobs, records[-1].id if len(records) == _REFILL else line.last)
        if missing:
            logger.error("%d jobs of %s are gone from the store", missing, function.name)
            self._count_queued(function, priority, -missing)
            self.jobs -= missing
            self._after_running(function)

    def _is_stored_only(self, number: int) -> bool:
        """Not one that moved here in memory, nor one that is done and about to be removed."""
        job = self._jobs.get(number)
        return not self._leaving(number) if job is None else job.spilled

    def _recall(self, function: Function, record: JobRecord) -> Job:
        job = self._jobs.get(record.id) or self._job(function, record)
        job.spilled, job.queued = False, True
        if record.payload is not None and job.payload is None and self.payload_bytes <= self.limits.memory:
            job.payload = record.payload
            self.payload_bytes += job.size
        self._remember(job)
        return job

    def _assign(self, worker: Worker, function: Function, job: Job, payload: bytes) -> tuple[bytes, Job, bytes]:
        handle = self.handle(job)
        if job.stored:
            self._release_payload(job)  # the store has it, should it come back
        job.queued = False
        job.worker = worker
        worker.running[handle] = job
        if function.lane and function.holder is None:
            function.holder = worker
            function.group.take(worker)
        function.running[job.id] = job
        if worker.idle:
            self._employ(worker)
        return handle, job, payload

    # -- results -------------------------------------------------------------------------------------------------

    def complete(self, worker: Worker, handle: bytes, data: bytes) -> bool:
        """WORK_COMPLETE: the job is done and leaves. False: not this worker's job."""
        job = worker.running.pop(handle, None)
        if job is None:
            return False
        function = job.function
        function.tally.completed += 1
        self.touched.add(function)
        function.failures = 0
        self._leave(job)
        for client in job.clients:
            client.progress(WORK_COMPLETE, job, data)
        return True

    def fail(self, worker: Worker, handle: bytes, now: float, kind: int = WORK_FAIL, data: bytes = b"") -> bool:
        """WORK_FAIL or WORK_EXCEPTION: a lane keeps the job at its place, elsewhere it is over."""
        job = worker.running.pop(handle, None)
        if job is None:
            return False
        function = job.function
        self.touched.add(function)
        if function.lane:
            # A worker that leaves resets its abilities before it gives its jobs back: that is no failure.
            if now >= function.paused_until and worker in function.workers:
                function.failures += 1
                pause = lanes.FAILURE_PAUSE * 2 ** min(function.failures - 1, 16)
                self._pause(function, now + min(pause, lanes.MAX_FAILURE_PAUSE))
            self._put_back(job)
            return True
        function.tally.failed += 1
        self._leave(job)
        for client in job.clients:
            client.progress(kind, job, data)
        return True

    def disconnect(self, worker: Worker) -> None:
        """The worker is gone: its jobs return to their places, in order, and count one delivery without an answer."""
        worker.sleeping = worker.idle = False
        self.reset_abilities(worker)
        running, worker.running = worker.running, {}
        for job in running.values():
            self._unanswered(job)

    def _unanswered(self, job: Job) -> None:
        job.attempts += 1
        function, changes = job.function, self._batch.changes
        self.touched.add(function)
        key = JobKey(function.name, job.priority, job.size)
        if function.lane and not lanes.is_isolated(function.name) and job.attempts >= lanes.MAX_DELIVERIES:
            target = self._function(lanes.isolated(function.name))
            function.tally.isolated += 1
            logger.warning("job %d of %s took %d workers down: isolated", job.id, function.name, job.attempts)
            if job.background:
                changes.attempts.pop(job.id, None)
                changes.moves[job.id] = Move(key, target.name, job.attempts)
            self._put_back(job, target)
            return
        if job.background:
            changes.attempts[job.id] = (key, job.attempts)
        self._put_back(job)

    def _put_back(self, job: Job, target: Function | None = None) -> None:
        """From running to queued: in its own function, or in `target`."""
        source = job.function
        function = target or source
        job.worker = None
        if job.dropped:
            self._forget(job)
        else:
            source.tally.requeued += 1
            self._count_queued(function, job.priority, 1)
            job.function = function
            job.queued = True
            function.lines[job.priority].put_back(job)
        del source.running[job.id]
        if function.sleepers:
            self._wake_one(function)
        self._after_running(source)

    def _leave(self, job: Job) -> None:
        """The job is over: out of memory now, out of the store with the next commit."""
        function = job.function
        function.running.pop(job.id, None)
        job.worker = None
        if job.background:
            self._batch.changes.removes[job.id] = JobKey(function.name, job.priority, job.size)
            self._uncount(job)
        self._forget(job)
        self._after_running(function)

    def _after_running(self, function: Function) -> None:
        """A lane without running jobs is free for anybody."""
        if not function.lane or function.running:
            return
        if function.holder is not None:
            function.group.release(function.holder)
            function.holder = None
            if function.queued and function.sleepers:
                self._wake_one(function)
        if not function.queued:
            function.group.active -= 1

    # -- foreground clients --------------------------------------------------------------------------------------

    def progress(self, worker: Worker, handle: bytes, kind: int, data: bytes) -> bool:
        """WORK_DATA, WORK_WARNING, WORK_STATUS: passed on to whoever waits. False: not this worker's job."""
        job = worker.running.get(handle)
        if job is None:
            return False
        for client in job.clients:
            client.progress(kind, job, data)
        return True

    def set_status(self, worker: Worker, handle: bytes, numerator: bytes, denominator: bytes) -> None:
        """What GET_STATUS answers from now on."""
        job = worker.running.get(handle)
        if job is not None:
            job.numerator, job.denominator = numerator, denominator

    def abandon(self, client: Client, job: Job) -> None:
        """The client went away. A foreground job nobody waits for is dropped; a background job stays."""
        job.clients = [other for other in job.clients if other is not client]
        self._drop_unwanted(job)

    def _drop_unwanted(self, job: Job) -> None:
        if job.clients or job.dropped:
            return
        if job.background:
            if job.spilled:
                self._forget(job)  # known to memory for its client's sake only
            return
        job.dropped = True
        if job.queued:  # else it is running, or its batch is under way: forgotten when that is over
            job.queued = False
            job.function.lines[job.priority].drop(job)
            self._count_queued(job.function, job.priority, -1)
            self._forget(job)
            self._after_running(job.function)

    def status(self, handle: bytes) -> JobStatus:
        """GET_STATUS."""
        number = handle.removeprefix(self._prefix)
        if not handle.startswith(self._prefix) or not number.isdigit() or len(number) > 18:
            return JobStatus(known=False)
        job = self._jobs.get(int(number))
        if job is not None:
            return JobStatus(not job.dropped, job.worker is not None, job.numerator, job.denominator)
        if self._leaving(int(number)) or int(number) >= self._next_id:
            return JobStatus(known=False)
        try:
            return JobStatus(known=self._store.find(int(number)) is not None)
        except TransientError:
            return JobStatus(known=False)

    def handle(self, job: Job) -> bytes:
        """`H:<host>:<id>`; never given twice, whatever happens to the process."""
        return b"%b%d" % (self._prefix, job.id)

    # -- time and totals -----------------------------------------------------------------------------------------

    def tick(self, now: float) -> float | None:
        """Do what is due; returns when there will be more to do, or None."""
        for function in [f for f, until in self._paused.items() if until <= now]:
            del self._paused[function]
            function.paused_until = 0.0
            for _ in range(min(function.queued, len(function.sleepers))):
                self._wake_one(function)
        return min(self._paused.values(), default=None)

    def stats(self, now: float) -> dict[bytes, FunctionStats]:
        """Every function that has or had jobs or workers."""
        return {
            name: FunctionStats(f.total, len(f.running), len(f.workers), self._oldest_age(f, now))
            for name, f in self.functions.items()
        }

    def pending(self, prefix: bytes) -> int:
        """Jobs queued or running in all functions whose name starts with the prefix."""
        return sum(f.total for name, f in self.functions.items() if name.startswith(prefix))

    def _oldest_age(self, function: Function, now: float) -> float:
        submitted = [job.submitted for job in function.running.values()]
        for line in function.lines:
            if line.hungry:
                with suppress(TransientError):
                    self._refill(function, line)
            if job := line.head():
                submitted.append(job.submitted)
        return max(0.0, now + self._epoch - min(submitted) / 1e6) if submitted else 0.0

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _function(self, name: bytes) -> Function:
        """The function of this name, made on first use. Beyond max_functions it is not kept, so submits are refused."""
        function = self.functions.get(name)
        if function is not None:
            return function
        if len(self.functions) >= self.limits.max_functions:
            self._forget_idle_functions()
        if len(self.functions) >= self.limits.max_functions:
            return Function(name, LaneGroup())
        group = self._groups.setdefault(lanes.group_name(name), LaneGroup())
        group.lanes += 1
        function = self.functions[name] = Function(name, group)
        return function

    def _forget_idle_functions(self) -> None:
        # A job may still be on its way to one of them: then its batch is not through, and this waits.
        if self._batch.jobs or self._committing.jobs:
            return
        for name in list(islice(self.functions, _SWEEP)):
            function = self.functions.pop(name)
            if function.total or function.workers:
                self.functions[name] = function  # behind the others: the next sweep looks at those
                continue
            function.group.lanes -= 1
            if not function.group.lanes:
                del self._groups[lanes.group_name(name)]

    def _count_queued(self, function: Function, priority: int, change: int) -> None:
        if change > 0 and function.lane and not function.total:
            function.group.active += 1
        function.queued += change
        self._queued[priority] += change

    def _job(self, function: Function, record: JobRecord) -> Job:
        job = Job(record.id, function, record.priority, record.unique, b"")
        job.payload, job.size = None, record.size
        job.join_key, job.submitted, job.attempts = record.join_key, record.submitted, record.attempts
        job.background = job.stored = True
        return job

    def _remember(self, job: Job) -> None:
        self._jobs[job.id] = job
        if job.join_key is not None:
            job.function.joinable[job.join_key] = job

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        self._forget_joinable(job)
        if job.background:
            self._release_payload(job)
        else:
            self.foreground_bytes -= job.size + _OVERHEAD

    def _forget_joinable(self, job: Job) -> None:
        if job.join_key is not None and job.function.joinable.get(job.join_key) is job:
            del job.function.joinable[job.join_key]

    def _release_payload(self, job: Job) -> None:
        if job.payload is not None:
            job.payload = None
            self.payload_bytes -= job.size

    def _uncount(self, job: Job) -> None:
        self.jobs -= 1
        self.bytes -= job.size

    def _leaving(self, number: int) -> bool:
        """Over, but its row may still be in the store."""
        return number in self._batch.changes.removes or number in self._committing.changes.removes

    def _pause(self, function: Function, until: float) -> None:
        function.paused_until = self._paused[function] = until

    # -- sleeping and waking -------------------------------------------------------------------------------------

    def _wake_one(self, function: Function) -> None:
        """Send one NOOP for one job, to a sleeper who may have it."""
        if function.paused_until:
            return  # tick() will
        if not function.lane:
            self._wake(next(iter(function.sleepers)))
            return
        if function.holder is not None:
            if function.holder.sleeping:
                self._wake(function.holder)
            return
        for worker in function.sleepers:
            if self._may_take(worker, function, 0.0):
                self._wake(worker)
                return

    def _wake(self, worker: Worker) -> None:
        self._stir(worker)
        worker.wake()

    def _stir(self, worker: Worker) -> None:
        worker.sleeping = False
        for function in worker.functions:
            function.sleepers.pop(worker, None)

    def _employ(self, worker: Worker) -> None:
        """An idle worker got a job: it no longer keeps others from the lanes it did not take."""
        worker.idle = False
        for function in worker.functions:
            function.idle.pop(worker, None)
        for function in worker.functions:
            if function.lane and function.queued and function.holder is None and function.sleepers:
                self._wake_one(function)
