"""The schedule: jobs for later, due at their time, in bounded memory, after a restart too, and nothing turning idly."""

from __future__ import annotations

from random import Random

import pytest

from syncbridge.dispatch import reading
from syncbridge.dispatch.function import Function
from syncbridge.dispatch.job import Job
from syncbridge.dispatch.lanes import LaneGroup
from syncbridge.dispatch.policy import Policy
from syncbridge.dispatch.schedule import Schedule
from syncbridge.dispatch.store import READY
from syncbridge.dispatch.store.memory import MemoryStore
from tests.unit.queue_bench import Bench


def test_a_job_for_later_wakes_its_worker_once_and_in_time() -> None:
    bench = Bench()
    sleepers = [bench.worker(b"f", asleep=True) for _ in range(50)]
    bench.put(b"f", due=3600.0, reducer=b"r")
    assert bench.client.answers == [1]
    assert sum(worker.noops for worker in sleepers) == 0
    assert bench.tick(0.0) == pytest.approx(3600.0)
    assert bench.queue.stats(0.0)[b"f"][:2] == (1, 0)
    assert bench.status(b"H:h:1") == b"H:h:1\x001\x000\x000\x000"
    bench.tick(3599.9)
    assert sum(worker.noops for worker in sleepers) == 0
    assert bench.tick(3600.0) is None
    assert sum(worker.noops for worker in sleepers) == 1
    awake = next(worker for worker in sleepers if worker.noops)
    assert bench.grab(awake, 3600.0) == (b"f", 1)
    assert awake.running[b"H:h:1"].reducer == b"r"
    bench.complete(awake, 1)
    assert bench.stored() == {}


def test_a_job_for_the_past_is_queued_at_once() -> None:
    bench = Bench()
    bench.queue.submit(bench.client, b"f", 1, b"", b"", True, 100.0, due=50_000_000)
    bench.commit()
    assert bench.grab(bench.worker(b"f")) == (b"f", 1)


def test_a_job_for_later_hides_no_other() -> None:
    bench = Bench()
    bench.put(b"f", due=3600.0)
    bench.queue.submit(bench.client, b"f", 2, b"", b"", True, 0.0)
    bench.commit()
    worker = bench.worker(b"f")
    assert bench.grab(worker) == (b"f", 2)
    assert bench.grab(worker) is None


def test_a_scheduled_job_is_joined() -> None:
    bench = Bench()
    bench.put(b"f", due=100.0, unique=b"u")
    bench.put(b"f", unique=b"u", background=False)
    bench = Bench(bench.store)
    bench.put(b"f", unique=b"u", background=False)
    assert bench.client.answers == [1]
    bench.tick(100.0)
    worker = bench.worker(b"f")
    assert bench.grab(worker, 100.0) == (b"f", 1)
    bench.complete(worker, 1, b"done")
    assert bench.client.answers[-1][2] == b"done"


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_REFILL", 7)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("restart", [True, False])
def test_memory_knows_the_next_ones_only(restart: bool) -> None:
    random = Random(restart)
    bench = Bench(schedule=10)
    dues = {}
    for number in range(1, 201):
        dues[number] = float(random.randrange(1, 1000))
        bench.put(b"f", due=dues[number], payload=b"%d" % number)
        bench.tick(0.0)
        assert len(bench.queue.schedule) <= 21
    if restart:
        bench = Bench(bench.store, schedule=10)
        bench.tick(0.0)
        assert len(bench.queue.schedule) <= 21
    worker = bench.worker(b"f")
    seen: list[float] = []
    due: float | None = 0.0
    while due is not None:
        now, due = due, bench.tick(due)
        while (found := bench.grab(worker, now)) is not None:
            assert dues[found[1]] <= now
            seen.append(now)
            bench.complete(worker, found[1])
    assert len(seen) == 200
    assert bench.stored() == {}
    assert len(bench.queue.holdings.jobs) == 0
    print(f"200 jobs due at {len(set(seen))} times")


