"""The job server inside the test's own event loop: life cycle and what an observer hears."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.function import Tally
from syncbridge.dispatch.queue import FunctionStats
from syncbridge.dispatch.server import JobServer
from syncbridge.dispatch.store import Changes
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.dispatch.store.sqlite import SqliteStore
from syncbridge.dispatch.worker_client import LaneWorker

LANE = "syncbridge.shop.0"


class Ledger:
    """An Observer that adds up."""

    def __init__(self) -> None:
        self.totals: Counter[tuple[str, str]] = Counter()
        self.commits = 0
        self.changes = 0

    def jobs(self, function: str, priority: int, tally: Tally) -> None:
        for name in Tally.__slots__:
            self.totals[function, name] += getattr(tally, name)

    def commit(self, seconds: float, sync_seconds: float, changes: int) -> None:
        assert 0 < sync_seconds < seconds < 10
        self.commits += 1
        self.changes += changes

    def commit_failed(self, reason: str) -> None:
        raise AssertionError(reason)


async def submit(port: int, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(p.request(p.SUBMIT_JOB_BG, LANE.encode(), b"", b"data") * count)
    answers = p.PacketReader(magic=p.RES)
    seen = 0
    while seen < count:
        seen += sum(kind == p.JOB_CREATED for kind, _ in answers.receive(await reader.read(1 << 16)))
    writer.close()
    await writer.wait_closed()


class Forgetful(MemoryStore):
    """Becomes another queue when told to, as a Redis does that lost its data."""

    lost = False

    def commit(self, changes: Changes) -> None:
        super().commit(changes)
        if self.lost:
            self.queue_id = "f" * 32


async def queue_id(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"queue id\n")
    return await reader.readline()


async def test_a_store_that_lost_its_queue_is_another_queue_for_everybody() -> None:
    server = JobServer("127.0.0.1", 0, store := Forgetful())
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    before = await queue_id(reader, writer)
    store.lost = True
    writer.write(p.request(p.SUBMIT_JOB_BG, b"f", b"", b"x"))
    await reader.read()  # until it is closed
    writer.close()
    await writer.wait_closed()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    assert before != await queue_id(reader, writer) == b"OK " + b"f" * 32 + b"\n"
    writer.close()
    await writer.wait_closed()
    await server.stop()


async def test_an_observer_hears_totals(tmp_path: Path) -> None:
    ledger = Ledger()
    server = JobServer("127.0.0.1", 0, SqliteStore(tmp_path / "q.db"), observer=ledger)
    await server.start()
    await submit(server.port, 500)
    print(f"{ledger.commits} commits for 500 jobs")
    assert ledger.commits < 100  # group commit
    worker = LaneWorker("shop", 1, [("127.0.0.1", server.port)], prefetch=4)
    await worker.connect()
    jobs = await worker.grab()
    await worker.requeue(jobs[0])
    for job in jobs[1:]:
        await worker.complete(job)
    done = len(jobs) - 1
    while done < 500:
        for job in await worker.grab():
            await worker.complete(job)
            done += 1
    assert server.stats()[LANE].workers == 1
    await worker.close()
    async with asyncio.timeout(10):
        while server.stats()[LANE] != FunctionStats(0, 0, 0, 0.0) or ledger.changes < 1000:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await server.stop()  # and whatever the observer was not told of yet
    assert ledger.totals == {
        (LANE, "submitted"): 500,
        (LANE, "completed"): 500,
        (LANE, "requeued"): 1,
        (LANE, "failed"): 0,
        (LANE, "isolated"): 0,
        (LANE, "dead"): 0,
        (LANE, "timed_out"): 0,
    }


async def test_start_and_stop_may_be_called_twice_and_the_store_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    for expected in (0, 20):
        server = JobServer("127.0.0.1", 0, SqliteStore(path))
        await server.start()
        port = server.port
        await server.start()
        assert server.port == port
        assert server.stats().get(LANE, FunctionStats(0, 0, 0, 0.0)).total == expected
        await submit(port, 20)
        await server.stop()
        await server.stop()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
    await JobServer("127.0.0.1", 0, SqliteStore(path)).stop()
