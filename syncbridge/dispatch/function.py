"""A function: its queued and running jobs, its workers, its policy, and, if it is a lane, who holds it."""

from __future__ import annotations

from typing import Final

from syncbridge.dispatch import lanes
from syncbridge.dispatch.job import PRIORITIES, Job
from syncbridge.dispatch.lanes import LaneGroup
from syncbridge.dispatch.line import Line
from syncbridge.dispatch.policy import Policy
from syncbridge.dispatch.run import Run
from syncbridge.dispatch.worker import Worker

#: Why nothing is handed out (bits of Function.closed): its next job is being read,
READING: Final = 1
#: somebody paused it,
PAUSED: Final = 2
#: it rests until a certain time,
RESTING: Final = 4
#: as many of its jobs run as may.
FULL: Final = 8


class Tally:
    """What happened to a function's jobs of one priority since the observer was last told."""

    __slots__ = ("completed", "dead", "failed", "isolated", "requeued", "submitted", "timed_out")

    def __init__(self) -> None:
        #: `failed` are over; `requeued` came back for another delivery; `dead` became dead letters.
        self.submitted = self.completed = self.failed = self.requeued = self.isolated = 0
        self.dead = self.timed_out = 0

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)


class Function:
    """State only; the core's modules keep it consistent."""

    __slots__ = (
        "arriving",
        "closed",
        "failures",
        "group",
        "holder",
        "idle",
        "joinable",
        "keeps",
        "lane",
        "lines",
        "max_queued",
        "name",
        "next_start",
        "policy",
        "queued",
        "regulated",
        "running",
        "scheduled",
        "scheduled_on_disk",
        "simple",
        "sleepers",
        "tallies",
        "timed",
        "workers",
    )

    def __init__(self, name: bytes, group: LaneGroup, policy: Policy) -> None:
        self.name = name
        self.lane = lanes.is_lane(name)
        #: Lanes of one pipeline share it; without meaning for other functions.
        self.group = group
        #: By priority.
        self.lines = tuple(Line() for _ in PRIORITIES)
        #: Jobs in all lines, stored ones included.
        self.queued = 0
        #: Submitted jobs whose commit is not through.
        self.arriving = 0
        #: Jobs that wait for their time, and how many of them only the store has.
        self.scheduled = 0
        self.scheduled_on_disk = 0
        self.running: dict[int, Job] = {}
        #: Join key -> the job in memory that a submit with this key joins, or the run that it arrives with.
        self.joinable: dict[bytes, Job | Run] = {}
        #: Everybody who can do it, and those of them that sleep or idle (see Worker).
        self.workers: dict[Worker, None] = {}
        self.sleepers: dict[Worker, None] = {}
        self.idle: dict[Worker, None] = {}
        #: The one worker that has jobs of this lane.
        self.holder: Worker | None = None
        #: Nothing is handed out while it is not 0.
        self.closed = 0
        #: Failures in a row.
        self.failures = 0
        #: When the next job may start if all before it had kept to the rate.
        self.next_start = 0.0
        #: By priority.
        self.tallies = tuple(Tally() for _ in PRIORITIES)
        #: A worker said CAN_DO_TIMEOUT.
        self.timed = False
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        """What holds from now on."""
        self.policy = policy
        #: See Policy.max_queued; None: no limits.
        self.max_queued = policy.max_queued if any(policy.max_queued) else None
        #: An assignment has more to heed than the order of jobs: a time-out, a rate, a number of running jobs.
        self.regulated = self.timed or bool(policy.timeout or policy.rate or policy.running)
        #: Nothing follows from a job that stops running.
        self.simple = not self.lane and not policy.running
        #: Results of its background jobs are kept.
        self.keeps = policy.keep_result > 0

    def take_tallies(self) -> tuple[Tally, ...]:
        """What to tell the observer now, by priority."""
        tallies, self.tallies = self.tallies, tuple(Tally() for _ in PRIORITIES)
        return tallies

    @property
    def total(self) -> int:
        return self.queued + self.scheduled + len(self.running)

    @property
    def on_disk(self) -> bool:
        """Some of its jobs are in the store only."""
        high, normal, low = self.lines
        return bool(high.on_disk or normal.on_disk or low.on_disk or self.scheduled_on_disk)

    @property
    def idle_and_empty(self) -> bool:
        """Nobody would miss it."""
        return not (self.total or self.workers or self.arriving or self.closed & PAUSED or self.max_queued)
