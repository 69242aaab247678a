"""`syncbridge run`: the stages as child processes under one supervisor, with their metrics added up.

Start order is queue, workers, capture; stop order is the other way round, so that what is captured is applied.
SIGTERM and SIGINT stop cleanly within 10 s, a second one at once; SIGHUP takes up changed mappings.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from syncbridge import metrics, native
from syncbridge.config import Config, load_config
from syncbridge.dispatch.target import Target, own_targets
from syncbridge.errors import ConfigError
from syncbridge.http import HttpServer, application
from syncbridge.run_folder import RunFolder
from syncbridge.stage import Stage

log = logging.getLogger(__name__)

#: Seconds each group of stages has to stop; together below 10.
CAPTURE_STOP, WORKER_STOP, SERVER_STOP = 5.0, 3.0, 1.5
#: How long the other stages are held back for the queue to listen.
QUEUE_START = 5.0
#: A stage that refuses the configuration this early ends the whole run: somebody is watching.
EARLY = 15.0
STATUS_INTERVAL = 30.0
#: Silence of heartbeats after which /readyz says no, seconds.
NOT_READY_LAG = 60.0


def run(config_path: Path, config: Config) -> int:
    """Run the pipeline until a signal stops it; answers the exit code."""
    return asyncio.run(Supervisor(config_path, config).run())


class _Probe(asyncio.Protocol):
    """Connects, and that is all."""

    transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


def _command(stage: str) -> list[str]:
    """The jobs of a mapped function keep their order in one worker only: the first takes them."""
    kind, _, number = stage.partition("-")
    return [kind, "--no-functions"] if kind == "worker" and number != "1" else [kind]


class Supervisor:
    """Children, signals, metrics. One per `syncbridge run`."""

    def __init__(self, config_path: Path, config: Config) -> None:
        self._config_path = config_path
        self._config = config
        self._folder = RunFolder(config.folder, config.name)
        self._registry = self._make_registry()
        self._started = time.monotonic()
        self._stop = asyncio.Event()
        self._exit_code = 0
        self._stages = self._make_stages()
        self._reload_wanted = False
        self._reload_task: asyncio.Task[None] | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload_signal)
        http = self._start_http()
        try:
            self._write_child_config()
            log.info("%s", self._headline())
            await self._start_stages()
            status = asyncio.create_task(self._report())
            await self._stop.wait()
            status.cancel()
            log.info("stopping: capture, then workers, then the queue")
            await self._stop_stages(self._stages)
        finally:
            if http is not None:
                http.stop()
            self._folder.close()
        log.info("stopped")
        return self._exit_code

    # -- stages --------------------------------------------------------------------------------------------------------

    def _make_stages(self) -> list[Stage]:
        environment = dict(os.environ) | {
            "PROMETHEUS_MULTIPROC_DIR": str(self._folder.metrics),
            "SYNCBRIDGE_SUPERVISED": str(os.getpid()),
        }
        names = ["server", *(f"worker-{number}" for number in range(1, self._config.sink.workers + 1))]
        names += ["capture"] if self._config.source.named else []
        return [
            Stage(name, [*_command(name), "--config", str(self._folder.config)], environment, self._on_exit)
            for name in names
        ]

    def _write_child_config(self) -> None:
        """Children read a copy: a half-edited sync.yaml must not reach a stage that happens to restart."""
        self._folder.write_config(self._config_path.read_text(encoding="utf-8"))

    async def _start_stages(self) -> None:
        """The queue first: who finds it missing has to wait and try again."""
        server, *others = self._stages
        server.start()
        targets = own_targets(self._config)
        deadline = time.monotonic() + QUEUE_START
        while time.monotonic() < deadline and not self._stop.is_set():
            if await self._answers(targets):
                break
            await asyncio.sleep(0.02)
        for stage in others:
            if not self._stop.is_set():
                stage.start()

    async def _answers(self, targets: Sequence[Target]) -> bool:
        for target in targets:
            with suppress(OSError):
                protocol = await target.open(_Probe)
                protocol.transport.close()
                return True
        return False

    async def _stop_stages(self, stages: list[Stage]) -> None:
        for kind, seconds in (("capture", CAPTURE_STOP), ("worker", WORKER_STOP), ("server", SERVER_STOP)):
            await asyncio.gather(*(stage.stop(seconds) for stage in stages if stage.name.startswith(kind)))

    def _on_exit(self, name: str, code: int) -> None:
        metrics.RESTARTS.labels(name).inc()
        if code == 2 and time.monotonic() - self._started < EARLY and not self._stop.is_set():
            self._exit_code = 2  # the stage has said why
            self._stop.set()

    # -- signals -------------------------------------------------------------------------------------------------------

    def _on_stop_signal(self) -> None:
        if self._stop.is_set():
            for stage in self._stages:
                stage.signal(signal.SIGKILL)
        self._stop.set()

    def _on_reload_signal(self) -> None:
        self._reload_wanted = True  # one that comes while we reload: sync.yaml may have changed since we read it
        if self._reload_task is None or self._reload_task.done():
            self._reload_task = asyncio.create_task(self._reload_while_wanted())

    async def _reload_while_wanted(self) -> None:
        while self._reload_wanted and not self._stop.is_set():
            self._reload_wanted = False
            await self._reload()

    async def _reload(self) -> None:
        """Capture and workers start again with the new mappings; the queue stays, so no change is lost."""
        try:
            fresh = self._load_new_mappings()
            self._write_child_config()
            self._config = fresh
            log.info("taking up %d mappings: capture and workers start again", len(fresh.mappings))
            server, *stages = self._stages
            server.signal(signal.SIGHUP)  # it may be told of other functions
            await self._stop_stages(stages)
            for stage in stages:
                if not self._stop.is_set():
                    stage.start()
        except ConfigError as error:
            log.error("not reloaded, going on as before: %s (%s)", error, error.hint)

    def _load_new_mappings(self) -> Config:
        fresh, known = load_config(self._config_path), self._config
        queue = fresh.queue.model_copy(update={"functions": known.queue.functions})
        if fresh.model_copy(update={"mappings": known.mappings, "queue": queue}) != known:
            raise ConfigError(
                "more than mappings and queue.functions changed", hint="restart syncbridge run to take up the rest"
            )
        return fresh

    # -- what others see -----------------------------------------------------------------------------------------------

    def _make_registry(self) -> CollectorRegistry:
        """The children's metrics added up, ours beside them."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._folder.metrics))  # type: ignore[no-untyped-call]
        for collector in (metrics.RESTARTS, metrics.STAGE_UP, metrics.BUILD):
            registry.register(collector)
        return metrics.with_lag(registry)

    def _start_http(self) -> HttpServer | None:
        listen = self._config.http.listen
        if listen is None:
            return None
        metrics.describe_build(self._config.name)
        for stage in self._stages:
            metrics.STAGE_UP.labels(stage.name).set_function(partial(getattr, stage, "running"))
        http = HttpServer(listen, application(self._registry, self._not_ready))
        http.start()
        return http

    def _not_ready(self) -> str:
        down = [stage.name for stage in self._stages if not stage.running]
        if down:
            return f"not running: {', '.join(down)}"
        values, source = self._values(), self._config.source
        if source.named and source.heartbeat and not values.get("syncbridge_source_read_only"):
            lag = values.get("syncbridge_lag_seconds")
            if not values.get("syncbridge_heartbeat_proved_timestamp_seconds") or lag is None:
                return "no heartbeat has come through yet"
            if lag > NOT_READY_LAG:
                return f"lag is {lag:.0f} s"
        return ""

    def _values(self) -> dict[str, float]:
        """Name -> the sum of a metric's samples. Reads the files of all children: ask once for all that is needed."""
        values: defaultdict[str, float] = defaultdict(float)
        for family in self._registry.collect():
            for sample in family.samples:
                values[sample.name] += sample.value
        return values

    def _headline(self) -> str:
        config = self._config
        http = f"; metrics on http://{config.http.listen}/metrics" if config.http.listen else ""
        ways = [f"{config.source.url[0]} -> {config.queue.lanes} lanes"] if config.source.named else []
        ways += [f"functions {', '.join(config.functions)}"] if config.functions else []
        package = ", with syncbridge-native" if native.functions else ""
        return (
            f"{config.name}: {' and '.join(ways)} -> {config.sink.workers} workers"
            f" -> {config.sink.url}, {len(config.mappings)} mappings{package}{http}"
        )

    async def _report(self) -> None:
        """One line now and then: what the pipeline is doing."""
        pause = 5.0
        while True:
            await asyncio.sleep(pause)
            pause = STATUS_INTERVAL
            log.info("%s", await asyncio.to_thread(self._status_line))

    def _status_line(self) -> str:
        if reason := self._not_ready():
            return f"not ready: {reason}"
        values = defaultdict(float, self._values())
        reading = "reading tables, " if values["syncbridge_snapshot_running"] else ""
        behind = f"lag {values['syncbridge_lag_seconds']:.3f} s, " if self._config.source.named else ""
        return (
            f"{reading}{behind}"
            f"{values['syncbridge_events_applied_total']:.0f} events applied,"
            f" {values['syncbridge_queue_jobs']:.0f} jobs queued,"
            f" {values['syncbridge_retries_pending']:.0f} retries,"
            f" {values['syncbridge_dead_letters']:.0f} dead letters"
        )
