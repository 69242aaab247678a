"""The inspector of a server inside the test's own event loop, on a durable store; and a store that goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.inspector import Inspector
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.policy import Policies, Policy
from syncbridge.dispatch.server import JobServer
from syncbridge.dispatch.store import Changes
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.dispatch.store.sqlite import SqliteStore
from syncbridge.errors import ConfigError, TransientError

LANE = b"syncbridge.shop.0"


class Peer:
    """One connection, asynchronously."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._packets: list[p.Packet] = []
        self._cutter = p.PacketReader(magic=p.RES)

    async def receive(self) -> p.Packet:
        while not self._packets:
            data = await asyncio.wait_for(self._reader.read(1 << 16), 20)
            assert data
            self._packets += self._cutter.receive(data)
        return self._packets.pop(0)

    def send(self, kind: int, *arguments: bytes) -> None:
        self._writer.write(p.request(kind, *arguments))

    async def ask(self, kind: int, *arguments: bytes) -> p.Packet:
        self.send(kind, *arguments)
        return await self.receive()

    async def submit(self, function: bytes, payload: bytes = b"", kind: int = p.SUBMIT_JOB_BG) -> bytes:
        answer, body = await self.ask(kind, function, b"", payload)
        assert answer == p.JOB_CREATED, body
        return body

    async def grab(self, function: bytes) -> bytes:
        """The handle of a job just taken."""
        self.send(p.CAN_DO, function)
        kind, body = await self.ask(p.GRAB_JOB)
        assert kind == p.JOB_ASSIGN
        self.send(p.CANT_DO, function)
        return body.partition(b"\0")[0]

    async def sync(self) -> None:
        assert (await self.ask(p.ECHO_REQ, b""))[0] == p.ECHO_RES

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def running(
    store: Any, policies: Policies | None = None, limits: Limits | None = None
) -> AsyncIterator[tuple[JobServer, Inspector, Peer]]:
    server = JobServer("127.0.0.1", 0, store, policies=policies, limits=limits)
    await server.start()
    peer = Peer(*await asyncio.open_connection("127.0.0.1", server.port))
    try:
        yield server, Inspector(server), peer
    finally:
        await peer.close()
        await server.stop()


async def test_what_a_server_holds_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    async with running(SqliteStore(path)) as (_, inspector, peer):
        handles = [await peer.submit(b"f", b"payload %d" % number) for number in range(5)]
        foreground = await peer.submit(b"f", b"waits", p.SUBMIT_JOB_HIGH)
        epoch = b"%d" % (time.time() + 1000)
        _, later = await peer.ask(p.SUBMIT_JOB_EPOCH, b"f", b"", epoch, b"later")
        peer.send(p.SET_CLIENT_ID, b"worker 1")
        assert await peer.grab(b"f") == foreground
        assert await peer.grab(b"f") == handles[0]
        assert await peer.grab(b"f") == handles[1]
        peer.send(p.WORK_EXCEPTION, handles[0], b"no such user")
        peer.send(p.WORK_STATUS, handles[1], b"1", b"3")
        peer.send(p.CAN_DO, b"f")
        await peer.sync()
        (function,) = await inspector.functions()
        counts = (function.high, function.normal, function.low, function.running, function.scheduled, function.dead)
        assert (function.name, counts, function.workers) == (b"f", (0, 3, 0, 2, 1, 1), 1)
        (worker,) = await inspector.workers()
        assert (worker.client_id, worker.functions, worker.running) == (b"worker 1", [b"f"], [foreground, handles[1]])

        async def listed(state: str, **page: int) -> list[bytes]:
            return [job.handle for job in await inspector.jobs(b"f", state, **page)]

        assert await listed("queued") == handles[2:]
        assert await listed("running") == [handles[1], foreground]
        assert await listed("scheduled") == [later]
        assert await listed("dead") == [handles[0]]
        first, second = await inspector.jobs(b"", "queued", limit=2)
        assert (first.payload, second.handle) == (None, handles[3])
        assert await listed("queued", after=second.id) == [handles[4]]
        job = await inspector.job(handles[1])
        assert job
        assert (job.state, job.numerator, job.denominator, job.payload) == ("running", b"1", b"3", b"payload 1")
        dead = await inspector.job(handles[0])
        assert dead
        assert (dead.state, dead.payload, dead.attempts) == ("dead", b"payload 0", 1)
        assert dead.note == b"delivery 1: its worker reported an exception: no such user"
        assert await inspector.job(b"H:nowhere:1") is None
        assert await inspector.job(handles[0][:-1] + b"99999") is None
    async with running(SqliteStore(path)) as (_, inspector, _peer):  # memory knows nothing of them
        assert [job.handle for job in await inspector.jobs(b"f", "queued")] == handles[1:]
        assert [job.handle for job in await inspector.jobs(b"f", "scheduled")] == [later]
        (function,) = await inspector.functions()
        assert (function.normal, function.scheduled, function.dead) == (4, 1, 1)


