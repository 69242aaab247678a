"""The life of one private server process: folder, port, start, stop, and never outliving the process that started it.

It knows nothing of SQL or Redis: a subclass says what to run and when it is ready.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from syncbridge.errors import ConfigError, TransientError

#: Below every usual ephemeral range, so that no outgoing connection takes the port while its server is down.
PORTS = range(20000, 32000)
#: Ports are a process's by blocks of so many. A socket with the block's name in the abstract namespace says so, as long
#: as the process lives: who looks at ports alone finds those of a server that is down for a moment free.
BLOCK = 50
_ports: list[int] = []

# The kernel ties PR_SET_PDEATHSIG (setpriv --pdeathsig) to the *thread* that forked: a server started by a short-lived
# thread would be killed when that thread ends. So one thread, which lives as long as this process, starts them all.
_launcher = ThreadPoolExecutor(1, "server-launcher")


class MissingServer(ConfigError):
    """A server program is not installed."""


def find_program(name: str, what: str, packages: str) -> Path:
    """The path of a program, also outside a user's PATH (/usr/sbin). Raises MissingServer.

    what: the server's name for people; packages: what to install on Debian and Ubuntu.
    """
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise MissingServer(
            f"{what} is missing: there is no {name} on PATH, nor in /usr/sbin",
            hint=f"install it, on Debian and Ubuntu with: apt-get install --no-install-recommends {packages}",
        )
    return Path(found)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, and that no process of ours was given. Raises TransientError."""
    while True:
        if not _ports:
            _ports.extend(_claim_block())
        port = _ports.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def _claim_block() -> range:
    """Ports that no other process of ours gives."""
    blocks = range(PORTS.start, PORTS.stop, BLOCK)
    for first in random.sample(blocks, len(blocks)):  # a port is no secret
        with socket.socket(socket.AF_UNIX) as claim, contextlib.suppress(OSError):
            claim.bind(f"\0syncbridge-ports-{first}")
            claim.detach()  # it stays open
            return range(first, first + BLOCK)
    raise TransientError(f"no free port in {PORTS}")


def spawn(command: Sequence[str], log: Path, death: str = "KILL", **arguments: object) -> subprocess.Popen[bytes]:
    """Start a program that gets the signal `death` when this process ends, however that comes about.

    Its output is added to `log`; `arguments` are Popen's.
    """

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
                ["setpriv", "--pdeathsig", death, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us to hear: we stop things in order
                **arguments,
            )

    return _launcher.submit(start).result()


def tail(log: Path, lines: int = 30) -> str:
    """The end of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


class PrivateServer:
    """One server on 127.0.0.1 in a folder of its own. Port and folder stay the same over stop and start."""

    name: ClassVar[str] = "server"
    start_timeout: ClassVar[float] = 60.0
    stop_timeout: ClassVar[float] = 60.0

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.log = folder / "log"
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
        """Start it and wait until it answers. Raises TransientError with the end of its log."""
        assert not self.running, f"{self.name} runs already"
        if self.process is None:
            self.prepare()
        self.process = spawn(self.command(), self.log, cwd=self.folder)
        deadline = time.monotonic() + self.start_timeout
        while not self.ready():
            if not self.running:
                raise TransientError(
                    f"{self.name} ended with {self.process.returncode} at start:\n{tail(self.log)}",
                )
            if time.monotonic() > deadline:
                raise TransientError(f"{self.name} did not become ready:\n{tail(self.log)}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Shut down in an orderly way. Stopping a stopped server is fine."""
        if self.process is None or not self.running:
            return
        self.process.terminate()
        try:
            self.process.wait(self.stop_timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise TransientError(f"{self.name} ignored SIGTERM:\n{tail(self.log)}") from None

    def destroy(self) -> None:
        """End it and remove its folder."""
        if self.process is not None and self.running:
            self.process.kill()  # its data goes away too: an orderly shutdown would only cost time
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.destroy()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()
