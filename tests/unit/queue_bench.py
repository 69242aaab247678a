"""A queue core on a bench: with a memory store, one client, and a driver that commits and reads when told."""

from __future__ import annotations

from typing import Any

from syncbridge.dispatch.job import Job
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.packets import WORK_FAIL
from syncbridge.dispatch.policy import Policies
from syncbridge.dispatch.queue import JobQueue
from syncbridge.dispatch.reading import Read
from syncbridge.dispatch.store import DEAD
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.dispatch.worker import Worker
from syncbridge.errors import TransientError

LANE = b"syncbridge.shop.0"


class Client:
    def __init__(self) -> None:
        self.answers: list[Any] = []

    def created(self, job: Job) -> None:
        self.answers.append(job.id)

    def created_run(self, first: int, count: int) -> None:
        self.answers += range(first, first + count)

    def refused(self, reason: str) -> None:
        self.answers.append(reason)

    def deliver(self, reply: bytes) -> None:
        self.answers.append(reply)

    def progress(self, kind: int, job: Job, data: bytes) -> None:
        self.answers.append((kind, job.id, data))


class Bench:
    """A core with its store and one client; put() submits and commits."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        policies: Policies | None = None,
        *,
        volatile: bool = False,
        **limits: Any,
    ) -> None:
        self.store = store or MemoryStore()
        self.queue = JobQueue(self.store, limits=Limits(**limits), host="h", policies=policies, volatile=volatile)
        self.client = Client()

    def put(
        self,
        *functions: bytes,
        payload: bytes = b"",
        unique: bytes = b"",
        background: bool = True,
        due: float = 0.0,
        reducer: bytes = b"",
    ) -> None:
        for function in functions:
            self.queue.submit(
                self.client, function, 1, unique, payload, background, 0.0, due=int(due * 1e6), reducer=reducer
            )
        self.commit()

    def commit(self) -> None:
        """Let the driver do its work until there is none: commits and reads."""
        while True:
            batch = self.queue.take()
            if batch is not None:
                self.store.commit(batch.changes)
                self.queue.committed(batch)
            if not self.read() and batch is None:
                return

    def read(self) -> bool:
        reads = self.queue.take_reads()
        outcomes: list[tuple[Read, Any]] = []
        for read in reads:
            try:
                outcomes.append((read, read.ask(self.store)))
            except TransientError as error:
                outcomes.append((read, error))
        if reads:
            self.queue.reads_done(outcomes, self.queue.now)
        return bool(reads)

    def tick(self, now: float) -> float | None:
        """Time passes; returns when there will be more to do."""
        self.queue.tick(now)
        self.commit()
        return self.queue.tick(now)

    def dead(self) -> dict[int, bytes]:
        """Dead letters: id -> note."""
        self.commit()
        return {record.id: record.note for record in self.store.by_due(DEAD, after=(0, 0), limit=1000)}

    def stored(self) -> dict[int, tuple[bytes, int, int]]:
        """Every row: id -> (function, state, attempts)."""
        self.commit()
        found = {}
        for number in range(1, 2000):
            record = self.store.find(number)
            if record is not None:
                found[number] = (record.function, record.state, record.attempts)
        return found

    def worker(self, *functions: bytes, asleep: bool = False, timeout: float = 0.0) -> Sleeper:
        worker = Sleeper(self.queue)
        for function in functions:
            self.queue.can_do(worker, function, timeout)
        if asleep:
            self.queue.pre_sleep(worker, 0.0)
        return worker

    def grab(self, worker: Worker, now: float = 0.0) -> tuple[bytes, int] | None:
        """NO_JOB while a read is under way is not the last word."""
        grabbed = self.queue.grab(worker, now)
        while grabbed is None and self.read():
            grabbed = self.queue.grab(worker, now)
        return (grabbed[1].function.name, grabbed[1].id) if grabbed else None

    def status(self, handle: bytes) -> bytes:
        """The body of STATUS_RES."""
        self.queue.status(self.client, handle)
        self.commit()
        reply = self.client.answers.pop()
        assert isinstance(reply, bytes)
        return reply[12:]

    def complete(self, worker: Worker, number: int, data: bytes = b"") -> None:
        assert self.queue.complete(worker, b"H:h:%d" % number, data)

    def fail(self, worker: Worker, number: int, now: float = 0.0, kind: int = WORK_FAIL, data: bytes = b"") -> None:
        assert self.queue.fail(worker, b"H:h:%d" % number, now, kind, data)


class Sleeper(Worker):
    def __init__(self, queue: JobQueue) -> None:
        self.noops = 0
        super().__init__(self.count)

    def count(self) -> None:
        self.noops += 1
