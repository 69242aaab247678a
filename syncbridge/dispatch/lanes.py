"""What makes a function a lane, and how lanes spread over workers.

A lane is a function under `syncbridge.`: its jobs leave the queue only on WORK_COMPLETE, in order, one worker at a
time, and a job that took its workers down moves to `<lane>.isolated`. queue.py acts on these rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncbridge.seams import ISOLATED_SUFFIX, LANE_PREFIX

if TYPE_CHECKING:
    from syncbridge.dispatch.worker import Worker

_PREFIX = LANE_PREFIX.encode()
_SUFFIX = ISOLATED_SUFFIX.encode()

#: Deliveries without an answer after which a lane job is isolated (DESIGN P5).
MAX_DELIVERIES = 3
#: A lane whose job failed waits before the next try, seconds: doubled with each failure in a row, up to the maximum.
FAILURE_PAUSE = 0.1
MAX_FAILURE_PAUSE = 5.0


def is_lane(function: bytes) -> bool:
    return function.startswith(_PREFIX)


def is_isolated(function: bytes) -> bool:
    return function.endswith(_SUFFIX)


def isolated(function: bytes) -> bytes:
    """Where a lane's poisonous jobs go."""
    return function + _SUFFIX


def group_name(function: bytes) -> bytes:
    """The lanes of one pipeline share a group, its isolated lanes another: `syncbridge.shop`."""
    base = function.removesuffix(_SUFFIX)
    return base.rpartition(b".")[0] + function[len(base) :]


class LaneGroup:
    """Spreads the lanes of one pipeline over its workers: nobody takes more than a fair share while another idles."""

    __slots__ = ("active", "held", "lanes")

    def __init__(self) -> None:
        #: Functions in it.
        self.lanes = 0
        #: Lanes with queued or running jobs.
        self.active = 0
        #: Lanes each worker holds (has running jobs of).
        self.held: dict[Worker, int] = {}

    def within_share(self, worker: Worker, workers: int, *, more: int) -> bool:
        """Whether the worker, holding `more` additional lanes, stays within ceil(active lanes / workers)."""
        return (self.held.get(worker, 0) + more) * workers <= self.active + workers - 1

    def take(self, worker: Worker) -> None:
        self.held[worker] = self.held.get(worker, 0) + 1

    def release(self, worker: Worker) -> None:
        left = self.held[worker] - 1
        if left:
            self.held[worker] = left
        else:
            del self.held[worker]
