"""The one module that knows all three stages: builds each from sync.yaml and runs it in this process.

Each `run_*` returns when SIGTERM or SIGINT asked it to, and raises what time cannot mend. Under `syncbridge run` the
supervisor serves the metrics; a stage that runs alone serves its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from syncbridge import metrics
from syncbridge.capture.capture import Capture
from syncbridge.config import Config
from syncbridge.dispatch.function import Tally
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.server import JobServer, relax_garbage_collection
from syncbridge.dispatch.store.sqlite import SqliteStore
from syncbridge.dispatch.submitter import GearmanLanes
from syncbridge.dispatch.worker_client import LaneWorker
from syncbridge.errors import SyncbridgeError
from syncbridge.http import HttpServer, application
from syncbridge.parent import end_with_parent
from syncbridge.sinks.connection import connect as connect_redis
from syncbridge.sinks.marks import RedisMirror
from syncbridge.sinks.worker import Worker
from syncbridge.state import State

#: How often gauges that must be asked for are refreshed, seconds.
GAUGE_INTERVAL = 1.0
#: Set by the supervisor for its children: its pid.
SUPERVISED = "SYNCBRIDGE_SUPERVISED"


def run_capture(config: Config) -> None:
    """Capture until stopped."""
    with _process(config):
        state = State.open(config.state, config.name)
        mirror = RedisMirror(config)
        capture = Capture(config, state, _lanes(config), mirror)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: capture.stop())
        try:
            capture.run()
        finally:
            mirror.close()
            state.close()


def run_server(config: Config) -> None:
    """The job server until stopped."""
    relax_garbage_collection()
    _run_async(config, _serve(config))


def run_worker(config: Config) -> None:
    """One sink worker until stopped."""
    _run_async(config, _work(config))


# -- the queue ---------------------------------------------------------------------------------------------------------


def _lanes(config: Config) -> GearmanLanes:
    return GearmanLanes(config.name, [config.queue.address], max_packet=config.queue.max_packet)


class QueueMetrics:
    """The job server's observer."""

    def jobs(self, function: str, tally: Tally) -> None:
        metrics.JOBS_REQUEUED.labels(function).inc(tally.requeued)
        if tally.isolated:
            metrics.JOBS_ISOLATED.labels(function).inc(tally.isolated)

    def commit(self, seconds: float, changes: int) -> None:
        metrics.COMMIT.observe(seconds)

    def commit_failed(self, reason: str) -> None:
        metrics.COMMIT_FAILED.inc()


async def _serve(config: Config) -> None:
    path = config.queue.store_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    limits = Limits(max_bytes=config.queue.max_bytes, max_packet=config.queue.max_packet)
    listen = config.queue.listen
    server = JobServer(listen.host, listen.port, SqliteStore(path), limits=limits, observer=QueueMetrics())
    stop = _stop_event()
    await server.start()
    try:
        while not stop.is_set():
            for function, found in server.stats().items():
                metrics.QUEUE_JOBS.labels(function).set(found.total)
                metrics.QUEUE_OLDEST.labels(function).set(found.oldest_age)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), GAUGE_INTERVAL)
    finally:
        await server.stop()


# -- the sink ----------------------------------------------------------------------------------------------------------


class SinkMetrics:
    """The workers' observer."""

    def applied(self, table: str, op: str, outcome: str, count: int) -> None:
        metrics.EVENTS_APPLIED.labels(table, op, outcome).inc(count)

    def apply_seconds(self, seconds: float) -> None:
        metrics.APPLY.observe(seconds)

    def queue_wait_seconds(self, seconds: float) -> None:
        metrics.QUEUE_WAIT.observe(max(0.0, seconds))


async def _work(config: Config) -> None:
    stop = _stop_event()
    state = State.open(config.state, config.name)
    known = state.checkpoints.load()
    jobs = LaneWorker(
        config.name,
        max(config.queue.lanes, known.lanes if known else 0),  # those of an earlier sync.yaml may still hold jobs
        [config.queue.address],
        client_id=f"{config.name}-{os.getpid()}",
        max_packet=config.queue.max_packet,
    )
    worker = Worker(config, jobs, await connect_redis(config.sink), state, SinkMetrics())

    async def until_stopped() -> None:
        while not stop.is_set():
            with suppress(SyncbridgeError):  # the gauges can wait for a state database that is away
                metrics.RETRIES.set(await asyncio.to_thread(state.retries.count))
                metrics.DEAD_LETTERS.set(await asyncio.to_thread(state.dead_letters.count))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), GAUGE_INTERVAL)
        await worker.stop()

    stopper = asyncio.create_task(until_stopped())
    try:
        await worker.run()
    finally:
        stopper.cancel()
        state.close()


# -- every stage -------------------------------------------------------------------------------------------------------


def _run_async(config: Config, stage: Coroutine[Any, Any, None]) -> None:
    import uvloop

    with _process(config), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(stage)


def _stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@contextmanager
def _process(config: Config) -> Iterator[None]:
    """What every stage's process needs around it: an end with its supervisor, or metrics of its own."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # until the stage itself listens: nothing is in hand yet
    supervisor = os.environ.get(SUPERVISED)
    http: HttpServer | None = None
    if supervisor:
        end_with_parent(int(supervisor))
    elif config.http.listen is not None:
        metrics.describe_build(config.name)
        http = HttpServer(config.http.listen, application(metrics.with_lag(), lambda: ""))
        http.start()
    try:
        yield
    finally:
        if http is not None:
            http.stop()
