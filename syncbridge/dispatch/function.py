"""A function: its queued and running jobs, its workers, and, if it is a lane, who holds it."""

from __future__ import annotations

from syncbridge.dispatch import lanes
from syncbridge.dispatch.job import PRIORITIES, Job
from syncbridge.dispatch.lanes import LaneGroup
from syncbridge.dispatch.line import Line
from syncbridge.dispatch.worker import Worker


class Tally:
    """What happened to a function's jobs since the observer was last told."""

    __slots__ = ("completed", "failed", "isolated", "requeued", "submitted")

    def __init__(self) -> None:
        self.submitted = self.completed = self.failed = self.requeued = self.isolated = 0


class Function:
    """State only; queue.py keeps it consistent."""

    __slots__ = (
        "failures",
        "group",
        "holder",
        "idle",
        "joinable",
        "lane",
        "lines",
        "name",
        "paused_until",
        "queued",
        "running",
        "sleepers",
        "tally",
        "workers",
    )

    def __init__(self, name: bytes, group: LaneGroup) -> None:
        self.name = name
        self.lane = lanes.is_lane(name)
        #: Lanes of one pipeline share it; without meaning for other functions.
        self.group = group
        #: By priority.
        self.lines = tuple(Line() for _ in PRIORITIES)
        #: Jobs in all lines, stored ones included.
        self.queued = 0
        self.running: dict[int, Job] = {}
        #: Join key -> the job in memory that a submit with this key joins.
        self.joinable: dict[bytes, Job] = {}
        #: Everybody who can do it, and those of them that sleep or idle (see Worker).
        self.workers: dict[Worker, None] = {}
        self.sleepers: dict[Worker, None] = {}
        self.idle: dict[Worker, None] = {}
        #: The one worker that has jobs of this lane.
        self.holder: Worker | None = None
        #: Nothing is handed out before this time; 0: not paused.
        self.paused_until = 0.0
        #: Failures in a row.
        self.failures = 0
        self.tally = Tally()

    @property
    def total(self) -> int:
        return self.queued + len(self.running)

    @property
    def on_disk(self) -> bool:
        """Part of the queue is in the store only."""
        return any(line.on_disk for line in self.lines)
