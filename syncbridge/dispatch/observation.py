"""What /metrics tells of the job server. Reads its totals, decides nothing.

Functions are named by clients, so their number is bounded here: the first ones have labels of their own, the rest
share `other`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from syncbridge import metrics
from syncbridge.dispatch.function import Tally

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from syncbridge.dispatch.queue import FunctionStats
    from syncbridge.dispatch.server import JobServer

#: Functions with a label of their own.
MAX_LABELS = 200
OTHER = "other"
#: Functions looked at before the loop goes on.
_AT_ONCE = 200
PRIORITY_NAMES: Final = ("high", "normal", "low")

#: What a tally counts by function: its attribute -> the metric.
_COUNTERS = {
    "submitted": metrics.JOBS_SUBMITTED,
    "completed": metrics.JOBS_COMPLETED,
    "failed": metrics.JOBS_FAILED,
    "timed_out": metrics.JOBS_TIMED_OUT,
    "requeued": metrics.JOBS_REQUEUED,
    "dead": metrics.JOBS_DEAD,
    "isolated": metrics.JOBS_ISOLATED,
}


class QueueMetrics:
    """The job server's observer, and what refreshes the gauges."""

    def __init__(self) -> None:
        self._labels: set[str] = set()
        self._gauges = {
            gauge: _Levels(gauge)
            for gauge in (
                metrics.QUEUE_JOBS,
                metrics.QUEUE_WAITING,
                metrics.QUEUE_RUNNING,
                metrics.QUEUE_SCHEDULED,
                metrics.QUEUE_PAUSED,
                metrics.QUEUE_OLDEST,
                metrics.QUEUE_WORKERS,
            )
        }

    def label(self, function: str) -> str:
        """The function's name, or `other` once there are too many."""
        if function not in self._labels:
            if len(self._labels) >= MAX_LABELS:
                return OTHER
            self._labels.add(function)
        return function

    # -- Observer ------------------------------------------------------------------------------------------------

    def jobs(self, function: str, priority: int, tally: Tally) -> None:
        labels = self.label(function), PRIORITY_NAMES[priority]
        for name, counter in _COUNTERS.items():
            if count := getattr(tally, name):
                counter.labels(*labels).inc(count)

    def commit(self, seconds: float, sync_seconds: float, changes: int) -> None:
        metrics.COMMIT.observe(seconds)
        if sync_seconds:
            metrics.SYNC.observe(sync_seconds)
        metrics.COMMIT_JOBS.inc(changes)

    def commit_failed(self, reason: str) -> None:
        metrics.COMMIT_FAILED.inc()

    # -- levels --------------------------------------------------------------------------------------------------

    async def refresh(self, server: JobServer) -> None:
        """Set the gauges to what is true now, a few functions at a time: others have work to do in this loop."""
        names = list(server.queue.functions)
        for start in range(0, len(names), _AT_ONCE):
            self._add(server.queue.stats(time.monotonic(), names[start : start + _AT_ONCE]))
            await asyncio.sleep(0)
        for levels in self._gauges.values():
            levels.show()
        metrics.QUEUE_CONNECTIONS.set(len(server.sessions))
        metrics.QUEUE_BYTES.set(server.queue.bytes)
        metrics.QUEUE_DEAD.set(server.queue.dead)

    def _add(self, stats: Mapping[bytes, FunctionStats]) -> None:
        for name, found in stats.items():
            label = self.label(name.decode(errors="replace"))
            self._gauges[metrics.QUEUE_JOBS].add((label,), found.total)
            self._gauges[metrics.QUEUE_WORKERS].add((label,), found.workers)
            self._gauges[metrics.QUEUE_SCHEDULED].add((label,), found.scheduled)
            self._gauges[metrics.QUEUE_PAUSED].add((label,), found.paused)
            levels = zip(PRIORITY_NAMES, found.queued, found.in_hands, found.ages, strict=True)
            for priority, waiting, running, age in levels:
                self._gauges[metrics.QUEUE_WAITING].add((label, priority), waiting)
                self._gauges[metrics.QUEUE_RUNNING].add((label, priority), running)
                self._gauges[metrics.QUEUE_OLDEST].highest((label, priority), age)


class _Levels:
    """One gauge over all labels; a label that is gone shows 0."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._new: dict[tuple[str, ...], float] = {}
        self._shown: set[tuple[str, ...]] = set()

    def add(self, labels: tuple[str, ...], value: float) -> None:
        self._new[labels] = self._new.get(labels, 0.0) + value

    def highest(self, labels: tuple[str, ...], value: float) -> None:
        self._new[labels] = max(self._new.get(labels, 0.0), value)

    def show(self) -> None:
        for labels in self._shown - self._new.keys():
            self._gauge.labels(*labels).set(0)
        for labels, value in self._new.items():
            self._gauge.labels(*labels).set(value)
        self._shown |= self._new.keys()
        self._new.clear()
