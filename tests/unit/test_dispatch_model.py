"""The queue core against a plain model: random submits, commits that fail, crashes, workers that die or sleep.

The model is a dict of jobs and knows no windows, batches or indexes. What it demands: nothing accepted is lost or
handed out twice, every function is handed out by priority and age, a lane is in one worker's hands, no sleeper misses
a job, no job comes before its time, whatever fails has the fate its policy says, and nothing is left in memory at
the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncbridge.dispatch import reading
from syncbridge.dispatch.batch import Batch
from syncbridge.dispatch.function import FULL, RESTING
from syncbridge.dispatch.job import Job, join_key
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.packets import WORK_COMPLETE, WORK_FAIL
from syncbridge.dispatch.policy import Ending, Policies, Policy, next_delivery
from syncbridge.dispatch.queue import JobQueue
from syncbridge.dispatch.reading import Read
from syncbridge.dispatch.run import Run
from syncbridge.dispatch.store import DEAD, READY, SCHEDULED
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.dispatch.worker import Worker
from syncbridge.errors import TransientError

LANES = [b"syncbridge.shop.0", b"syncbridge.shop.1", b"syncbridge.shop.2"]
ISOLATED = [lane + b".isolated" for lane in LANES]
PLAIN = [b"f", b"g"]
FUNCTIONS = LANES + ISOLATED + PLAIN


@dataclass
class Entry:
    """A job as the model knows it."""

    id: int
    function: bytes
    priority: int
    payload: bytes
    key: bytes | None
    background: bool
    clients: list[FakeClient] = field(default_factory=list)
    queued: bool = False
    worker: FakeWorker | None = None
    attempts: int = 0
    #: It waits for this time.
    due: float | None = None
    #: It waited for a time once: such jobs may come late, so their order is not asked for.
    late: bool = False
    #: Its worker has until then.
    deadline: float | None = None
    #: There may be another with its key: they came while the store could not be read.
    twin: bool = False

    @property
    def lane(self) -> bool:
        return self.function not in PLAIN


@dataclass(eq=False)
class Submission:
    client: FakeClient
    function: bytes
    priority: int
    payload: bytes
    key: bytes | None
    background: bool
    due: float
    #: The store could not be asked for jobs with this key.
    blind: bool


class Created(NamedTuple):
    """What the core says of one job of a run."""

    id: int
    state: int = READY


#: A client, and what it was told of a submission.
Told = tuple["FakeClient", Job | Created | str]


class FakeClient:
    def __init__(self, told: list[Told]) -> None:
        self.answers: list[int | str] = []
        self.finished: list[int] = []
        #: What `answers` of all clients say of submissions, with the jobs themselves.
        self.told = told

    def created(self, job: Job) -> None:
        self.answers.append(job.id)
        self.told.append((self, job))

    def created_run(self, first: int, count: int) -> None:
        self.answers += range(first, first + count)
        self.told += [(self, Created(number)) for number in range(first, first + count)]

    def refused(self, reason: str) -> None:
        self.answers.append(reason)
        self.told.append((self, reason))

    def deliver(self, reply: bytes) -> None:
        self.answers.append(reply.decode())

    def progress(self, kind: int, job: Job, data: bytes) -> None:
        if kind in (WORK_COMPLETE, WORK_FAIL):
            self.finished.append(job.id)


class FakeWorker:
    def __init__(self, abilities: Iterable[bytes]) -> None:
        self.noops = 0
        self.state = Worker(self.wake)
        self.abilities = set(abilities)
        self.sleeping = False

    def wake(self) -> None:
        assert self.sleeping, "NOOP to a worker that does not sleep"
        self.sleeping = False
        self.noops += 1


class Simulation:
    """The core and the model side by side; every step does the same to both and compares."""

    def __init__(self, random: Random) -> None:
        self.random = random
        window = random.choice([1, 2, 4])
        self.limits = Limits(
            window=window,
            small_window=window,
            memory=random.choice([0, 20, 10_000]),
            max_jobs=random.choice([10, 60]),
            max_foreground_bytes=8000,
            schedule=random.choice([1, 3]),
        )
        choice = random.choice
        self.policies = Policies(
            Policy(
                durable=choice([False, False, True]),
                attempts=choice([0, 1, 3]),
                retry_failures=choice([True, False]),
                timeout=choice([0.0, 0.0, 5.0]),
                running=choice([0, 0, 2]),
            ),
            lane=Policy(durable=True, timeout=choice([0.0, 0.0, 7.0])),
        )
        self.store = MemoryStore()
        self.now = 100.0
        self.jobs: dict[int, Entry] = {}
        self.done: set[int] = set()
        self.dead: set[int] = set()
        #: Who must have heard of the end of which job.
        self.owed: list[tuple[FakeClient, int]] = []
        self.counter = 0
        self.open()

    def run(self, steps: int) -> None:
        actions, weights = zip(*self.actions(), strict=True)
        for _ in range(steps):
            self.random.choices(actions, weights)[0]()
            self.clients_are_told()
            self.totals_agree()
            self.no_sleeper_misses_a_job()
            self.lanes_are_counted()
            self.available_jobs_are_counted()
        self.finish()

    def actions(self) -> list[tuple[Callable[[], None], int]]:
        """What may happen, and how often it shall."""
        return [
            (self.submit, self.random.choice([4, 12, 40])),  # queues that run dry, or pile up
            (self.submit_run, self.random.choice([1, 4, 12])),
            (self.client_leaves, 1),
            (self.take, 12),
            (self.commit, 12),
            (self.commit_fails, 2),
            (self.read, 12),
            (self.read_fails, self.random.choice([0, 1])),
            (self.deliver, 12),
            (self.worker_joins, 3),
            (self.worker_dies, 2),
            (self.ability_changes, 2),
            (self.sleep, 8),
            (self.grab, 20),
            (self.complete, 15),
            (self.fail, 4),
            (self.cancel, 1),
            (self.time_passes, 4),
            (self.crash, 1),
        ]

    #: See JobQueue.
    volatile = False

    def open(self) -> None:
        self.queue = JobQueue(self.store, limits=self.limits, host="h", policies=self.policies, volatile=self.volatile)
        self.told: list[Told] = []
        self.clients = [FakeClient(self.told), FakeClient(self.told)]
        self.workers: list[FakeWorker] = []
        #: (client, id, durable) and new ids, per batch: gathering and committing.
        self.answers: list[tuple[FakeClient, int, bool]] = []
        self.new: list[int] = []
        self.upgraded: list[int] = []
        self.batch: Batch | None = None
        self.in_flight: tuple[list[Any], list[int], list[int]] = ([], [], [])
        #: Submissions not decided yet: one that may join a job on disk waits for a read.
        self.undecided: list[Submission] = []
        self.reads: list[tuple[Read, Any]] | None = None

    # -- submitting

    def submit(self) -> None:
        choice = self.random.choice
        client, function, background = choice(self.clients), choice(FUNCTIONS), choice([True, True, False])
        priority, unique = choice([1, 1, 1, 0, 2]), choice([b"", b"", b"", b"u", b"v", b"-"])
        self.counter += 1
        payload = b"same" if choice([True, False]) else b"payload %d" % self.counter
        key = None if function not in PLAIN else join_key(unique, payload)
        due = self.now + choice([0.0, 0.0, 0.1, 3.0, 30.0]) if function in PLAIN else 0.0
        blind = bool(self.queue.away)
        self.undecided.append(Submission(client, function, priority, payload, key, background, due, blind))
        micro = int(due * 1e6)
        self.queue.submit(client, function, priority, unique, payload, background, self.now, due=micro)
        self.decide()

    def submit_run(self) -> None:
        """Background submits of one function arrive together; some of them may join others."""
        choice = self.random.choice
        client, function, priority = choice(self.clients), choice([*FUNCTIONS, *PLAIN * 3]), choice([1, 1, 0, 2])
        count = choice([1, 2, 4])
        named = self.random.sample([b"u", b"v", b"w", b"x", b"y", b"z"], count)
        odd = [*named[:-1], choice([b"", b"-", named[0]])]
        uniques = choice([[b""] * count, named, named, odd])
        payloads = []
        for unique in uniques:
            self.counter += 1
            payload = b"payload %d" % self.counter
            key = None if function not in PLAIN else join_key(unique, payload)
            blind = bool(self.queue.away)
            self.undecided.append(Submission(client, function, priority, payload, key, True, 0.0, blind))
            payloads.append(payload)
        if not self.queue.submit_run(client, function, priority, uniques, payloads, self.now):
            for unique, payload in zip(uniques, payloads, strict=True):
                self.queue.submit(client, function, priority, unique, payload, True, self.now)
        self.decide()

    def decide(self) -> None:
        """The core decided on some submissions: do the same."""
        answers: list[tuple[FakeClient, Any]] = []
        for client, about, _ in self.queue._batches.gathering.answers:
            each = [Created(number) for number in range(about.first, about.end)] if isinstance(about, Run) else [about]
            answers += [(cast(FakeClient, client), one) for one in each]
        for fake, about in answers[len(self.answers) :]:
            self.decided(fake, about)
        for fake in {fake for fake, *_ in self.answers if fake not in self.clients}:
            self.leave(fake)

    def decided(self, client: FakeClient, about: Job | Created | bytes | str) -> None:
        wanted = next(s for s in self.undecided if s.client is client)
        self.undecided.remove(wanted)
        if isinstance(about, Job | Created):
            self.accepted(wanted, about)
        else:
            self.refused(wanted, about)

    def refused(self, wanted: Submission, reason: Any) -> None:
        matches = self.joinable(wanted)
        if wanted.background and self.queue.away:
            assert reason == self.queue.away
            assert wanted.blind or not any(entry.background and not entry.twin for entry in matches)
        else:
            assert reason == "Job queue is full"
            assert wanted.blind or all(entry.twin for entry in matches)
            stored = sum(e.background for e in self.jobs.values())
            assert stored >= self.limits.max_jobs if wanted.background else True
        self.answers.append((wanted.client, -1, True))

    def joinable(self, wanted: Submission) -> list[Entry]:
        return [e for e in self.jobs.values() if wanted.key and e.function == wanted.function and e.key == wanted.key]

    def accepted(self, wanted: Submission, job: Job | Created) -> None:
        client, background = wanted.client, wanted.background
        matches = self.joinable(wanted)
        joined = next((entry for entry in matches if entry.id == job.id), None)
        if joined:
            if background and not joined.background:
                joined.background = True
                self.upgraded.append(joined.id)
        else:
            twins = matches and (wanted.blind or any(entry.twin for entry in matches))
            assert twins or not matches, "not joined"
            assert job.id not in self.jobs
            assert job.id not in self.done
            joined = self.jobs[job.id] = Entry(
                job.id, wanted.function, wanted.priority, wanted.payload, wanted.key, background
            )
            if job.state == SCHEDULED:
                joined.due, joined.late = wanted.due, True
            for entry in [joined, *matches] if twins else []:
                entry.twin = True
            self.new.append(job.id)
        if not background:
            joined.clients.append(client)
            assert isinstance(job, Job)
            self.waiting(client)[job.id] = job
        self.answers.append((client, job.id, background))

    # -- reading

    def read(self) -> None:
        """The reader thread looks at the store."""
        if self.reads is None:
            self.reads = [(read, read.ask(self.store)) for read in self.queue.take_reads()] or None

    def read_fails(self) -> None:
        if self.reads is None:
            error = TransientError("store is away")
            for submission in self.undecided:
                submission.blind = True
            self.reads = [(read, error) for read in self.queue.take_reads() if read] or None

    def deliver(self) -> None:
        """What it saw reaches the core, later."""
        if self.reads is not None:
            reads, self.reads = self.reads, None
            self.queue.reads_done(reads, self.now)
            self.decide()
            self.notice_due()

    def waiting(self, client: FakeClient) -> dict[int, Job]:
        return client.__dict__.setdefault("waiting", {})

    def client_leaves(self) -> None:
        who = self.random.randrange(2)
        self.leave(self.clients[who])
        self.clients[who] = FakeClient(self.told)

    def leave(self, client: FakeClient) -> None:
        for number, job in self.waiting(client).items():
            self.queue.abandon(client, job)
            entry = self.jobs.get(number)
            if entry:
                entry.clients = [other for other in entry.clients if other is not client]
                self.drop_unwanted(entry)
        self.waiting(client).clear()

    def drop_unwanted(self, entry: Entry) -> None:
        if not entry.background and not entry.clients:
            entry.key = None
            if entry.worker is None:
                self.jobs.pop(entry.id, None)

    # -- committing

    def take(self) -> None:
        if self.queue.away:
            self.answer_without_store()
        if self.batch is not None:
            return
        self.batch = self.queue.take()
        if self.batch is not None:
            self.in_flight = (self.answers, self.new, self.upgraded)
            self.answers, self.new, self.upgraded = [], [], []

    def answer_without_store(self) -> None:
        assert not self.upgraded
        answers, new, self.answers, self.new = self.answers, self.new, [], []
        for number in new:
            if number in self.jobs:
                assert not self.jobs[number].background
                self.jobs[number].queued = self.jobs[number].due is None
        self.queue.answer_without_store()
        self.check_answers(answers)

    def commit(self) -> None:
        batch = self.batch
        if batch is None:
            return
        self.batch = None
        self.store.commit(batch.changes)
        (answers, new, _), self.in_flight = self.in_flight, ([], [], [])
        for number in new:
            if number in self.jobs:
                self.jobs[number].queued = self.jobs[number].due is None
        self.queue.committed(batch)
        self.check_answers(answers)

    def commit_fails(self) -> None:
        batch = self.batch
        if batch is None:
            return
        self.batch = None
        (answers, new, upgraded), self.in_flight = self.in_flight, ([], [], [])
        self.not_stored(new, upgraded)
        # What had gathered meanwhile is refused with it.
        also, new, upgraded = self.answers, self.new, self.upgraded
        self.answers, self.new, self.upgraded = [], [], []
        self.not_stored(new, upgraded)
        self.queue.failed(batch, "disk full")
        self.check_answers(answers + also)

    def not_stored(self, new: list[int], upgraded: list[int]) -> None:
        self.dead -= set(upgraded)
        for entry in [self.jobs[number] for number in upgraded if number in self.jobs]:
            entry.background = False
            self.drop_unwanted(entry)
        for entry in [self.jobs[number] for number in new if number in self.jobs]:
            if entry.background and entry.id not in self.upgraded:
                del self.jobs[entry.id]
            else:
                entry.queued = entry.due is None

    def check_answers(self, answers: list[tuple[FakeClient, int, bool]]) -> None:
        for client, number, durable in answers:
            got = client.answers.pop(0)
            entry = self.jobs.get(number)
            if isinstance(got, int):
                assert got == number
                assert number in self.done or not durable or (entry and entry.background), "accepted and not kept"
            else:
                assert entry is None or not entry.background or number not in self.jobs, "refused and kept"
        for client in self.clients:
            if not any(c is client for c, _, _ in self.answers):
                assert not client.answers

    def crash(self) -> None:
        """kill -9: memory is gone, the commit under way may have made it."""
        if self.batch is not None and self.random.random() < 0.5:
            self.store.commit(self.batch.changes)
        stored = {number: r for number, r in self.store._jobs.items() if r.state != DEAD}
        self.dead = set(self.store._jobs) - set(stored)
        lost_batches = {n for _, n, durable in self.answers if durable} | {n for _, n, d in self.in_flight[0] if d}
        for number, entry in list(self.jobs.items()):
            if entry.background and number not in lost_batches:
                assert number in stored, "an accepted job is lost"
        late = {number for number, entry in self.jobs.items() if entry.late}
        twins = {number for number, entry in self.jobs.items() if entry.twin}
        self.jobs = {
            number: Entry(number, r.function, r.priority, r.payload or b"", r.join_key, True, queued=True)
            for number, r in stored.items()
        }
        for number, entry in self.jobs.items():
            entry.attempts = stored[number].attempts
            entry.late = entry.late or number in late
            if stored[number].state == SCHEDULED:
                entry.queued, entry.due, entry.late = False, stored[number].due / 1e6, True
            entry.twin = number in twins
        self.done.clear()
        self.batch, self.in_flight = None, ([], [], [])
        self.open()

    # -- working

    def worker_joins(self) -> None:
        if len(self.workers) < 4:
            abilities = self.random.sample(FUNCTIONS, self.random.choice([1, 3, len(FUNCTIONS), len(FUNCTIONS)]))
            worker = FakeWorker(abilities)
            for function in abilities:
                self.queue.can_do(worker.state, function)
            self.workers.append(worker)

    def grab(self) -> None:
        if self.workers:
            worker = self.random.choice(self.workers)
            for _ in range(self.random.choice([1, 1, 3])):
                self.grab_one(worker)

    def grab_one(self, worker: FakeWorker) -> bool:
        grabbed = self.queue.grab(worker.state, self.now)
        worker.sleeping = False
        if grabbed is None:
            self.check_nothing_for(worker)
            return False
        _, job, payload = grabbed
        entry = self.jobs[job.id]
        assert entry.queued
        assert entry.worker is None
        assert payload == entry.payload
        assert entry.function in worker.abilities
        waiting = [e for e in self.jobs.values() if e.function == entry.function and e.queued and e.worker is None]
        waiting = [e for e in waiting if e is entry or not e.late]
        best = min((e.priority, e.id) for e in waiting)
        assert (entry.priority, entry.id) == best or (entry.late and entry.priority == best[0]), "out of order"
        assert not entry.lane or self.holders(entry.function) <= {worker}, "lane in two hands"
        entry.worker = worker
        running = [e for e in self.running() if e.function == entry.function]
        if not entry.lane:
            assert len(running) <= (self.policies.default.running or len(running))
        timeout = self.policies.of(entry.function).timeout
        entry.deadline = self.now + timeout if timeout else None
        return True

    def holders(self, function: bytes) -> set[FakeWorker]:
        return {e.worker for e in self.jobs.values() if e.function == function and e.worker is not None}

    def check_nothing_for(self, worker: FakeWorker) -> None:
        """NO_JOB is only right when all that waits is paused, in another's hands, or left to an idle colleague."""
        for entry in self.jobs.values():
            if not entry.queued or entry.worker is not None or entry.function not in worker.abilities:
                continue
            function = self.queue.functions[entry.function]
            if function.closed:
                reading = any(line.reading for line in function.lines)
                limit = self.policies.default.running
                full = function.closed & FULL and len(function.running) == limit
                assert function.closed & RESTING or reading or full
                continue
            assert entry.lane, "a job was not found"
            colleagues = [w for w in self.workers if w is not worker and w.state.idle and entry.function in w.abilities]
            assert self.holders(entry.function) - {worker} or colleagues, "a lane job was not found"

    def sleep(self) -> None:
        if not self.workers:
            return
        worker = self.random.choice(self.workers)
        worker.sleeping = True
        self.queue.pre_sleep(worker.state, self.now)

    def running(self) -> list[Entry]:
        return [entry for entry in self.jobs.values() if entry.worker is not None]

    def complete(self) -> None:
        if not self.running():
            return
        entry = self.random.choice(self.running())
        assert entry.worker
        handle = b"H:h:%d" % entry.id
        for other in self.workers:
            assert other is entry.worker or not self.queue.complete(other.state, handle, b"")
        self.queue.now = self.now
        worker = entry.worker
        assert self.queue.complete(worker.state, handle, b"")
        self.over(entry)
        self.heard_of_lane(entry.function)

    def heard_of_lane(self, function: bytes) -> None:
        timeout = self.policies.of(function).timeout
        for entry in self.running() if function not in PLAIN and timeout else []:
            if entry.function == function:
                entry.deadline = self.now + timeout

    def fail(self) -> None:
        if not self.running():
            return
        entry = self.random.choice(self.running())
        assert entry.worker
        assert self.queue.fail(entry.worker.state, b"H:h:%d" % entry.id, self.now)
        if entry.lane:
            self.heard_of_lane(entry.function)
            entry.worker = entry.deadline = None
            self.drop_unwanted(entry)
        else:
            self.ended_badly(entry, Ending.FAILED)

    def ended_badly(self, entry: Entry, ending: Ending) -> None:
        """A delivery of a plain job: what its policy says."""
        entry.worker = entry.deadline = None
        entry.attempts += 1
        if not entry.background and not entry.clients:
            del self.jobs[entry.id]
            return
        delay = next_delivery(self.policies.default, ending, entry.attempts, background=entry.background)
        if delay is None:
            self.dead |= {entry.id} if entry.background else set()
            self.over(entry)
        elif delay:
            entry.queued, entry.due, entry.late = False, self.now + delay, True

    def cancel(self) -> None:
        if not self.jobs:
            return
        entry = self.random.choice(list(self.jobs.values()))
        if self.queue.control.cancel(b"H:h:%d" % entry.id, self.now):
            assert not entry.lane
            self.over(entry)

    def over(self, entry: Entry) -> None:
        del self.jobs[entry.id]
        self.done.add(entry.id)
        for client in entry.clients:
            self.owed.append((client, entry.id))
            self.waiting(client).pop(entry.id, None)

    def worker_dies(self) -> None:
        if self.workers:
            worker = self.random.choice(self.workers)
            self.workers.remove(worker)
            self.disconnect(worker)

    def disconnect(self, worker: FakeWorker) -> None:
        self.queue.now = self.now
        self.queue.disconnect(worker.state)
        for entry in self.running():
            if entry.worker is worker:
                self.lost(entry)

    def lost(self, entry: Entry) -> None:
        if not entry.lane:
            self.ended_badly(entry, Ending.LOST)
            return
        entry.worker = entry.deadline = None
        entry.attempts += 1
        if entry.function in LANES and entry.attempts >= 3:
            entry.function += b".isolated"
        self.drop_unwanted(entry)

    def ability_changes(self) -> None:
        awake = [worker for worker in self.workers if not worker.sleeping]
        if not awake:
            return
        worker, function = self.random.choice(awake), self.random.choice(FUNCTIONS)
        if function in worker.abilities:
            self.queue.cannot_do(worker.state, function)
            worker.abilities.remove(function)
        else:
            self.queue.can_do(worker.state, function)
            worker.abilities.add(function)

    def time_passes(self) -> None:
        self.now += self.random.choice([0.01, 0.2, 10.0])
        self.tick()

    def tick(self) -> None:
        for entry in [e for e in self.running() if e.deadline is not None and e.deadline <= self.now]:
            if entry.worker is None:
                continue  # its lane was taken away already
            if entry.lane:
                for other in [e for e in self.running() if e.function == entry.function]:
                    self.lost(other)
                continue
            told = [] if self.policies.default.durable else entry.clients
            for client in told:
                self.waiting(client).pop(entry.id, None)
            had_clients = bool(entry.clients)
            entry.clients = [] if told else entry.clients
            if had_clients and not entry.background and told:
                del self.jobs[entry.id]
                self.done.add(entry.id)
            else:
                self.ended_badly(entry, Ending.TIMED_OUT)
        self.queue.now = self.now
        deadline = self.queue.tick(self.now)
        assert deadline is None or deadline > self.now
        self.notice_due()

    def notice_due(self) -> None:
        """What waits for its time is queued as soon as the core knows of it, never before."""
        for entry in self.jobs.values():
            job = self.queue.holdings.jobs.get(entry.id)
            if entry.due is not None and job is not None and job.queued:
                assert entry.due <= self.now + 1e-5, "before its time"
                entry.due, entry.queued = None, True

    # -- what must hold

    def clients_are_told(self) -> None:
        for client, number in self.owed:
            assert number in client.finished
        self.owed.clear()

    def totals_agree(self) -> None:
        new = {*self.new, *self.in_flight[1]}
        for name, function in self.queue.functions.items():
            mine = [
                e
                for e in self.jobs.values()
                if e.function == name and (e.queued or e.worker or (e.due and e.id not in new))
            ]
            assert function.total == len(mine), name
            assert len(function.running) == len([e for e in mine if e.worker])
        assert self.queue.jobs == sum(e.background for e in self.jobs.values())
        assert self.queue.dead == len(self.dead)
        assert self.queue.bytes == sum(len(e.payload) for e in self.jobs.values() if e.background)

    def no_sleeper_misses_a_job(self) -> None:
        for name in {e.function for e in self.jobs.values() if e.queued and e.worker is None}:
            function = self.queue.functions[name]
            able = [w for w in self.workers if name in w.abilities]
            holders = self.holders(name)
            if function.closed or not able:
                continue
            if holders:
                assert len(holders) == 1 or name in PLAIN
            if name in PLAIN or not holders:
                assert not all(w.sleeping for w in able), f"everybody sleeps and {name!r} has jobs"

    def available_jobs_are_counted(self) -> None:
        for priority, available in enumerate(self.queue.holdings.available):
            open_functions = [f for f in self.queue.functions.values() if not f.closed]
            assert available == sum(f.lines[priority].count for f in open_functions)

    def lanes_are_counted(self) -> None:
        for name, function in self.queue.functions.items():
            if function.lane:
                lanes = [f for f in self.queue.functions.values() if f.group is function.group]
                assert function.group.active == sum(f.queued + len(f.running) > 0 for f in lanes), name
                assert sum(function.group.held.values()) == sum(f.holder is not None for f in lanes)

    def settle(self) -> bool:
        """Commit and read until there is nothing to commit and read; whether anything was read."""
        read = False
        while True:
            self.take()
            committing = self.batch is not None
            self.commit()
            self.read()
            if self.reads is None and not committing:
                return read
            read = read or self.reads is not None
            self.deliver()

    def finish(self) -> None:
        """Drain everything: each job exactly once, then nothing is left anywhere."""
        while self.workers:
            self.worker_dies()
        self.settle()
        self.now += 1000
        self.tick()
        last = FakeWorker(FUNCTIONS)
        for function in FUNCTIONS:
            self.queue.can_do(last.state, function)
        self.workers = [last]
        for _ in range(1000):
            if self.grab_one(last):
                (entry,) = self.running()
                assert self.queue.complete(last.state, b"H:h:%d" % entry.id, b"")
                self.over(entry)
            elif self.jobs and not self.settle():
                self.now += 1000
                self.tick()
            elif not self.jobs:
                break
        assert not self.jobs, "left behind"
        self.settle()
        assert set(self.store._jobs) == self.dead
        assert all(backlog.state == DEAD for backlog in self.store.backlogs())
        holdings = self.queue.holdings
        assert (holdings.count, holdings.bytes, holdings.payload_bytes, holdings.foreground_bytes) == (0, 0, 0, 0)
        assert not holdings.jobs
        assert holdings.available == [0, 0, 0]
        assert not any(f.joinable for f in self.queue.functions.values())


