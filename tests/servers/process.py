"""The life of one private server process: folder, port, start, stop, kill -9, and never outliving the test run.

It knows nothing of SQL or Redis: a subclass says what to run and when it is ready.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("SYNCBRIDGE_CACHE") or REPOSITORY / ".cache")

#: Below every usual ephemeral range, so that no outgoing connection takes the port while its server is down.
PORTS = range(20000, 32000)

# The kernel ties PR_SET_PDEATHSIG (setpriv --pdeathsig) to the *thread* that forked: a server started by a test's own
# thread would be killed when that thread ends. So one thread, which lives as long as the test process, starts them all.
_launcher = ThreadPoolExecutor(1, "server-launcher")

_alive: set[ServerProcess] = set()


class MissingServer(Exception):
    """A program that the tests need is not installed."""


def find_program(name: str, what: str) -> Path:
    """The path of a program, also outside a user's PATH (/usr/sbin). Raises MissingServer."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingServer(f"{what} is missing ({name} is not on PATH): run `make test`, which installs it.")
    return Path(found)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise OSError(f"no free port in {PORTS}")


def temporary_root() -> Path:
    """This test process's own folder under the system's temporary folder."""
    root = Path(tempfile.gettempdir()) / f"syncbridge-tests-{os.getpid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    return root


def remove_leftovers() -> None:
    """Remove the folders of test processes that were killed before they could tidy up."""
    for folder in Path(tempfile.gettempdir()).glob("syncbridge-tests-*"):
        pid = folder.name.rpartition("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


class ServerProcess:
    """One server on 127.0.0.1. Port and folder stay the same over stop, kill9 and start."""

    name: ClassVar[str] = "server"
    start_timeout: ClassVar[float] = 60.0
    stop_timeout: ClassVar[float] = 60.0

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=temporary_root()))
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    # What a subclass says

    def command(self) -> list[str]:
        """The command line that runs the server in the foreground."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Called once, before the first start."""

    def ready(self) -> bool:
        """Whether it answers clients now."""
        raise NotImplementedError

    # Life

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it answers. Raises AssertionError with the end of its log."""
        assert not self.running, f"{self.name} runs already"
        if self.process is None:
            self.prepare()
        self.process = _launcher.submit(self._spawn).result()
        _alive.add(self)
        deadline = time.monotonic() + self.start_timeout
        while not self.ready():
            assert self.running, f"{self.name} ended with {self.process.returncode} at start:\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"{self.name} did not become ready:\n{self.log_tail()}"
            time.sleep(0.02)
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops servers in order
            )

    def stop(self) -> None:
        """Shut down in an orderly way. Stopping a stopped server is fine."""
        if self.process is None:
            return
        if self.running:
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(self.stop_timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError(f"{self.name} ignored SIGTERM:\n{self.log_tail()}") from None
        _alive.discard(self)

    def kill9(self) -> None:
        """End it as a power cut would end the program."""
        assert self.process is not None, f"{self.name} was never started"
        self.process.kill()
        self.process.wait()
        _alive.discard(self)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP): connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def destroy(self) -> None:
        """End it and remove its folder."""
        if self.running:
            self.kill9()  # its data goes away too: an orderly shutdown would only cost time
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()


@atexit.register
def _end_everything() -> None:
    for server in list(_alive):
        server.destroy()
    shutil.rmtree(Path(tempfile.gettempdir()) / f"syncbridge-tests-{os.getpid()}", ignore_errors=True)
