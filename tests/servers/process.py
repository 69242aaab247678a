"""What tests do with a private server beyond its life: kill -9, freeze, restart, and folders that always go away."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any, Self

from syncbridge.demo.process import MissingServer, PrivateServer, free_port, tail

__all__ = ["CACHE", "REPOSITORY", "MissingServer", "ServerProcess", "free_port", "remove_leftovers"]

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("SYNCBRIDGE_CACHE") or REPOSITORY / ".cache")

_alive: set[ServerProcess] = set()


def temporary_root() -> Path:
    """This test process's own folder under the system's temporary folder."""
    root = Path(tempfile.gettempdir()) / f"syncbridge-tests-{os.getpid()}"
    root.mkdir(mode=0o711, exist_ok=True)  # a server that runs as another user passes through to its own folder
    return root


def remove_leftovers() -> None:
    """Remove the folders of test processes that were killed before they could tidy up."""
    for folder in Path(tempfile.gettempdir()).glob("syncbridge-tests-*"):
        pid = folder.name.rpartition("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


class ServerProcess(PrivateServer):
    """A private server in a temporary folder, ended with the test process at the latest.

    Keyword arguments go to the class of the server that stands behind this one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=temporary_root())), **options)

    def start(self) -> Self:
        _alive.add(self)
        return super().start()

    def stop(self) -> None:
        if self.running:
            self.thaw()
        super().stop()
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
        super().destroy()
        _alive.discard(self)

    def log_tail(self, lines: int = 30) -> str:
        return tail(self.log, lines)


def process_cpu(pid: int) -> float:
    """Seconds of CPU that a process used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@atexit.register
def _end_everything() -> None:
    for server in list(_alive):
        server.destroy()
    shutil.rmtree(Path(tempfile.gettempdir()) / f"syncbridge-tests-{os.getpid()}", ignore_errors=True)
