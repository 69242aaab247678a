"""Other people's Gearman clients as processes: the programs in clients/ and how to talk to them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncbridge.demo.process import spawn
from syncbridge.dispatch import packets as p
from tests.servers import eventually
from tests.servers.job_server import Peer
from tests.servers.process import CACHE
from tests.servers.waiting import PATIENCE

PROGRAMS = Path(__file__).parent / "clients"
INSTALLED = CACHE / "clients"
#: Seconds that anything a client does may take, where nothing else runs.
LIMIT = 20.0


@dataclass(frozen=True)
class Library:
    """One client library: its name, the command that runs its program, and what shows that it is installed."""

    name: str
    command: tuple[str, ...]
    probe: tuple[str, ...]

    def check(self) -> None:
        """Fail the test with a sentence when the library is not installed."""
        try:
            found = (
                subprocess.run(self.probe, capture_output=True, env=environment(), timeout=LIMIT * PATIENCE).returncode
                == 0
            )
        except OSError:
            found = False
        if not found:
            pytest.fail(f"{self.name} is not installed; scripts/install-clients installs it", pytrace=False)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NODE_", "GEARMAN"))}
    return {**kept, "NODE_PATH": str(INSTALLED / "node" / "node_modules"), "LC_ALL": "C.UTF-8"}


def status(port: int) -> dict[str, tuple[int, int, int]]:
    """Function -> (total, running, workers), as any Gearman server says it."""
    with Peer(port) as peer:
        lines = peer.text("status", end=".\n").splitlines()[:-1]
    return {name: (int(a), int(b), int(c)) for name, a, b, c in (line.split("\t") for line in lines)}


class Running:
    """A program of a library that runs beside the test; what it prints is gathered line by line."""

    def __init__(self, command: list[str], folder: Path, name: str) -> None:
        self._output = folder / f"{name}.out"
        self._errors = folder / f"{name}.err"
        apart = ["sh", "-c", 'exec 2>"$1"; shift; exec "$@"', "sh", str(self._errors)]
        self._process = spawn([*apart, *command], self._output, env=environment())

    @property
    def lines(self) -> list[str]:
        return self._output.read_text(errors="replace").splitlines()

    def printed(self, *expected: str) -> None:
        """Wait until it has printed exactly these lines."""
        self.until(lambda: self.lines == list(expected), f"{list(expected)}")

    def until(self, condition: Callable[[], bool], what: str = "what was expected") -> None:
        """Wait for something that this program brings about; it fails at once where the program failed."""

        def come_true() -> bool:
            if self._process.poll():
                pytest.fail(f"no {what}: {self}", pytrace=False)
            return condition()

        eventually(come_true, LIMIT, lambda: f"no {what}: {self}")

    def ended(self) -> list[str]:
        """Wait until it ends well. What it printed."""
        if self._process.wait(LIMIT * PATIENCE):
            pytest.fail(str(self), pytrace=False)
        return self.lines

    def result(self) -> bytes | None:
        """Wait until it ends. What it printed, None when it failed."""
        return self._output.read_bytes() if self._process.wait(LIMIT * PATIENCE) == 0 else None

    def kill9(self) -> None:
        self._process.kill()
        self._process.wait()

    def __str__(self) -> str:
        return (
            f"it printed {self.lines}, exit status {self._process.poll()}, errors: {self._errors.read_text()[-2000:]}"
        )


class Peers:
    """Programs of one library against the server at `port`. All of them end with the test."""

    def __init__(self, library: Library, port: int, folder: Path) -> None:
        self.library = library
        self.port = port
        self.folder = folder
        self._running: list[Running] = []

    def start(self, action: str, function: str, *arguments: str) -> Running:
        command = [*self.library.command, action, str(self.port), function, *arguments]
        running = Running(command, self.folder, f"{len(self._running)}-{action}-{function}")
        self._running.append(running)
        return running

    def worker(self, function: str) -> Running:
        """A worker for one function, registered with the server."""
        before = self.status(function)[2]
        worker = self.start("worker", function)
        worker.until(lambda: self.status(function)[2] > before, "worker registered")
        return worker

    def start_foreground(self, function: str, workload: bytes, unique: str = "") -> Running:
        """A client that waits for the result of a foreground job and prints it."""
        file = self.folder / f"{len(self._running)}.workload"
        file.write_bytes(workload)
        return self.start("foreground", function, str(file), unique)

    def foreground(self, function: str, workload: bytes, unique: str = "") -> bytes | None:
        """The result of a foreground job, None when it failed."""
        return self.start_foreground(function, workload, unique).result()

    def background(self, function: str, workload: str, priority: str = "normal", unique: str = "") -> str:
        """Submit a background job. Its handle, empty where the library does not tell."""
        return "".join(self.start("background", function, workload, priority, unique).ended())

    def gate(self) -> Path:
        """Where a held job waits: it ends once this file exists."""
        return self.folder / f"gate-{len(self._running)}"

    def status(self, function: str) -> tuple[int, int, int]:
        """(total, running, workers)"""
        return status(self.port).get(function, (0, 0, 0))

    def total(self, function: str) -> int:
        return self.status(function)[0]

    def clients_of(self, unique: str) -> int:
        """How many foreground clients wait for the job with this unique."""
        with Peer(self.port) as peer:
            return int(peer.send(p.GET_STATUS_UNIQUE, unique.encode()).expect(p.STATUS_RES_UNIQUE, 6)[5])

    def end(self) -> None:
        for running in self._running:
            running.kill9()
