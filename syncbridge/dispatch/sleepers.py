"""Sleeping and waking: who is told that there is a job, and who may take it. One NOOP for one job, never a storm."""

from __future__ import annotations

from syncbridge.dispatch.function import RESTING, Function
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.worker import Worker


class Sleepers:
    """`draining`: nobody gets anything any more."""

    __slots__ = ("_holdings", "_resting", "draining")

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._resting: dict[Function, float] = {}
        self.draining = False

    def may_take(self, worker: Worker, function: Function) -> bool:
        """Whether the worker, who can do it, may have a job of the function now."""
        if function.closed:
            return False
        if not function.lane:
            return True
        holder = function.holder
        if holder is not None and holder is not worker:
            return False
        idle = function.idle
        if not idle or (len(idle) == 1 and worker in idle):
            return True
        # Somebody else has nothing to do: leave him the lanes beyond our share, the held ones by letting them drain.
        return function.group.within_share(worker, len(function.workers), more=int(holder is None))

    def pre_sleep(self, worker: Worker) -> None:
        """The worker waits for NOOP; it gets one at once if there is something for it."""
        worker.sleeping = worker.idle = True
        for function in worker.functions:
            function.sleepers[worker] = function.idle[worker] = None
        if self.draining:
            return
        queued = [function for function in worker.functions if function.queued]
        if any(self.may_take(worker, function) for function in queued):
            self._wake(worker)
            return
        for function in queued:
            if function.lane and function.holder is None:
                self.wake_one(function)  # beyond this worker's share, so within somebody else's

    def withdraw(self, worker: Worker, function: Function) -> None:
        """The worker can no longer do it."""
        worker.timeouts.pop(function, None)
        for workers in (function.workers, function.sleepers, function.idle):
            workers.pop(worker, None)
        if function.queued and function.sleepers:
            self.wake_one(function)  # the NOOP for its job may have gone to the worker that leaves

    def wake_one(self, function: Function) -> None:
        """Send one NOOP for one job, to a sleeper who may have it."""
        if function.closed or self.draining:
            return  # whoever opens it will
        if not function.lane:
            if function.sleepers:
                self._wake(next(iter(function.sleepers)))
            return
        if function.holder is not None:
            if function.holder.sleeping:
                self._wake(function.holder)
            return
        for worker in function.sleepers:
            if self.may_take(worker, function):
                self._wake(worker)
                return

    def wake_for(self, function: Function, jobs: int) -> None:
        """So many jobs can be taken all at once."""
        for _ in range(min(jobs, function.queued, len(function.sleepers))):
            self.wake_one(function)

    def _wake(self, worker: Worker) -> None:
        self.stir(worker)
        worker.wake()

    def stir(self, worker: Worker) -> None:
        """It no longer sleeps."""
        worker.sleeping = False
        for function in worker.functions:
            function.sleepers.pop(worker, None)

    def employ(self, worker: Worker) -> None:
        """An idle worker got a job: it no longer keeps others from the lanes it did not take."""
        worker.idle = False
        for function in worker.functions:
            function.idle.pop(worker, None)
        for function in worker.functions:
            if function.lane and function.queued and function.holder is None and function.sleepers:
                self.wake_one(function)

    # -- resting -------------------------------------------------------------------------------------------------

    def reopen(self, function: Function, reason: int) -> None:
        """One reason to hand out nothing is gone."""
        if not function.closed & reason:
            return
        self._holdings.open(function, reason)
        self.wake_for(function, function.queued)

    def rest(self, function: Function, until: float) -> None:
        """Hand out nothing of it until then."""
        self._holdings.close(function, RESTING)
        self._resting[function] = max(until, self._resting.get(function, until))

    def end_rests(self, now: float) -> float | None:
        """Wake up for what has rested; returns when the next rest ends."""
        if not self._resting:
            return None
        for function in [f for f, until in self._resting.items() if until <= now]:
            del self._resting[function]
            self.reopen(function, RESTING)
        return min(self._resting.values(), default=None)
