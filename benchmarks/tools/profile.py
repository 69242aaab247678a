"""Where processes spend their time, sampled by py-spy: functions by their own time, and by that of all they call."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.tools.missing import MissingPeer

#: Samples a second.
RATE = 200
#: Functions that are shown of each process, at most.
TOP = 12

#: Function -> share of the process's samples, in %: its own, and with what it calls.
Profile = dict[str, dict[str, list[float]]]


def program() -> str:
    """Raises MissingPeer where there is none."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise MissingPeer("there is no py-spy; .venv/bin/pip install py-spy")
    return found


def install() -> None:
    program()


class Profiler:
    def __init__(self) -> None:
        #: Process -> its profile.
        self.found: dict[str, Profile] = {}

    @contextmanager
    def watch(self, pids: Mapping[str, int]) -> Iterator[None]:
        """Sample these processes meanwhile."""
        with tempfile.TemporaryDirectory() as folder:
            files = {name: Path(folder) / name for name in pids}
            watchers = [
                subprocess.Popen(
                    [program(), "record", "--pid", str(pid), "--output", files[name], "--format", "raw", "--function",
                     "--rate", str(RATE), "--duration", "3600", "--nonblocking"],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
                for name, pid in pids.items()
            ]  # fmt: skip
            try:
                yield
            finally:
                for watcher in watchers:
                    watcher.send_signal(signal.SIGINT)
                for watcher in watchers:
                    watcher.wait(60)
            self.found = {name: summary(path.read_text()) for name, path in files.items() if path.exists()}


def summary(stacks: str) -> Profile:
    """Of lines `outermost;…;innermost COUNT`, each function as `name (file)`."""
    own: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        functions = [
            function.strip() for function in stack.split(";") if not function.startswith(("process ", "thread "))
        ]
        own[functions[-1]] += int(count)
        cumulative.update({function: int(count) for function in functions})
    total = own.total() or 1
    return {
        name: {"its own, %": [100 * count / total], "with what it calls, %": [100 * cumulative[name] / total]}
        for name, count in own.most_common(TOP)
    }
