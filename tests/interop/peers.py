"""Other people's Gearman clients as processes: the programs in clients/ and how to talk to them."""

from __future__ import annotations

import itertools
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


_numbers = itertools.count(1)


class Peers:
    """Programs of one library against the server at `port`; all of them end with the test.

    Many tests share a server: what a test calls function "note" is note-17 there, and none but it uses that name.
    """

    def __init__(self, library: Library, port: int, folder: Path) -> None:
        self.library = library
        self.port = port
        self.folder = folder
        self._mark = f"-{next(_numbers)}"
        self._running: list[Running] = []

    def function(self, role: str) -> str:
        """The name that only this test uses; uniques are made unique in the same way."""
        return role and role + self._mark

    # Its programs

    def start(self, action: str, role: str, *arguments: str) -> Running:
        return self._start(action, self.function(role), *arguments)

    def _start(self, action: str, function: str, *arguments: str) -> Running:
        command = [*self.library.command, action, str(self.port), function, *arguments]
        running = Running(command, self.folder, f"{len(self._running)}-{action}-{function}")
        self._running.append(running)
        return running

    def worker(self, role: str, *, of: Peers | None = None) -> Running:
        """A worker, registered with the server, for this function of ours, or `of` others."""
        owner = of or self
        before = owner.status(role)[2]
        worker = self._start("worker", owner.function(role), role)
        worker.until(lambda: owner.status(role)[2] > before, "worker registered")
        return worker

    def start_foreground(self, role: str, workload: bytes, unique: str = "") -> Running:
        """A client that waits for the result of a foreground job and prints it."""
        file = self.folder / f"{len(self._running)}.workload"
        file.write_bytes(workload)
        return self.start("foreground", role, str(file), self.function(unique))

    def foreground(self, role: str, workload: bytes, unique: str = "") -> bytes | None:
        """The result of a foreground job, None when it failed."""
        return self.start_foreground(role, workload, unique).result()

    def background(self, role: str, workload: str, priority: str = "normal", unique: str = "") -> str:
        """Submit a background job. Its handle, empty where the library does not tell."""
        return "".join(self.start("background", role, workload, priority, self.function(unique)).ended())

    def admin(self) -> list[str]:
        """What the library's administration client tells of the server's version and of this test's functions."""
        lines = self.start("admin", "").ended()
        ours = [line for line in lines if any(word.endswith(self._mark) for word in line.split())]
        return sorted(line.replace(self._mark, "") for line in [*ours, *(line for line in lines if "version" in line)])

    def gate(self) -> Path:
        """Where a held job waits: it ends once this file exists."""
        return self.folder / f"gate-{len(self._running)}"

    def end(self) -> None:
        for running in self._running:
            running.kill9()

    # What the server says

    def status(self, role: str) -> tuple[int, int, int]:
        """(total, running, workers)"""
        return status(self.port).get(self.function(role), (0, 0, 0))

    def total(self, role: str) -> int:
        return self.status(role)[0]

    def clients_of(self, unique: str) -> int:
        """How many foreground clients wait for the job with this unique."""
        with Peer(self.port) as peer:
            answer = peer.send(p.GET_STATUS_UNIQUE, self.function(unique).encode()).expect(p.STATUS_RES_UNIQUE, 6)
        return int(answer[5])
