"""Levels: how much there is of each function at one moment, for gauges and lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from syncbridge.dispatch.function import PAUSED, Function
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.reading import Reading


class FunctionStats(NamedTuple):
    """One function at one moment."""

    #: Queued, scheduled and running.
    total: int
    running: int
    workers: int
    #: Seconds since the oldest job that is queued or running was submitted, 0.0 without jobs.
    oldest_age: float
    #: Queued by priority.
    queued: tuple[int, int, int] = (0, 0, 0)
    scheduled: int = 0
    paused: bool = False
    #: `running` and `oldest_age` by priority.
    in_hands: tuple[int, int, int] = (0, 0, 0)
    ages: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Levels:
    """Looks only; what it would have to read it asks for, and knows at the next look."""

    __slots__ = ("_holdings", "_reading")

    def __init__(self, holdings: Holdings, reading: Reading) -> None:
        self._holdings = holdings
        self._reading = reading

    def stats(self, now: float, names: Iterable[bytes] | None = None) -> dict[bytes, FunctionStats]:
        """Every function that has or had jobs or workers; of `names`, those that still do."""
        functions = self._holdings.functions
        known = functions if names is None else [name for name in names if name in functions]
        return {name: self._stats(functions[name], now) for name in known}

    def _stats(self, function: Function, now: float) -> FunctionStats:
        high, normal, low = function.lines
        running = [0, 0, 0]
        clock = int((now + self._holdings.epoch) * 1e6)
        submitted = [clock, clock, clock]
        for job in function.running.values():
            running[job.priority] += 1
            submitted[job.priority] = min(submitted[job.priority], job.submitted)
        for priority, line in enumerate(function.lines):
            if head := line.head():
                submitted[priority] = min(submitted[priority], head.submitted)
            elif line.on_disk:
                self._reading.want_window(function, line, 1)  # known at the next look
        ages = [(clock - oldest) / 1e6 for oldest in submitted]
        return FunctionStats(
            function.total,
            len(function.running),
            len(function.workers),
            max(ages),
            (high.count, normal.count, low.count),
            function.scheduled,
            bool(function.closed & PAUSED),
            (running[0], running[1], running[2]),
            (ages[0], ages[1], ages[2]),
        )
