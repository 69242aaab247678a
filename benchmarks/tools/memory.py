"""Memory of processes while something goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@contextmanager
def watched(pids: Mapping[str, int]) -> Iterator[dict[str, float]]:
    """Name -> the most that it was resident, MiB, looked at 20 times a second."""
    most = dict.fromkeys(pids, 0.0)
    over = threading.Event()

    def look() -> None:
        while True:
            for name, pid in pids.items():
                most[name] = max(most[name], resident(pid) / 2**20)
            if over.wait(0.05):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()
