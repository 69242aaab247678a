"""kill -9 of the job server and of its store's own server, at random moments under load: for every durable store.

What was acknowledged is there afterwards, byte for byte, under the handle that the client was told; both start again.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from syncbridge.dispatch import packets as p
from tests.servers import MariaDB, MySQL, PostgreSQL, Redis, ServerProcess, SqlServer, eventually
from tests.servers.job_server import JobServerProcess, Peer

pytestmark = pytest.mark.chaos

PLAIN = 10_000
SUBMITTERS = 4
#: Submissions that a submitter sends before it waits for an answer.
AHEAD = 150


class Job(NamedTuple):
    """What is submitted, and must come back as it is."""

    function: bytes
    unique: bytes = b""
    payload: bytes = b"data"
    reducer: bytes = b""
    priority: int = 1
    #: Seconds from the start of the test; 0: at once.
    after: int = 0

    @property
    def told(self) -> tuple[bytes, ...]:
        """What a worker sees of it."""
        return self[:4]

    def packet(self, start: float) -> bytes:
        if self.after:
            when = b"%d" % (start + self.after)
            return p.request(p.SUBMIT_JOB_EPOCH, self.function, self.unique, when, self.payload)
        if self.reducer:
            return p.request(
                p.SUBMIT_REDUCE_JOB_BACKGROUND, self.function, self.unique, self.reducer, b"", self.payload
            )
        return p.request(_KINDS[self.priority], self.function, self.unique, self.payload)


_KINDS = (p.SUBMIT_JOB_HIGH_BG, p.SUBMIT_JOB_BG, p.SUBMIT_JOB_LOW_BG)

#: Each is submitted many times over. Names tell functions apart, so that none can come back as another.
AWKWARD = [
    Job(b"function-with-hyphens-"),
    Job(b"a", b"unique-with-hyphens-"),
    Job(b"b", b""),
    Job(b"c", b"-"),
    Job(b"d", b"-", b""),
    Job(b"e", b"", b""),
    Job(b"f", b"nul", b"\0a\0\0b\0"),
    Job(b"g", b'it\'s "quoted" `x` \\', b"'\"\\;-- %s :x ? $1"),
    Job("h snö ☃".encode(), "ünique".encode(), "snö ☃ \U0001f600".encode()),
    Job(b"i", b"", bytes(range(256)) * 4096),
    Job(b"j", b"", random.Random(3).randbytes(3 << 20)),
    Job(b"k\xff\x01", bytes(range(1, 64)), bytes(range(255, -1, -1))),
    Job(b"l", b"high", b"h", priority=0),
    Job(b"l", b"normal", b"n", priority=1),
    Job(b"l", b"low", b"l", priority=2),
    Job(b"m", b"", b"1 2 3", b"a-reducer\xff"),
    Job(b"n", b"soon", b"s", after=2),
    Job(b"later", b"", b"l", after=3600),
]
#: Copies of each awkward job; of those that hold megabytes.
COPIES, BIG_COPIES = 12, 3


class Work:
    """All submissions, and what came of them. Used by many threads."""

    def __init__(self, jobs: list[Job]) -> None:
        self._lock = threading.Lock()
        self._left = deque(jobs)
        self.acknowledged: dict[bytes, Job] = {}
        self.answers = 0
        self.refused = 0
        #: Why a submitter gave up.
        self.error: BaseException | None = None
        self.total = len(jobs)
        self.start = time.time()

    def take(self) -> Job | None:
        with self._lock:
            return self._left.popleft() if self._left else None

    def acknowledge(self, job: Job, handle: bytes) -> None:
        with self._lock:
            self.answers += 1
            assert self.acknowledged.setdefault(handle, job) == job, f"{handle!r} was given to two jobs"

    def again(self, jobs: deque[Job]) -> None:
        """Not answered, or refused: nobody knows, so they are submitted once more."""
        with self._lock:
            self._left.extend(jobs)
        jobs.clear()

    def wait(self, answers: int) -> None:
        """Until so many submissions are acknowledged, or a submitter has seen what must not be."""
        eventually(lambda: self.answers >= answers or self.error, timeout=60, interval=0.001)
        assert self.error is None, repr(self.error)


class Submitter(threading.Thread):
    """Submits over one connection after the other, pipelined."""

    def __init__(self, port: int, work: Work, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.work, self.over = port, work, over

    def run(self) -> None:
        unanswered: deque[Job] = deque()
        while not self.over.is_set():
            try:
                with Peer(self.port, timeout=30) as peer:
                    self.submit(peer, unanswered)
            except OSError:
                time.sleep(0.01)  # the server is down
            except BaseException as error:
                self.work.error = error
                return
            self.work.again(unanswered)

    def submit(self, peer: Peer, unanswered: deque[Job]) -> None:
        while not self.over.is_set():
            while len(unanswered) < AHEAD and (job := self.work.take()) is not None:
                unanswered.append(job)
                peer.socket.sendall(job.packet(self.work.start))
            if not unanswered:
                time.sleep(0.005)  # others may still have to give something back
                continue
            kind, body = peer.receive()
            job = unanswered.popleft()
            if kind == p.JOB_CREATED:
                self.work.acknowledge(job, body)
                continue
            assert (kind, body[:11]) == (p.ERROR, b"QUEUE_ERROR"), (p.NAMES[kind], body)
            self.work.refused += 1
            self.work.again(deque([job]))
            time.sleep(0.002)


def sqlite(stack: ExitStack) -> tuple[str, ServerProcess | None]:
    return "", None


def sql(kind: type[SqlServer]) -> Callable[[ExitStack], tuple[str, ServerProcess | None]]:
    def start(stack: ExitStack) -> tuple[str, ServerProcess | None]:
        server = stack.enter_context(kind())
        server.execute("CREATE DATABASE queue")
        return server.url(database="queue"), server

    return start


def postgresql(stack: ExitStack) -> tuple[str, ServerProcess | None]:
    server = stack.enter_context(PostgreSQL())
    return server.url(), server


def redis(stack: ExitStack) -> tuple[str, ServerProcess | None]:
    server = stack.enter_context(Redis(appendonly=True, appendfsync="always"))
    return server.url(), server


@pytest.mark.parametrize(
    ("start", "times"),
    [(sqlite, 6), (sql(MariaDB), 4), (sql(MySQL), 3), (postgresql, 4), (redis, 4)],  # MySQL takes seconds to recover
    ids=["sqlite", "mariadb", "mysql", "postgresql", "redis"],
)
def test_no_acknowledged_job_is_lost_or_mangled(
    start: Callable[[ExitStack], tuple[str, ServerProcess | None]], times: int
) -> None:
    work = Work(submissions())
    over = threading.Event()
    with ExitStack() as stack:
        url, store = start(stack)
        server = stack.enter_context(JobServerProcess(url))
        submitters = [Submitter(server.port, work, over) for _ in range(SUBMITTERS)]
        for submitter in submitters:
            submitter.start()
        try:
            kills = kill_under_load(server, store, work, times)
            work.wait(work.total)
        finally:
            over.set()
            for submitter in submitters:
                submitter.join(40)
        for victim in (server, store):  # and once more, with all of it in the store
            if victim is not None:
                victim.kill9()
                kills[victim.name] += 1
        for victim in (store, server):
            if victim is not None:
                victim.start()
        later = {handle for handle, job in work.acknowledged.items() if job.function == b"later"}
        delivered = deliver(server, {h: job for h, job in work.acknowledged.items() if h not in later})
        server.kill9()
        server.start()
        left = {function: total for function, (total, _, _) in server.status().items() if total}
        assert left.pop("last") == 1
        assert left.keys() == {"later"}, "a completed job came back"
        assert left["later"] >= len(later) > 0, "a scheduled job is lost"
    duplicates = len(delivered.keys() - work.acknowledged.keys())
    print(
        f"{dict(kills)} kills, {work.answers} acknowledged as {len(work.acknowledged)} jobs, {work.refused} refused, "
        f"{len(delivered)} delivered, {duplicates} of them unacknowledged duplicates"
    )


def submissions() -> list[Job]:
    jobs = [Job(b"plain%d" % (n % 7), b"" if n % 3 else b"u%d" % n, b"payload %d" % n) for n in range(PLAIN)]
    for job in AWKWARD:
        jobs += [job] * (BIG_COPIES if len(job.payload) > 1000 else COPIES)
    random.shuffle(jobs)
    return jobs


def kill_under_load(server: JobServerProcess, store: ServerProcess | None, work: Work, times: int) -> Counter[str]:
    """Kill one or both at random points of the way, and start them again."""
    kills: Counter[str] = Counter()
    victims = [[server]] if store is None else [[server], [store], [server, store]]
    for number, point in enumerate(sorted(random.sample(range(work.total * 9 // 10), times))):
        work.wait(point)
        time.sleep(random.uniform(0, 0.02))  # somewhere in a commit
        chosen = victims[number % len(victims)]
        for victim in chosen:
            victim.kill9()
            kills[victim.name] += 1
        for victim in reversed(chosen):
            victim.start()
    return kills


def deliver(server: JobServerProcess, acknowledged: dict[bytes, Job]) -> dict[bytes, Job]:
    """Everything there is, completed; each acknowledged job must be among it, as it was submitted."""
    delivered: dict[bytes, Job] = {}
    sent = {job.told for job in acknowledged.values()}
    with Peer(server.port, timeout=30) as peer:
        peer.can_do(*{function for function, *_ in sent})

        def all_there() -> bool:
            peer.socket.sendall(p.request(p.GRAB_JOB_ALL) * 200)
            got = [peer.receive() for _ in range(200)]
            for kind, body in got:
                if kind != p.NO_JOB:
                    handle, job = assigned(kind, body)
                    assert handle not in delivered, f"{handle!r} came twice"
                    assert job.told in sent, f"{handle!r} is no job that was submitted: {str(job)[:200]}"
                    delivered[handle] = job
                    peer.send(p.WORK_COMPLETE, handle, b"")
            # Its duplicates may still be queued.
            return acknowledged.keys() <= delivered.keys() and got[-1][0] == p.NO_JOB

        eventually(
            all_there,
            timeout=60,
            interval=0.001,
            message=lambda: f"missing: {[(h, j[:2]) for h, j in acknowledged.items() if h not in delivered][:10]}",
        )
        # Accepted with the commit of the last completion, or after it.
        peer.submit(b"last")
    for handle, job in acknowledged.items():
        assert delivered[handle].told == job.told, f"{handle!r} is mangled"
    return delivered


def assigned(kind: int, body: bytes) -> tuple[bytes, Job]:
    """Handle and job; only a job with a reducer comes as JOB_ASSIGN_ALL."""
    if kind == p.JOB_ASSIGN_ALL:
        handle, function, unique, reducer, payload = p.arguments(body, 5)
        return handle, Job(function, unique, payload, reducer)
    assert kind == p.JOB_ASSIGN_UNIQ, p.NAMES[kind]
    handle, function, unique, payload = p.arguments(body, 4)
    return handle, Job(function, unique, payload)
