"""Capture's submitter and the sink's worker client against the real job server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.hints import GearmanHints
from syncbridge.dispatch.submitter import GearmanLanes
from syncbridge.dispatch.worker_client import LaneWorker
from syncbridge.errors import PermanentError, TransientError
from syncbridge.seams import Hint, LaneJob, LaneJobs, LaneQueue, hints_function
from tests.servers.job_server import JobServerProcess, Peer
from tests.servers.process import free_port
from tests.servers.waiting import PATIENCE, eventually

LANES = 4


@pytest.fixture
def server() -> Iterator[JobServerProcess]:
    with JobServerProcess() as started:
        yield started


@pytest.fixture
def lanes(server: JobServerProcess) -> Iterator[GearmanLanes]:
    queue = GearmanLanes("shop", [("127.0.0.1", server.port)])
    yield queue
    queue.close()


@pytest.fixture
def new_worker(server: JobServerProcess) -> Callable[..., LaneWorker]:
    return lambda prefetch=8: LaneWorker("shop", LANES, [("127.0.0.1", server.port)], prefetch=prefetch)


def poll_until(queue: LaneQueue, condition: Callable[[], object], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + PATIENCE * timeout
    while not condition():
        assert time.monotonic() < deadline
        queue.poll(0.1)


async def drain(worker: LaneJobs, count: int) -> list[LaneJob]:
    found: list[LaneJob] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            for job in await worker.grab():
                found.append(job)
                await worker.complete(job)
    return found


def test_submissions_become_durable_in_order(server: JobServerProcess, lanes: GearmanLanes) -> None:
    identity = lanes.connect()
    assert len(identity) == 32
    assert [lanes.submit(n % LANES, b"%d" % n) for n in range(1000)] == list(range(1, 1001))
    assert (lanes.accepted, lanes.backlog, lanes.backlog_bytes) == (0, 1000, 2890)
    poll_until(lanes, lambda: lanes.accepted == 1000)
    assert (lanes.backlog, lanes.backlog_bytes) == (0, 0)
    assert lanes.pending() == 1000
    server.kill9()
    server.start()
    assert lanes.connect() == identity
    assert lanes.pending() == 1000


async def test_a_worker_gets_every_lane_in_order(lanes: GearmanLanes, new_worker: Callable[..., LaneWorker]) -> None:
    lanes.connect()
    for n in range(2000):
        lanes.submit(n % LANES, b"%d" % n)
    worker = new_worker()
    await worker.connect()
    found: list[LaneJob] = []
    async with asyncio.timeout(20):
        while len(found) < 2000:
            lanes.poll(0)
            try:
                jobs = await asyncio.wait_for(worker.grab(), 0.05)
            except TimeoutError:
                continue
            assert len(jobs) <= 8
            for job in jobs:
                found.append(job)
                await worker.complete(job)
    for lane in range(LANES):
        assert [job.workload for job in found if job.lane == lane] == [b"%d" % n for n in range(lane, 2000, LANES)]
    assert not any(job.isolated for job in found)
    await worker.close()
    eventually(lambda: lanes.pending() == 0)


async def test_two_workers_share_the_lanes(lanes: GearmanLanes, new_worker: Callable[..., LaneWorker]) -> None:
    lanes.connect()
    one, two = new_worker(), new_worker()
    await one.connect()
    for n in range(400):
        lanes.submit(n % LANES, b"%d" % n)
    poll_until(lanes, lambda: lanes.accepted == 400)
    held = await one.grab()  # it may have taken all lanes by now
    await two.connect()
    seen: dict[LaneWorker, list[LaneJob]] = {one: list(held), two: []}
    all_done = asyncio.Event()

    async def work(worker: LaneWorker) -> None:
        for job in seen[worker]:
            await worker.complete(job)
        while True:
            for job in await worker.grab():
                seen[worker].append(job)
                await asyncio.sleep(0)
                await worker.complete(job)
            if len(seen[one]) + len(seen[two]) == 400:
                all_done.set()

    tasks = [asyncio.create_task(work(worker)) for worker in (one, two)]
    async with asyncio.timeout(20):
        await all_done.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(f"one worker did {len(seen[one])} jobs, the other {len(seen[two])}")
    assert len(seen[two]) > 50
    await one.close()
    await two.close()


async def test_a_probe_is_answered_after_the_jobs_before_it(
    lanes: GearmanLanes, new_worker: Callable[..., LaneWorker]
) -> None:
    lanes.connect()
    for n in range(20):
        lanes.submit(0, b"%d" % n)
    lanes.probe(0, b"probe", token=7)
    lanes.submit(0, b"after")
    poll_until(lanes, lambda: lanes.backlog == 0)
    assert lanes.answered() == []
    assert lanes.pending() == 22
    worker = new_worker()
    await worker.connect()
    assert [job.workload for job in await drain(worker, 22)][-2:] == [b"probe", b"after"]
    await asyncio.to_thread(poll_until, lanes, lambda: lanes._answered)
    assert lanes.answered() == [(0, 7)]
    assert lanes.answered() == []
    await worker.close()


def test_what_was_not_accepted_is_sent_again(server: JobServerProcess, lanes: GearmanLanes) -> None:
    lanes.connect()
    server.freeze()
    for n in range(50):
        lanes.submit(0, b"%d" % n)
    lanes.probe(0, b"lost with the connection", token=1)
    lanes.poll(0)
    server.kill9()
    with pytest.raises(TransientError, match="is lost"):
        poll_until(lanes, lambda: False)
    with pytest.raises(TransientError, match="not connected"):
        lanes.poll(0)
    with pytest.raises(TransientError, match="cannot be reached"):
        lanes.connect()
    lanes.submit(0, b"while away")
    server.start()
    lanes.connect()
    assert lanes.accepted == 0
    poll_until(lanes, lambda: lanes.accepted == 51)
    assert lanes.pending() == 51


def test_refused_jobs_are_sent_again_in_order() -> None:
    with JobServerProcess(max_jobs=10) as server:
        queue = GearmanLanes("shop", [("127.0.0.1", server.port)])
        queue.connect()
        for n in range(30):
            queue.submit(0, b"%d" % n)
        queue.poll(0.5)
        assert queue.accepted == 10
        assert queue.backlog == 20
        found = []
        with Peer(server.port) as worker:
            worker.can_do(b"syncbridge.shop.0")
            while len(found) < 30:
                grabbed = worker.grab()
                if grabbed:
                    found.append(grabbed[3])
                    worker.send(p.WORK_COMPLETE, grabbed[0], b"")
                else:
                    queue.poll(0.05)
        assert found == [b"%d" % n for n in range(30)]
        poll_until(queue, lambda: queue.accepted == 30)
        queue.close()


async def test_a_failed_job_stays_and_a_closed_worker_gives_back(
    server: JobServerProcess, lanes: GearmanLanes, new_worker: Callable[..., LaneWorker]
) -> None:
    lanes.connect()
    for n in range(10):
        lanes.submit(1, b"%d" % n)
    poll_until(lanes, lambda: lanes.accepted == 10)
    for _ in range(4):  # more often than a job may take its worker down
        worker = new_worker()
        await worker.connect()
        first = (await worker.grab())[0]
        assert first.workload == b"0"
        await worker.requeue(first)
        await worker.close()
        eventually(lambda: server.status()["syncbridge.shop.1"][1] == 0)
    worker = new_worker()
    await worker.connect()
    assert [job.workload for job in await drain(worker, 10)] == [b"%d" % n for n in range(10)]
    await worker.close()


async def test_a_sleeping_worker_is_woken(lanes: GearmanLanes, new_worker: Callable[..., LaneWorker]) -> None:
    lanes.connect()
    worker = new_worker(prefetch=2)
    await worker.connect()
    for n in range(20):
        waiting = asyncio.create_task(worker.grab())
        await asyncio.sleep(0.005)
        lanes.submit(n % LANES, b"%d" % n)
        poll_until(lanes, lambda: not lanes.backlog)
        async with asyncio.timeout(5):
            (job,) = await waiting
        assert job.workload == b"%d" % n
        await worker.complete(job)
    await worker.close()


async def test_the_worker_notices_a_dead_server(
    server: JobServerProcess, lanes: GearmanLanes, new_worker: Callable[..., LaneWorker]
) -> None:
    lanes.connect()
    lanes.submit(0, b"x")
    poll_until(lanes, lambda: not lanes.backlog)
    worker = new_worker()
    await worker.connect()
    (job,) = await worker.grab()
    server.kill9()
    with pytest.raises(TransientError, match="is lost"):
        await worker.grab()
    with pytest.raises(TransientError, match="is lost"):
        await worker.complete(job)
    with pytest.raises(TransientError, match="cannot be reached"):
        await worker.connect()
    with pytest.raises(TransientError, match="not connected"):
        await worker.grab()
    server.start()
    await worker.connect()
    assert [found.workload for found in await drain(worker, 1)] == [b"x"]
    await worker.close()
    await worker.close()


async def test_the_largest_job_passes_and_a_larger_one_is_refused_at_once() -> None:
    limit = 100_000
    with JobServerProcess(max_packet=limit) as server:
        queue = GearmanLanes("shop", [("127.0.0.1", server.port)], max_packet=limit)
        worker = LaneWorker("shop", LANES, [("127.0.0.1", server.port)], max_packet=limit)
        queue.connect()
        largest = bytes(limit - len(b"syncbridge.shop.0\0\0"))
        with pytest.raises(PermanentError, match="larger than the job server takes"):
            queue.submit(0, largest + b"x")
        assert queue.submit(0, largest) == 1
        poll_until(queue, lambda: queue.accepted == 1)
        await worker.connect()
        assert (await drain(worker, 1))[0].workload == largest
        await worker.close()
        queue.close()


def test_the_next_address_is_tried(server: JobServerProcess) -> None:
    with ExitStack() as stack:
        queue = GearmanLanes("shop", [("127.0.0.1", free_port()), ("127.0.0.1", server.port)])
        stack.callback(queue.close)
        queue.connect()
        queue.submit(0, b"x")
        poll_until(queue, lambda: queue.accepted == 1)
        assert queue.pending() == 1


def take_until(hints: GearmanHints, count: int) -> list[Hint]:
    found: list[Hint] = []
    deadline = time.monotonic() + PATIENCE * 20
    while len(found) < count:
        assert time.monotonic() < deadline
        found += hints.take()
    return found


def test_hints_leave_when_they_are_done_and_come_again_otherwise(server: JobServerProcess) -> None:
    def waiting() -> int:
        with Peer(server.port) as peer:
            return int(peer.text("queue pending syncbridge.hints:").split()[1])

    with Peer(server.port) as peer:
        for number in range(300):
            peer.submit(hints_function("shop").encode(), b"%d" % number)
    hints = GearmanHints("shop", [("127.0.0.1", server.port)])
    hints.connect()
    found = take_until(hints, 300)
    assert [hint.workload for hint in found] == [b"%d" % number for number in range(300)]
    hints.done(hint.handle for hint in found[:100])
    for hint in found[100:150]:
        hints.put_back(hint)
    assert [hint.workload for hint in take_until(hints, 50)] == [b"%d" % number for number in range(100, 150)]
    eventually(lambda: hints.take() == [] and waiting() == 200)
    assert not hints.full
    with Peer(server.port) as peer:
        peer.submit(b"other")  # its commit takes along what is over, and else would wait a moment for such a one
    server.kill9()
    server.start()
    with pytest.raises(TransientError):
        take_until(hints, 1)
    hints.connect()
    hints.done(hint.handle for hint in found)  # of the connection that is no more
    again = take_until(hints, 200)
    assert sorted(int(hint.workload) for hint in again) == list(range(100, 300))
    hints.close()
    eventually(lambda: waiting() == 200)
    hints.connect()
    last = take_until(hints, 200)
    hints.done(hint.handle for hint in last)
    eventually(lambda: hints.take() == [] and waiting() == 0)
    hints.close()
