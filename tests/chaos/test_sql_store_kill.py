"""kill -9 of the database at random moments of commits: what was confirmed is there once, what was refused is not."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import READY, Changes, JobKey
from syncbridge.dispatch.store.sql import SqlStore
from syncbridge.errors import TransientError
from tests.servers import MariaDB, MySQL, PostgreSQL

pytestmark = pytest.mark.chaos

KILLS = 8
FUNCTIONS = [b"f%d" % n for n in range(5)]


class Core(threading.Thread):
    """Commits as the queue core does: refuses what a failed commit added, and asks again for what must leave."""

    def __init__(self, store: SqlStore, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.store, self.over = store, over
        self.jobs: dict[int, JobRecord] = {}
        self.refused: set[int] = set()
        self.removed: set[int] = set()
        self.leaving: dict[int, JobKey] = {}
        self.next_id = store.next_id
        self.commits = self.failures = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self.round()
            while self.leaving:
                self.round()
        except BaseException as error:
            self.error = error

    def round(self) -> None:
        adds = [self.job() for _ in range(random.choice((0, 1, 10, 300)))] if not self.over.is_set() else []
        done = random.sample(sorted(self.jobs), min(len(self.jobs), random.choice((0, 1, 200))))
        for number in done:
            job = self.jobs.pop(number)
            self.leaving[number] = JobKey(job.function, job.priority, job.size)
        try:
            self.store.commit(Changes(adds=adds, removes=dict(self.leaving), reserve=self.next_id + 1000))
        except TransientError:
            self.failures += 1
            self.refused |= {job.id for job in adds}
            time.sleep(0.01)
            return
        self.commits += 1
        self.jobs |= {job.id: job for job in adds}
        self.removed |= self.leaving.keys()
        self.leaving = {}

    def job(self) -> JobRecord:
        number, self.next_id = self.next_id, self.next_id + 1
        payload = random.randbytes(random.choice((0, 20, 200, 20_000 if number % 50 == 0 else 50)))
        function = random.choice(FUNCTIONS)
        return JobRecord(number, function, number % 3, b"u", b"k", 1, 0, payload, len(payload), b"r")


@pytest.mark.parametrize("kind", ["mariadb", "mysql", "postgresql"])
def test_confirmed_once_refused_never(request: pytest.FixtureRequest, kind: str) -> None:
    new: Callable[[], MariaDB | MySQL | PostgreSQL] = request.getfixturevalue(f"new_{kind}")
    server = new()
    server.execute("CREATE DATABASE queue")
    server.database = "queue"
    store = SqlStore(server.url(database="queue"))
    over = threading.Event()
    core = Core(store, over)
    core.start()
    for _ in range(KILLS):
        known = core.commits
        deadline = time.monotonic() + 30
        while core.commits < known + 3 and core.is_alive():
            assert time.monotonic() < deadline, "no commit got through"
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.1))
        server.kill9()
        server.start()
    over.set()
    core.join(60)
    assert not core.is_alive()
    assert core.error is None, core.error
    store.close()
    store = SqlStore(server.url(database="queue"))
    found = {
        job.id: job
        for function in FUNCTIONS
        for priority in range(3)
        for job in store.window(function, priority, after=0, through=10**15, limit=10**6, inline=10**6)
    }
    print(
        f"{KILLS} kills, {core.commits} commits, {core.failures} failed, {len(core.refused)} jobs refused, "
        f"{len(core.removed)} done, {len(core.jobs)} left"
    )
    assert core.commits > 3 * KILLS
    assert found == core.jobs
    assert not found.keys() & (core.refused | core.removed)
    counted = {(b.function, b.priority): (b.jobs, b.bytes) for b in store.backlogs() if b.state == READY}
    expected: dict[tuple[bytes, int], tuple[int, int]] = {}
    for job in core.jobs.values():
        jobs, size = expected.get((job.function, job.priority), (0, 0))
        expected[job.function, job.priority] = jobs + 1, size + job.size
    assert counted == expected, "totals and rows disagree"
    store.close()
