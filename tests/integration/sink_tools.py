"""What sink tests share: events, a queue in memory, and a worker on a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from syncbridge.config import Config, parse_config
from syncbridge.errors import TransientError
from syncbridge.event import Event
from syncbridge.seams import LaneJob
from syncbridge.sinks.connection import connect
from syncbridge.sinks.worker import Worker
from syncbridge.state import State
from syncbridge.workload import encode_job
from tests.servers import Redis
from tests.servers.waiting import PATIENCE

ORDERS = '{table: shop.orders, key: "order:{id}"}'


def config_for(server: Redis, folder: Path, mappings: str = ORDERS, extra: str = "", sink: str = "") -> Config:
    return parse_config(
        f"""
name: t
source: {{url: "mysql://u@127.0.0.1:1"}}
sink: {{url: "{server.url()}"{sink}}}
state: sqlite:///{folder}/state.db
retry: {{max_attempts: 3, backoff: 100ms, max_backoff: 300ms}}
mappings: [{mappings}]
{extra}
"""
    )


def version(number: int) -> str:
    return f"{number:040x}"


def event(
    op: str, number: int, after: dict[str, Any] | None = None, before: dict[str, Any] | None = None, **more: Any
) -> Event:
    """An event of shop.orders at version `number`; its key is the row's id."""
    row = after or before or {}
    return {
        "op": op,
        "ts_us": time.time_ns() // 1000,
        "source": {"name": "t", "db": "shop", "table": "orders"},
        "key": {"id": row["id"]} if "id" in row else {},
        "before": before,
        "after": after,
        "types": {},
        "version": version(number),
        "id": version(number),
        "format": 1,
        **more,
    }


class Outcomes:
    """An observer that counts."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def applied(self, table: str, op: str, outcome: str, count: int) -> None:
        self.counts[op, outcome] += count

    def apply_seconds(self, seconds: float) -> None: ...

    def queue_wait_seconds(self, seconds: float) -> None: ...


class Lanes:
    """LaneJobs in memory: jobs leave on complete() only, a reconnect hands the rest out again."""

    def __init__(self) -> None:
        self.queued: deque[LaneJob] = deque()
        self.in_hand: dict[bytes, LaneJob] = {}
        self.completed: list[bytes] = []
        self.broken = False
        #: When it was connected, time.monotonic().
        self.connected: list[float] = []
        #: Every connection ends at once.
        self.closing = False
        self._numbers = 0
        self._arrived = asyncio.Event()

    def put(self, *events: Event, lane: int = 0, isolated: bool = False, workload: bytes | None = None) -> bytes:
        self._numbers += 1
        handle = f"H:{self._numbers:06d}".encode()
        self.queued.append(LaneJob(handle, encode_job(list(events)) if workload is None else workload, lane, isolated))
        self._arrived.set()
        return handle

    def put_function(self, workload: bytes, function: str = "sync") -> None:
        self._numbers += 1
        self.queued.append(LaneJob(f"H:{self._numbers:06d}".encode(), workload, -1, False, function))
        self._arrived.set()

    async def connect(self) -> None:
        self.connected.append(time.monotonic())
        self.broken = False
        self.queued.extendleft(self.in_hand[handle] for handle in sorted(self.in_hand, reverse=True))
        self.in_hand.clear()

    @property
    def connects(self) -> int:
        return len(self.connected)

    async def grab(self) -> list[LaneJob]:
        if self.closing:
            raise TransientError("connection to the job server is lost")
        while not self.queued:
            self._arrived.clear()
            await self._arrived.wait()
        jobs = [self.queued.popleft() for _ in range(min(16, len(self.queued)))]
        self.in_hand |= {job.handle: job for job in jobs}
        return jobs

    async def complete(self, job: LaneJob) -> None:
        if self.broken:
            raise TransientError("connection to the job server is lost")
        self.completed.append(self.in_hand.pop(job.handle).handle)

    async def requeue(self, job: LaneJob) -> None:
        self.queued.appendleft(self.in_hand.pop(job.handle))

    async def close(self) -> None:
        self.queued.extendleft(self.in_hand[handle] for handle in sorted(self.in_hand, reverse=True))
        self.in_hand.clear()


class Running:
    """A worker at work, and what it works with."""

    def __init__(self, config: Config, lanes: Lanes, state: State, client: redis.Redis) -> None:
        self.config = config
        self.lanes = lanes
        self.state = state
        self.redis = client
        self.outcomes = Outcomes()
        self.task: asyncio.Task[None] | None = None

    async def until(self, condition: Callable[[], Any], within: float = 10.0) -> None:
        """Poll `condition` while the worker works."""
        deadline = time.monotonic() + PATIENCE * within
        while not condition():
            if self.task is not None and self.task.done():
                self.task.result()
            assert time.monotonic() < deadline, "the worker did not get there in time"
            await asyncio.sleep(0.01)

    async def drained(self, within: float = 10.0) -> None:
        await self.until(lambda: not self.lanes.queued and not self.lanes.in_hand, within)


@asynccontextmanager
async def running(server: Redis, folder: Path, config: Config | None = None, lanes: Lanes | None = None,
                  **options: Any) -> AsyncIterator[Running]:  # fmt: skip
    """A worker on `server` until the block ends; its stop must be quick and clean."""
    config = config or config_for(server, folder, **options)
    state = State.open(config.state, config.name)
    client = server.client(retry=None)
    run = Running(config, lanes or Lanes(), state, client)
    worker = Worker(config, run.lanes, await connect(config.sink), state, run.outcomes)
    task = run.task = asyncio.create_task(worker.run())
    try:
        yield run
        if task.done():
            task.result()
    finally:
        started = time.monotonic()
        await worker.stop()
        await asyncio.gather(task, return_exceptions=True)
        client.close()
        state.close()
    if time.monotonic() - started > 8:
        pytest.fail("stop() took too long")
