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
        return FunctionStats(
            function.total,
            len(function.running),
            len(function.workers),
            self._oldest_age(function, now),
            (high.count, normal.count, low.count),
            function.scheduled,
            bool(function.closed & PAUSED),
        )

    def _oldest_age(self, function: Function, now: float) -> float:
        submitted = [job.submitted for job in function.running.values()]
        for line in function.lines:
            if job := line.head():
                submitted.append(job.submitted)
            elif line.on_disk:
                self._reading.want_window(function, line, 1)  # known at the next look
        return max(0.0, now + self._holdings.epoch - min(submitted) / 1e6) if submitted else 0.0
