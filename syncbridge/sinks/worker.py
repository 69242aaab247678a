"""The sink worker: lane jobs, and jobs of mapped plain functions, in, keys in Redis out (DESIGN P1, P5).

Each lane is applied in order by a task of its own, a function like a lane, and they run side by side. A job is
completed only after Redis answered for every operation and the retry table holds what failed; whatever else happens, it
stays in the queue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from typing import Any

from syncbridge.config import Config
from syncbridge.errors import SyncbridgeError, TransientError
from syncbridge.seams import LaneJob, LaneJobs
from syncbridge.sinks.failures import FIRST_PAUSE, next_pause
from syncbridge.sinks.isolate import apply_isolated
from syncbridge.sinks.link import Link
from syncbridge.sinks.retry import RetryLoop
from syncbridge.sinks.sink import Observer, Sink, Stopped
from syncbridge.state import State

log = logging.getLogger(__name__)

#: Jobs of a lane that are applied together: as many as wait, up to so many bytes.
BATCH_JOBS, BATCH_BYTES = 64, 4 * 2**20
#: Payload bytes in hand at which no more jobs are fetched.
HAND_BYTES = 64 * 2**20
#: How often an idle worker makes sure that Redis is still the one it filled, seconds.
WATCH_INTERVAL = 5.0
#: How long stop() lets lanes finish what they have begun.
STOP_SECONDS = 6.0


class Worker:
    """One worker. `run()` returns after `stop()`; it raises what waiting cannot mend (ConfigError, a bug)."""

    def __init__(self, config: Config, jobs: LaneJobs, link: Link, state: State, observer: Observer) -> None:
        self._jobs = jobs
        self._sink = Sink(config, link, state, observer)
        self._retries = RetryLoop(self._sink)
        self._lanes: dict[int | str, _Lane] = {}
        self._hand = _Hand()
        self._stop = self._sink.stopping
        self._finished = asyncio.Event()
        self._finished.set()
        #: Set by a lane that can report nothing any more: the queue connection is gone.
        self._queue_lost: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Work until stop()."""
        aside: list[asyncio.Task[None]] = []
        self._finished.clear()
        try:
            with suppress(TransientError):  # a Redis that is away is waited for; one that refuses us is not
                await self._sink.link.command("PING")
            aside += [asyncio.create_task(self._retries.run()), asyncio.create_task(self._watch())]
            pause = FIRST_PAUSE
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    await self._jobs.connect()
                    await self._work(aside)
                except TransientError as error:
                    log.warning("%s", error)
                    if time.monotonic() - began > pause:  # else it may be one that accepts and closes, for ever
                        pause = FIRST_PAUSE
                    sleep, pause = next_pause(pause)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), sleep)
        finally:
            self._stop.set()
            await self._drop_lanes()
            await _cancelled(*aside)
            await self._jobs.close()
            await self._sink.link.close()
            self._finished.set()

    async def stop(self) -> None:
        """Finish what is begun, give back the rest. Returns when run() is done; harmless when called twice."""
        self._stop.set()
        await self._finished.wait()

    async def _work(self, aside: list[asyncio.Task[None]]) -> None:
        """Fetch jobs until stop() or the queue connection dies (TransientError)."""
        self._queue_lost = asyncio.get_running_loop().create_future()
        self._hand = _Hand()
        stopping = asyncio.create_task(self._stop.wait())
        grabbing: asyncio.Task[list[LaneJob]] | None = None
        try:
            while not self._stop.is_set():
                grabbing = grabbing or asyncio.create_task(self._grab())
                await _first_of(stopping, self._queue_lost, grabbing, *aside)
                for task in aside:
                    if task.done():
                        task.result()  # a bug there is a bug here
                if self._queue_lost.done():
                    self._queue_lost.result()
                if grabbing.done():
                    for job in grabbing.result():
                        self._lane(job.function or job.lane).add(job)
                    grabbing = None
        finally:
            await _cancelled(stopping, *([grabbing] if grabbing else []))
            await self._drop_lanes(patience=STOP_SECONDS if self._stop.is_set() else 0.0)
            if self._queue_lost.done() and not self._queue_lost.cancelled():
                self._queue_lost.exception()  # seen

    async def _grab(self) -> list[LaneJob]:
        await self._hand.room.wait()
        return await self._jobs.grab()

    def _lane(self, name: int | str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            assert self._queue_lost is not None
            lane = self._lanes[name] = _Lane(name, self._sink, self._jobs, self._hand, self._queue_lost)
        return lane

    async def _drop_lanes(self, patience: float = 0.0) -> None:
        """End the lanes' tasks; with patience they may finish the batch they are applying."""
        lanes, self._lanes = list(self._lanes.values()), {}
        tasks = [lane.task for lane in lanes]
        for lane in lanes:
            lane.close()
        if patience and tasks:
            await asyncio.wait(tasks, timeout=patience)
        await _cancelled(*tasks)

    async def _watch(self) -> None:
        """An idle pipeline notices an emptied or replaced Redis, too."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            with suppress(Stopped):
                await self._sink.call(lambda sink_id: self._sink.applier.call(sink_id, [], None, ""))


class _Hand:
    """Payload bytes of all jobs in hand, and whether there is room for more."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.bytes = 0
        self.change(0)

    def change(self, size: int) -> None:
        self.bytes += size
        if self.bytes <= HAND_BYTES:
            self.room.set()
        else:
            self.room.clear()


class _Lane:
    """The jobs of one lane (a number) or function in this worker's hands, and the task that applies them in order."""

    def __init__(
        self, name: int | str, sink: Sink, jobs: LaneJobs, hand: _Hand, queue_lost: asyncio.Future[None]
    ) -> None:
        self._name = name
        self._sink = sink
        self._jobs = jobs
        self._hand = hand
        self._queue_lost = queue_lost
        self._waiting: deque[LaneJob] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self.task = asyncio.create_task(self._run())

    def add(self, job: LaneJob) -> None:
        self._waiting.append(job)
        self._hand.change(len(job.workload))
        self._arrived.set()

    def close(self) -> None:
        """Begin nothing new."""
        self._closed = True
        self._arrived.set()

    async def _run(self) -> None:
        try:
            while not self._closed:
                if not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                    continue
                batch = self._batch()
                await self._apply(batch)
                for job in batch:
                    await self._jobs.complete(job)
                    self._hand.change(-len(job.workload))
        except Stopped:
            return
        except SyncbridgeError as error:
            if not self._queue_lost.done():
                self._queue_lost.set_exception(error)
        except Exception as error:
            log.exception("lane %s", self._name)
            if not self._queue_lost.done():
                self._queue_lost.set_exception(error)

    def _batch(self) -> list[LaneJob]:
        """The next jobs that may be applied together; an isolated one stands alone."""
        batch = [self._waiting.popleft()]
        size = len(batch[0].workload)
        while not batch[0].isolated and self._waiting and len(batch) < BATCH_JOBS and size < BATCH_BYTES:
            if self._waiting[0].isolated:
                break
            batch.append(self._waiting.popleft())
            size += len(batch[-1].workload)
        return batch

    async def _apply(self, batch: list[LaneJob]) -> None:
        if batch[0].isolated:
            await apply_isolated(self._sink, batch[0])
            return
        now = time.time()
        if isinstance(self._name, str):
            plan = self._sink.functions.plan(self._name, [job.workload for job in batch], now)
            await self._sink.perform_function(self._name, plan)
            return
        plan = self._sink.planner.plan([job.workload for job in batch], now)
        if plan.oldest_us:
            self._sink.observer.queue_wait_seconds(now - plan.oldest_us / 1_000_000)
        await self._sink.perform(plan, self._name)


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """End these tasks; whatever they raise is no longer news."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # Python 3.11's wait_for() loses a cancellation that meets its result: say it again.
        _, pending = await asyncio.wait(pending, timeout=0.2)
    for task in tasks:
        if not task.cancelled():
            task.exception()