async def test_what_is_done_to_jobs_lasts(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    epoch = b"%d" % (time.time() + 1000)
    async with running(SqliteStore(path)) as (_, inspector, peer):
        handles = [await peer.submit(b"f") for _ in range(4)]
        lane = await peer.submit(LANE)
        _, later = await peer.ask(p.SUBMIT_JOB_EPOCH, b"f", b"", epoch, b"later")
        assert await peer.grab(b"f") == handles[0]
        peer.send(p.WORK_FAIL, handles[0])
        await peer.sync()
        assert await inspector.cancel(handles[1])
        assert not await inspector.cancel(handles[1])
        assert await inspector.requeue(handles[0])
        assert await inspector.requeue(later)
        assert not await inspector.requeue(handles[2])
        assert await inspector.pause(b"f")
        for refused in (inspector.cancel(lane), inspector.purge(LANE, "queued"), inspector.purge(b"f", "running")):
            with pytest.raises(ConfigError):
                await refused
    async with running(SqliteStore(path)) as (server, inspector, peer):
        assert [job.handle for job in await inspector.jobs(b"f", "queued")] == [handles[0], *handles[2:], later]
        (function, _) = await inspector.functions()
        assert function.paused
        peer.send(p.CAN_DO, b"f")
        assert (await peer.ask(p.GRAB_JOB))[0] == p.NO_JOB
        assert await inspector.resume(b"f")
        assert await peer.grab(b"f") == handles[0]
        assert await inspector.cancel(handles[0])  # while it runs
        assert (await peer.ask(p.WORK_COMPLETE, handles[0], b""))[1].startswith(b"JOB_NOT_FOUND\0")
        assert await inspector.purge(b"f", "queued") == 3
        assert await inspector.jobs(b"f", "queued") == []
        assert server.queue.pending(b"f") == 0
        assert server.queue.jobs == 1


async def test_many_jobs_in_memory_keep_nobody_waiting_while_they_are_purged() -> None:
    async with running(MemoryStore(), limits=Limits(window=50_000)) as (server, inspector, peer):
        for _ in range(20_000):
            peer.send(p.SUBMIT_JOB_BG, b"f", b"", b"x")
        handles = [(await peer.receive())[1] for _ in range(20_000)]
        assert len(server.queue.holdings.jobs) == 20_000
        assert [view.handle for view in await inspector.jobs(b"f", "queued", limit=3)] == handles[:3]
        purge = asyncio.create_task(inspector.purge(b"f", "queued"))
        await asyncio.sleep(0)
        running_job = await peer.grab(b"f")
        assert not purge.done()
        assert running_job in handles
        assert await purge == 19_999, "all but the one that somebody took meanwhile"
        assert list(server.queue.holdings.jobs) == [handles.index(running_job) + 1]


async def test_many_jobs_are_purged_from_memory_and_store(tmp_path: Path) -> None:
    async with running(SqliteStore(tmp_path / "q.db")) as (server, inspector, peer):
        for _ in range(12_000):
            peer.send(p.SUBMIT_JOB_BG, b"f", b"", b"x")
        for _ in range(12_000):
            assert (await peer.receive())[0] == p.JOB_CREATED
        assert len(server.queue.holdings.jobs) < 12_000
        assert await inspector.purge(b"f", "queued") == 12_000
        assert (server.queue.jobs, server.queue.bytes, len(server.queue.holdings.jobs)) == (0, 0, 0)
        for _ in range(10):
            handle = await peer.submit(b"f")
            assert await peer.grab(b"f") == handle
            peer.send(p.WORK_FAIL, handle)
        await peer.sync()
        assert await inspector.purge(b"f", "dead") == 10
        assert server.queue.dead == 0


async def test_the_result_of_a_background_job_can_be_read(tmp_path: Path) -> None:
    policies = Policies(Policy(keep_result=1000.0))
    path = tmp_path / "q.db"
    async with running(SqliteStore(path), policies) as (_, inspector, peer):
        handle = await peer.submit(b"f", b"x")
        assert await peer.grab(b"f") == handle
        peer.send(p.WORK_STATUS, handle, b"9", b"10")
        peer.send(p.WORK_DATA, handle, b"part ")
        peer.send(p.WORK_COMPLETE, handle, b"rest")
        await peer.sync()
    async with running(SqliteStore(path), policies) as (_, inspector, _peer):
        job = await inspector.job(handle)
        assert job
        assert job.result
        assert (job.state, job.result.outcome, job.result.data) == ("completed", "completed", b"part rest")
        assert (job.numerator, job.denominator) == (b"9", b"10")
        assert job.result.expires - job.result.finished == pytest.approx(1000.0)


class Away(MemoryStore):
    """Hangs before it says that it is away, as a server does that no longer answers."""

    away = False
    attempts = 0

    def commit(self, changes: Changes) -> None:
        if self.away:
            self.attempts += 1
            time.sleep(1.0)
            raise TransientError("the store is away")
        super().commit(changes)


async def test_a_store_that_is_away_keeps_nobody_waiting_and_comes_back() -> None:
    store = Away()
    async with running(store) as (server, inspector, peer):
        handle = await peer.submit(b"f", b"done while away")
        assert await peer.grab(b"f") == handle
        store.away = True
        assert (await peer.ask(p.SUBMIT_JOB_BG, b"f", b"", b"x"))[0] == p.ERROR  # this one waits
        slowest = 0.0
        refused = 0
        until = time.monotonic() + 4
        while time.monotonic() < until:
            started = time.monotonic()
            answer = await peer.ask(p.SUBMIT_JOB_BG, b"f", b"", b"x")
            assert answer == (p.ERROR, b"QUEUE_ERROR\0the store is away")
            await peer.sync()
            await peer.submit(b"g", b"needs no store", p.SUBMIT_JOB)
            slowest = max(slowest, time.monotonic() - started)
            refused += 1
            await asyncio.sleep(0.01)
        peer.send(p.WORK_COMPLETE, handle, b"")
        await peer.sync()
        with pytest.raises(TransientError):
            await inspector.pause(b"f")
        print(f"{refused} submits refused, the slowest after {slowest * 1000:.0f} ms; {store.attempts} attempts of 1 s")
        assert slowest < 0.8
        assert 2 <= store.attempts <= 6
        store.away = False
        async with asyncio.timeout(20):
            while server.queue.away:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await peer.submit(b"f", b"after")
        left = [record.payload for record in store._jobs.values()]
        assert left == [b"after"]
        assert store.settings() == {b"paused\0f": b"1"}


async def test_running_jobs_may_end_before_the_server(tmp_path: Path) -> None:
    async with running(SqliteStore(tmp_path / "q.db")) as (server, _, peer):
        handle = await peer.submit(b"f")
        await peer.submit(b"f")
        assert await peer.grab(b"f") == handle
        assert await server.drain(0.05) == 1
        peer.send(p.CAN_DO, b"f")
        assert (await peer.ask(p.GRAB_JOB))[0] == p.NO_JOB
        draining = asyncio.create_task(server.drain(30.0))
        peer.send(p.WORK_COMPLETE, handle, b"")
        assert await draining == 0
