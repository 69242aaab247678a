"""A worker as the queue core sees it: abilities, whether it sleeps, and the jobs in its hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncbridge.dispatch.function import Function
    from syncbridge.dispatch.job import Job


class Worker:
    """One connection that asks for jobs. `wake` sends NOOP."""

    __slots__ = ("cursor", "functions", "idle", "running", "sleeping", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        #: What it can do, in the order it said so; jobs are taken round robin from `cursor` on.
        self.functions: list[Function] = []
        self.cursor = 0
        #: It sent PRE_SLEEP and got no NOOP since.
        self.sleeping = False
        #: It sent PRE_SLEEP and got no job since (a NOOP may be on its way).
        self.idle = False
        #: Handle -> job, in order of assignment. Only the worker that has a job may report on it.
        self.running: dict[bytes, Job] = {}
