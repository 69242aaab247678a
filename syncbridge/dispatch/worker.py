"""A worker as the queue core sees it: abilities, whether it sleeps, and the jobs in its hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncbridge.dispatch.function import Function
    from syncbridge.dispatch.job import Job


class Worker:
    """One connection that asks for jobs. `wake` sends NOOP; `retry` asks again after a grab() that waits."""

    __slots__ = ("cursor", "functions", "idle", "retry", "running", "seen", "sleeping", "timeouts", "waits", "wake")

    def __init__(self, wake: Callable[[], None], retry: Callable[[], None] = lambda: None) -> None:
        self.wake = wake
        self.retry = retry
        #: What it can do, in the order it said so; jobs are taken round robin from `cursor` on.
        self.functions: list[Function] = []
        self.cursor = 0
        #: It sent PRE_SLEEP and got no NOOP since.
        self.sleeping = False
        #: It sent PRE_SLEEP and got no job since (a NOOP may be on its way).
        self.idle = False
        #: Its last grab() found nothing in memory, but what it asked for is being read.
        self.waits = False
        #: Handle -> job, in order of assignment. Only the worker that has a job may report on it.
        self.running: dict[bytes, Job] = {}
        #: CAN_DO_TIMEOUT: seconds, by function.
        self.timeouts: dict[Function, float] = {}
        #: When it last asked for a job or went to sleep, by the clock of `now`.
        self.seen = 0.0
