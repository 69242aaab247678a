"""The seams between the stages: what capture and sinks expect of the queue, and nothing of how it is built.

`syncbridge.pipeline` hands each stage an implementation; the stages never import one another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol


def lane_function(pipeline: str, lane: int) -> str:
    """The queue function of a lane, e.g. `syncbridge.shop.3`."""
    return f"{LANE_PREFIX}{pipeline}.{lane}"


def hints_function(pipeline: str) -> str:
    """The queue function of what triggers submit through the UDF. A lane, but none that a pipeline's name can make."""
    return f"{LANE_PREFIX}hints:{pipeline}"


#: Functions with this prefix are lanes: their jobs leave the queue only on WORK_COMPLETE, in order (DESIGN P1).
LANE_PREFIX = "syncbridge."
#: Where the job server moves a lane job that took its workers down; applied row by row in a throw-away process (P5).
ISOLATED_SUFFIX = ".isolated"


class LaneQueue(Protocol):
    """Capture's way into the queue. One thread; only connect() and pending() may block for longer than `timeout`."""

    def connect(self) -> str:
        """Connect (again) and return the queue's id. Submissions not yet accepted are sent again. TransientError."""

    def submit(self, lane: int, workload: bytes) -> int:
        """Buffer a job and return its sequence number: 1, 2, 3, …"""

    def probe(self, lane: int, workload: bytes, token: int) -> None:
        """Send a foreground job that answered() reports once a worker has done it. Lost with the connection."""

    def poll(self, timeout: float) -> None:
        """Send what is buffered, read answers, resend refused jobs; wait at most `timeout` seconds. TransientError."""

    @property
    def accepted(self) -> int:
        """Every submission with a sequence number up to this one is durable."""

    @property
    def backlog(self) -> int:
        """Submissions that are not durable yet."""

    @property
    def backlog_bytes(self) -> int:
        """Their payload bytes: what backpressure is measured by."""

    def answered(self) -> list[tuple[int, int]]:
        """(lane, token) of the probes done since the last call."""

    def pending(self) -> int:
        """Jobs queued or running in all our lanes, isolated ones included. One blocking round trip. TransientError."""

    def fileno(self) -> int:
        """For select()."""

    def close(self) -> None:
        """Close the connection; what is not accepted is forgotten."""


class Hint(NamedTuple):
    """A job of a trigger: a row may have changed."""

    handle: bytes
    workload: bytes


class HintQueue(Protocol):
    """Capture's way to the hints (DESIGN section 5, Triggers). One thread; only connect() and close() may block."""

    def connect(self) -> None:
        """Connect and ask for hints. Those in hand before come again. TransientError."""

    def take(self) -> list[Hint]:
        """What has arrived, in the order of the queue; also sends what is to be sent. TransientError."""

    @property
    def full(self) -> bool:
        """So much is in hand, neither done nor put back, that no more comes."""

    def done(self, handles: Iterable[bytes]) -> None:
        """These leave the queue. Handles of an earlier connection are ignored: their hints come again."""

    def put_back(self, hint: Hint) -> None:
        """Move it behind the others: it will be taken again."""

    def clear(self) -> int:
        """Connect, let go of all there are, and close; how many there were. May block. TransientError."""

    def fileno(self) -> int:
        """For select()."""

    def close(self) -> None:
        """Give back what is in hand, and close."""


@dataclass(frozen=True, slots=True)
class LaneJob:
    """A job in a worker's hands."""

    handle: bytes
    workload: bytes
    lane: int
    #: It took its workers down before: apply it row by row in a throw-away process.
    isolated: bool
    #: The plain function that it is a job of; empty: a lane's.
    function: str = ""


class LaneJobs(Protocol):
    """A worker's way out of the queue (asyncio)."""

    async def connect(self) -> None:
        """Connect and announce the lanes. TransientError."""

    async def grab(self) -> list[LaneJob]:
        """At least one job, in lane order; waits for one. TransientError when the connection dies."""

    async def complete(self, job: LaneJob) -> None:
        """WORK_COMPLETE: the job leaves the queue."""

    async def requeue(self, job: LaneJob) -> None:
        """WORK_FAIL: the lane keeps the job at its place."""

    async def close(self) -> None:
        """Give back what is not completed and close."""


class Mirror(Protocol):
    """What capture asks of Redis: only how far it is. TransientError while it cannot answer."""

    def epoch(self) -> int:
        """The largest epoch that Redis has seen; 0: none."""

    def raise_epoch(self, epoch: int) -> None:
        """Remember `epoch` unless a larger one is there."""

    def marks(self) -> dict[int, str]:
        """The low-water mark of each lane: all its events up to this version are in Redis, or held elsewhere."""
