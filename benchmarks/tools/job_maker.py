"""Lanes without a job server: what capture makes of rows, kept or thrown away."""

from __future__ import annotations

from syncbridge.capture.lanes import Lanes
from syncbridge.dispatch.packets import MAX_PACKET


class Kept:
    """Takes jobs as the queue does. `keep`: remember the workloads by lane."""

    def __init__(self, lanes: int, *, keep: bool) -> None:
        self.by_lane: list[list[bytes]] = [[] for _ in range(lanes)]
        self.jobs = 0
        self._keep = keep

    def submit(self, lane: int, workload: bytes) -> int:
        self.jobs += 1
        if self._keep:
            self.by_lane[lane].append(workload)
        return self.jobs


def job_maker(lanes: int, *, keep: bool = False) -> tuple[Lanes, Kept]:
    """Capture's own lanes, and where their jobs end."""
    kept = Kept(lanes, keep=keep)

    def refuse(_: object, size: int) -> None:
        raise AssertionError(f"a row of {size} bytes")

    return Lanes(kept, lanes, MAX_PACKET, slim=lambda event: event, refuse=refuse), kept  # type: ignore[arg-type]