@pytest.mark.usefixtures("small_pages")
def test_many_jobs_due_at_once_do_not_stay_in_memory() -> None:
    bench = Bench(schedule=20, window=10, small_window=10)
    for _ in range(300):
        bench.put(b"f", due=100.0)
        bench.tick(0.0)
    for _ in range(60):
        bench.tick(100.0)
    assert bench.queue.functions[b"f"].queued == 300
    assert len(bench.queue.holdings.jobs) < 100
    print(f"{len(bench.queue.holdings.jobs)} of 300 due jobs in memory")
    worker = bench.worker(b"f")
    found = []
    while (grabbed := bench.grab(worker, 100.0)) is not None:
        found.append(grabbed[1])
        bench.complete(worker, grabbed[1])
        bench.commit()
    assert sorted(found) == list(range(1, 301))
    assert bench.stored() == {}


def test_a_scheduled_job_is_cancelled_in_memory_and_on_disk() -> None:
    store = MemoryStore()
    bench = Bench(store)
    bench.put(b"f", b"f", due=100.0)
    assert bench.queue.control.cancel(b"H:h:1", 0.0)
    bench.commit()
    bench = Bench(store)
    assert not bench.queue.control.cancel(b"H:h:2", 0.0)  # memory does not know it
    bench.queue.control.cancel_anywhere(bench.client, b"H:h:2", 0.0, done=b"yes", unknown=b"no")
    bench.queue.control.cancel_anywhere(bench.client, b"H:h:3", 0.0, done=b"yes", unknown=b"no")
    bench.commit()
    assert bench.client.answers == [b"yes", b"no"]
    assert bench.stored() == {}
    assert bench.tick(200.0) is None
    assert bench.queue.functions[b"f"].total == 0


def test_a_dead_or_scheduled_job_is_requeued() -> None:
    bench = Bench()
    worker = bench.worker(b"f")
    bench.put(b"f", b"f")
    bench.grab(worker)
    bench.fail(worker, 1)
    bench.put(b"g", due=1000.0, payload=b"later")
    bench.commit()
    other = Bench(bench.store)
    for number, expected in ((1, True), (3, True), (2, False), (4, False)):
        assert other.queue.control.requeue(number, other.store.find(number)) is expected
    assert other.stored() == {1: (b"f", READY, 0), 2: (b"f", READY, 0), 3: (b"g", READY, 0)}
    worker = other.worker(b"f", b"g")
    assert {other.grab(worker), other.grab(worker), other.grab(worker)} == {(b"f", 1), (b"f", 2), (b"g", 3)}
    for number in (1, 2, 3):
        other.complete(worker, number)
    assert other.stored() == {}
    assert (other.queue.dead, other.queue.jobs) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_schedule_against_a_sorted_list(seed: int) -> None:
    random = Random(seed)
    schedule, store = Schedule(4), dict[int, int]()  # the store: id -> due of jobs not in memory
    function = Function(b"f", LaneGroup(), Policy())
    known: dict[int, Job] = {}
    clock = 0
    for number in range(1, 300):
        action = random.random()
        if action < 0.5:
            job = known[number] = Job(number, function, 1, b"", b"", b"H:h:%d" % number)
            job.due = clock + random.randrange(1, 50)
            schedule.add(job)
        elif action < 0.6 and len(schedule):
            job = random.choice(list(schedule))
            assert schedule.remove(job)
            del known[job.id]
        elif action < 0.8:
            clock += random.randrange(10)
            while (due := schedule.pop(clock)) is not None:
                assert due.due == min(job.due for job in known.values())
                del known[due.id]
        for job in schedule.trim(lambda _: True):
            store[job.id] = job.due
        while schedule.hungry:
            page = sorted((due, n) for n, due in store.items() if (due, n) > schedule.horizon)[:3]
            for _, n in page:
                del store[n]
            jobs = [known[n] for _, n in page]
            assert schedule.page(jobs, page[-1] if len(page) == 3 else None) == 0
        assert len(schedule) + len(store) == len(known)
        assert schedule.on_disk == len(store)
        assert len(schedule) <= 12
        first = min((job.due for job in known.values()), default=None)
        assert schedule.next() == first