class VolatileSimulation(Simulation):
    """A queue in front of a store that is only memory: nothing waits for a commit, and none fails."""

    volatile = True

    def actions(self) -> list[tuple[Callable[[], None], int]]:
        never = (self.take, self.commit, self.commit_fails, self.read_fails, self.crash)
        return [(action, weight) for action, weight in super().actions() if action not in never]

    def decide(self) -> None:
        while self.told:
            self.decided(*self.told.pop(0))
            for entry in [self.jobs[number] for number in self.new]:
                entry.queued = entry.due is None
            self.new, self.upgraded = [], []
        super().decide()
        answers, self.answers = self.answers, []
        self.check_answers(answers)

    def read(self) -> None:
        self.take()
        self.commit()
        super().read()


@pytest.fixture(autouse=True)
def small_refills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_REFILL", 2)
    monkeypatch.setattr(reading, "_AHEAD", 2)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    random=st.randoms(use_true_random=False),
    steps=st.integers(1, 60),
    kind=st.sampled_from([Simulation, VolatileSimulation]),
)
def test_short_histories_shrunk_when_they_fail(random: Random, steps: int, kind: type[Simulation]) -> None:
    kind(random).run(steps)


@pytest.mark.parametrize("seed", range(100))
def test_long_histories(seed: int) -> None:
    Simulation(Random(seed)).run(500)


@pytest.mark.parametrize("seed", range(50))
def test_long_histories_of_a_volatile_queue(seed: int) -> None:
    VolatileSimulation(Random(seed)).run(500)
