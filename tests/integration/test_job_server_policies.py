"""Schedules, time-outs, retries, dead letters and a graceful end, as clients and workers see them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from syncbridge.dispatch import packets as p
from tests.servers.job_server import JobServerProcess, Peer
from tests.servers.waiting import eventually

LANE = b"syncbridge.shop.0"
NewServer = Callable[..., JobServerProcess]


@pytest.fixture
def new_job_server() -> Iterator[NewServer]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(JobServerProcess(**options))


def later(seconds: float) -> bytes:
    """An epoch, as SUBMIT_JOB_EPOCH has it."""
    return b"%d" % int(time.time() + seconds)


def test_fifty_sleepers_and_one_future_job_cost_no_cpu(new_job_server: NewServer) -> None:
    server = new_job_server()
    with ExitStack() as stack:
        sleepers = [stack.enter_context(Peer(server.port)) for _ in range(50)]
        client = stack.enter_context(Peer(server.port))
        client.send(p.SUBMIT_JOB_EPOCH, b"f", b"", later(3600), b"later").expect(p.JOB_CREATED)
        for sleeper in sleepers:
            sleeper.can_do(b"f", b"g").send(p.GRAB_JOB).expect(p.NO_JOB)
            sleeper.send(p.PRE_SLEEP)
        client.sync()
        before, started = server.cpu(), time.monotonic()
        time.sleep(2.0)  # the time that is measured
        used, elapsed = server.cpu() - before, time.monotonic() - started
        print(f"{used * 1000:.0f} ms of CPU in {elapsed:.1f} s")
        assert used < 0.1
        client.submit(b"f", b"now")
        client.sync()
        noops = 0
        for sleeper in sleepers:
            kind, _ = sleeper.ask(p.ECHO_REQ, b"")
            noops += kind == p.NOOP
        assert noops == 1


def test_a_job_for_later_survives_kill_9_and_comes_in_time(new_job_server: NewServer) -> None:
    server = new_job_server()
    with Peer(server.port) as client:
        due = time.time() + 2
        handle = client.send(p.SUBMIT_JOB_EPOCH, b"f", b"", b"%d" % due, b"later").expect(p.JOB_CREATED)[0]
    server.kill9()
    server.start()
    with Peer(server.port) as worker:
        assert server.status()["f"] == (1, 0, 0)
        kind, body = worker.ask(p.GET_STATUS, handle)
        assert (kind, body) == (p.STATUS_RES, handle + b"\x001\x000\x000\x000")
        worker.can_do(b"f").send(p.PRE_SLEEP)
        worker.expect(p.NOOP)
        assert time.time() >= int(due)
        assert worker.grab() == (handle, b"f", b"", b"later")
        worker.send(p.WORK_COMPLETE, handle, b"").sync()
    assert server.total("f") == 0


def test_a_job_beyond_can_do_timeout_fails_and_its_client_is_told(new_job_server: NewServer) -> None:
    server = new_job_server()
    with Peer(server.port) as client, Peer(server.port) as worker:
        worker.send(p.CAN_DO_TIMEOUT, b"f", b"1000")
        handle = client.submit(b"f", b"x", kind=p.SUBMIT_JOB)
        started = time.monotonic()
        assert worker.grab()
        assert client.receive() == (p.WORK_FAIL, handle)
        assert time.monotonic() - started >= 1.0
        assert worker.ask(p.WORK_COMPLETE, handle, b"late")[1].startswith(b"JOB_NOT_FOUND\0")
        assert server.total("f") == 0


def test_retries_back_off_and_end_as_a_dead_letter_over_restarts(new_job_server: NewServer) -> None:
    server = new_job_server(policies={"f*": {"retry_failures": True, "attempts": 3, "backoff": 0.2}})
    with Peer(server.port) as client:
        handle = client.submit(b"fragile", b"x")
    times = []
    for _ in range(3):
        with Peer(server.port) as worker:
            worker.can_do(b"fragile").send(p.PRE_SLEEP)
            worker.expect(p.NOOP)
            times.append(time.monotonic())
            assert worker.grab() == (handle, b"fragile", b"", b"x")
            worker.send(p.WORK_EXCEPTION, handle, b"why")
            worker.submit(b"sync")  # a commit that is later
        server.kill9()
        server.start()
    assert times[1] - times[0] >= 0.2
    assert times[2] - times[1] >= 0.4
    assert server.status().get("fragile", (0, 0, 0)) == (0, 0, 0)
    with Peer(server.port) as worker:
        assert worker.can_do(b"fragile").grab() is None


def test_the_backoff_after_a_lost_worker_begins_when_it_is_lost(new_job_server: NewServer) -> None:
    """However long nobody had said anything before."""
    server = new_job_server(policies={"f": {"durable": True, "backoff": 0.6}})
    with Peer(server.port) as sleeper:
        sleeper.submit(b"f", b"x")
        with Peer(server.port) as worker:
            assert worker.can_do(b"f").grab()
            sleeper.can_do(b"f").send(p.PRE_SLEEP).sync()
            time.sleep(0.9)
        lost = time.monotonic()
        sleeper.expect(p.NOOP)
        assert time.monotonic() - lost >= 0.55


def test_a_hung_lane_worker_loses_its_lane(new_job_server: NewServer) -> None:
    server = new_job_server(policies={"lane": {"durable": True, "timeout": 1.0}})
    with Peer(server.port) as client, Peer(server.port) as hung, Peer(server.port) as other:
        for number in range(3):
            client.submit(LANE, b"%d" % number)
        hung.can_do(LANE)
        first, second = hung.grab(), hung.grab()
        assert first
        assert second
        other.can_do(LANE).send(p.PRE_SLEEP)
        other.expect(p.NOOP)
        for expected in (first, second):
            assert other.grab() == expected
            other.send(p.WORK_COMPLETE, expected[0], b"")
        other.sync()
        assert hung.ask(p.WORK_COMPLETE, first[0], b"")[1].startswith(b"JOB_NOT_FOUND\0")
        assert server.status()[LANE.decode()] == (1, 0, 2)


def test_jobs_that_only_the_store_has_are_handed_out_at_the_first_grab(new_job_server: NewServer) -> None:
    server = new_job_server()
    with Peer(server.port) as client:
        for number in range(2000):
            client.send(p.SUBMIT_JOB_BG, b"f", b"", b"%d" % number + bytes(number % 3 * 5000))
        for _ in range(2000):
            client.expect(p.JOB_CREATED)
    server.kill9()
    server.start()
    with Peer(server.port) as worker:
        worker.can_do(b"f")
        found = [grabbed[3].rstrip(b"\0") for grabbed in iter(worker.grab, None)]
    assert found == [b"%d" % number for number in range(2000)]


def test_sigterm_lets_running_jobs_end(new_job_server: NewServer) -> None:
    server = new_job_server(drain=20.0)
    with Peer(server.port) as client, Peer(server.port) as worker, Peer(server.port) as idle:
        handle = client.submit(b"f", b"long", kind=p.SUBMIT_JOB)
        client.submit(b"f", b"next")
        assert worker.can_do(b"f").grab()
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        idle.can_do(b"g")

        def hands_out_nothing() -> bool:
            client.submit(b"g")
            if (job := idle.grab()) is not None:
                idle.send(p.WORK_COMPLETE, job[0], b"")
            return job is None

        eventually(hands_out_nothing)
        assert idle.can_do(b"f").grab() is None
        worker.send(p.WORK_COMPLETE, handle, b"done")
        assert client.receive() == (p.WORK_COMPLETE, handle + b"\0done")
        stopper.join(30)
        assert not stopper.is_alive()
    server.start()
    assert server.total("f") == 1
