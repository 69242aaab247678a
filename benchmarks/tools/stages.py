"""The processes of `syncbridge run`, each started by hand: so that a benchmark decides when capture begins to read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from benchmarks.tools.machine import cpu_seconds
from syncbridge.demo.process import spawn, tail
from syncbridge.sinks.keys import marks_key
from syncbridge.state import State
from tests.cli import in_process
from tests.servers import MariaDB, Redis, eventually, free_port
from tests.servers.job_server import Peer

NAME = "bench"
LANES, WORKERS = 8, 2


class Stages:
    """One pipeline in a folder: job server and workers, later capture. State and queue stay over stop and start."""

    def __init__(
        self, folder: Path, source: MariaDB, redis: Redis, mappings: Sequence[dict[str, Any]],
        *, workers: int = WORKERS, lanes: int = LANES, queue: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.config = folder / "sync.yaml"
        self._folder = folder
        self._port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._url = f"sqlite:///{folder}/state.db"
        self._redis, self._tables = redis, len(mappings)
        self._workers, self._lanes = workers, lanes
        settings: dict[str, Any] = {
            "name": NAME,
            "source": {"url": source.url()},
            "queue": {
                "listen": f"127.0.0.1:{self._port}",
                "store": f"sqlite:///{folder}/queue.db",
                "lanes": lanes,
                **(queue or {}),
            },
            "sink": {"url": redis.url(), "workers": workers},
            "state": self._url,
            "http": {"listen": "off"},
            "mappings": list(mappings),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(yaml.safe_dump(settings))

    def start_server(self) -> None:
        self._spawn("server")
        eventually(lambda: self._idle_workers() is not None, timeout=30, message=self.log)

    def start_workers(self) -> None:
        for number in range(self._workers):
            self._spawn("worker", f"worker {number + 1}")

    def __enter__(self) -> Self:
        """Job server and workers, until the workers wait for jobs."""
        try:
            self.start_server()
            self.start_workers()
            eventually(lambda: self._idle_workers() == self._workers, timeout=30, message=self.log)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start_capture(self) -> None:
        self._spawn("capture")

    def wait_current(self, patience: float = 60) -> None:
        """Until every table was read, and every lane has carried something to Redis."""

        def current() -> bool:
            self.check_running()
            with closing(State.open(self._url, NAME)) as state, self._redis.client() as client:
                snapshots = state.snapshots.all()
                read = len(snapshots) == self._tables and all(row.status == "done" for row in snapshots)
                return read and client.hlen(marks_key(NAME)) == self._lanes

        eventually(current, timeout=patience, message=self.log)

    def captured(self) -> tuple[str, int]:
        """Up to where in the binlog everything is in the queue: file, position."""
        with closing(State.open(self._url, NAME)) as state:
            checkpoint = state.checkpoints.load()
        assert checkpoint is not None, "capture has not begun"
        return checkpoint.file, checkpoint.pos

    def snapshot_began(self) -> float:
        """When the first table was asked for (Unix time)."""
        with closing(State.open(self._url, NAME)) as state:
            return min(row.started_at for row in state.snapshots.all())

    def verify(self) -> None:
        """Compare every row with its hash. Raises RuntimeError when one differs."""
        done = in_process("verify", "--config", self.config, "--settle", "0")
        if done.returncode:
            raise RuntimeError(f"verify found differences:\n{done.stdout}{done.stderr}")

    def _idle_workers(self) -> int | None:
        """How many workers wait for jobs of the first lane; None while nobody answers."""
        try:
            with Peer(self._port) as peer:
                lines = peer.text("status").splitlines()
        except OSError:
            return None
        waiting = [line.split("\t")[3] for line in lines if line.startswith(f"syncbridge.{NAME}.0\t")]
        return int(waiting[0]) if waiting else 0

    def _spawn(self, command: str, name: str = "") -> None:
        metrics = self._folder / "metrics"  # counted as under `syncbridge run`, which adds up files of its children
        metrics.mkdir(exist_ok=True)
        arguments = [sys.executable, "-m", "syncbridge", command, "--config", str(self.config)]
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
        self._processes[name or command] = spawn(arguments, self._folder / "log", death="TERM", env=environment)

    def log(self) -> str:
        return tail(self._folder / "log")

    def check_running(self) -> None:
        """Raises RuntimeError with what was said when a stage has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log()}")

    def cpu_seconds(self) -> dict[str, float]:
        """Stage -> processor time so far, start included."""
        used: dict[str, float] = {}
        for name, process in self._processes.items():
            kind = name.split()[0]
            used[kind] = used.get(kind, 0.0) + cpu_seconds([process.pid])
        return used

    def freeze(self, kind: str) -> None:
        """Let it stand still, as it is, until it is thawed or stopped."""
        self._signal(kind, signal.SIGSTOP)

    def thaw(self, kind: str) -> None:
        self._signal(kind, signal.SIGCONT)

    def _signal(self, kind: str, number: signal.Signals) -> None:
        for name, process in self._processes.items():
            if name.startswith(kind):
                process.send_signal(number)

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self._processes.items()}

    def stop(self) -> None:
        """In order, so that nothing is left under way."""
        for kind in ("capture", "worker", "server"):
            self.thaw(kind)
            ending = [process for name, process in self._processes.items() if name.startswith(kind)]
            for process in ending:
                process.terminate()
            for process in ending:
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._processes.clear()
