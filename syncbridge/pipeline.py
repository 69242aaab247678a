"""The one module that knows all three stages: builds each from sync.yaml and runs it in this process.

Each `run_*` returns when SIGTERM or SIGINT asked it to, and raises what time cannot mend. Under `syncbridge run` the
supervisor serves the metrics; a stage that runs alone serves its own.
A process imports its own stage only, inside the function that builds it: that halves its start and its memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from syncbridge import metrics
from syncbridge.config import Config, HttpConfig, QueueConfig
from syncbridge.errors import SyncbridgeError
from syncbridge.garbage import relax_garbage_collection
from syncbridge.parent import end_with_parent

if TYPE_CHECKING:
    from syncbridge.capture.capture import Capture
    from syncbridge.capture.trigger.capture import TriggerCapture
    from syncbridge.dispatch.service import ServerSettings, Service
    from syncbridge.dispatch.store import JobStore
    from syncbridge.seams import Mirror
    from syncbridge.state import State

log = logging.getLogger(__name__)

#: How often gauges that must be asked for are refreshed, seconds.
GAUGE_INTERVAL = 1.0
#: Set by the supervisor for its children: its pid.
SUPERVISED = "SYNCBRIDGE_SUPERVISED"
#: How long a job server under `syncbridge run` lets other people's jobs run on at its stop, seconds.
SUPERVISED_DRAIN = 1.0


def run_capture(config: Config) -> None:
    """Capture until stopped."""
    from syncbridge.sinks.marks import RedisMirror
    from syncbridge.state import State

    with _process(config.name, config.http):
        state = State.open(config.state, config.name)
        mirror = RedisMirror(config)
        capture = _build_capture(config, state, mirror)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: capture.stop())
        relax_garbage_collection()
        try:
            capture.run()
        finally:
            mirror.close()
            state.close()


def _build_capture(config: Config, state: State, mirror: Mirror) -> Capture | TriggerCapture:
    from syncbridge.dispatch.hints import GearmanHints
    from syncbridge.dispatch.submitter import GearmanLanes
    from syncbridge.dispatch.target import own_targets

    targets, max_packet = own_targets(config), config.queue.max_packet
    lanes = GearmanLanes(config.name, targets, max_packet=max_packet)
    if config.source.capture == "binlog":
        from syncbridge.capture.capture import Capture

        return Capture(config, state, lanes, mirror)
    from syncbridge.capture.trigger.capture import TriggerCapture

    return TriggerCapture(config, state, lanes, mirror, GearmanHints(config.name, targets, max_packet=max_packet))


def run_server(settings: ServerSettings) -> None:
    """The job server until stopped."""
    _run_async(settings.name, settings.http, lambda: _serve(settings))


def run_worker(config: Config, *, functions: bool = True) -> None:
    """One sink worker until stopped. `functions`: it takes the jobs of mapped functions too."""
    _run_async(config.name, config.http, lambda: _work(config, config.functions if functions else []))


# -- the queue ---------------------------------------------------------------------------------------------------------


async def _serve(settings: ServerSettings) -> None:
    from syncbridge.dispatch.service import Service

    service = Service(settings.queue, _open_store(settings.queue), private=settings.private)
    relax_garbage_collection()
    stop, now = _stop_events()
    await service.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: _reload(service, settings))
    drain = settings.queue.shutdown
    if os.environ.get(SUPERVISED):
        drain = min(drain, SUPERVISED_DRAIN)  # the pipeline's own workers have stopped by now
    try:
        await service.observe(stop)
    finally:
        await service.stop(drain, now)


def _open_store(queue: QueueConfig) -> JobStore:
    from syncbridge.dispatch.store import Promise
    from syncbridge.dispatch.store.opening import open_store

    if queue.store_path is not None:
        queue.store_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = open_store(queue.store, durability=Promise(queue.promise))
    if store.promise != queue.promise:
        log.warning("queue.durability is %s, but this store's is %s", queue.promise, store.promise)
    return store


def _reload(service: Service, settings: ServerSettings) -> None:
    try:
        service.reload(settings.read_again())
    except SyncbridgeError as error:
        log.error("not reloaded, going on as before: %s (%s)", error, error.hint)


# -- the sink ----------------------------------------------------------------------------------------------------------


class SinkMetrics:
    """The workers' observer."""

    def applied(self, table: str, op: str, outcome: str, count: int) -> None:
        metrics.EVENTS_APPLIED.labels(table, op, outcome).inc(count)

    def apply_seconds(self, seconds: float) -> None:
        metrics.APPLY.observe(seconds)

    def queue_wait_seconds(self, seconds: float) -> None:
        metrics.QUEUE_WAIT.observe(max(0.0, seconds))


async def _work(config: Config, functions: Sequence[str]) -> None:
    from syncbridge.dispatch.target import own_targets
    from syncbridge.dispatch.worker_client import LaneWorker
    from syncbridge.sinks.connection import connect as connect_redis
    from syncbridge.sinks.worker import Worker
    from syncbridge.state import State

    stop = _stop_event()
    state = State.open(config.state, config.name)
    known = state.checkpoints.load()
    jobs = LaneWorker(
        config.name,
        max(config.queue.lanes, known.lanes if known else 0),  # those of an earlier sync.yaml may still hold jobs
        own_targets(config),
        functions=functions,
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
    relax_garbage_collection()
    try:
        await worker.run()
    finally:
        stopper.cancel()
        state.close()


# -- every stage -------------------------------------------------------------------------------------------------------


def _run_async(name: str, http: HttpConfig, stage: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """`stage` is called once nothing but itself ends the process: a coroutine that never ran would complain."""
    import uvloop

    with _process(name, http), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(stage())


def _stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    return _stop_events()[0]


def _stop_events() -> tuple[asyncio.Event, asyncio.Event]:
    """The first is set by SIGTERM and SIGINT, the second by another one of them."""
    stop, now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            now.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop, now


@contextmanager
def _process(name: str, http: HttpConfig) -> Iterator[None]:
    """What every stage's process needs around it: an end with its supervisor, or metrics of its own."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # until the stage itself listens: nothing is in hand yet
    supervisor = os.environ.get(SUPERVISED)
    metrics_server = None
    if supervisor:
        end_with_parent(int(supervisor))
    elif http.listen is not None:
        from syncbridge.http import HttpServer, application

        metrics.describe_build(name)
        metrics_server = HttpServer(http.listen, application(metrics.with_lag(), lambda: ""))
        metrics_server.start()
    try:
        yield
    finally:
        if metrics_server is not None:
            metrics_server.stop()
