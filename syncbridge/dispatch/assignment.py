"""Assignment: which job a worker gets. Best priority over all its functions, then their turn, then age."""

from __future__ import annotations

from syncbridge.dispatch.deadlines import Deadlines
from syncbridge.dispatch.function import FULL, Function
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.job import PRIORITIES, Job
from syncbridge.dispatch.reading import Reading
from syncbridge.dispatch.sleepers import Sleepers
from syncbridge.dispatch.worker import Worker

#: Jobs that a rate lets start together: those of so many seconds, at least one. Timers are not finer.
_BURST = 0.02


class Assignment:
    """Puts jobs into workers' hands."""

    __slots__ = ("_available", "_deadlines", "_holdings", "_prefix", "_reading", "_sleepers")

    def __init__(
        self, holdings: Holdings, sleepers: Sleepers, reading: Reading, deadlines: Deadlines, prefix: bytes
    ) -> None:
        self._holdings = holdings
        self._sleepers = sleepers
        self._reading = reading
        self._deadlines = deadlines
        self._prefix = prefix
        self._available = holdings.available

    def grab(self, worker: Worker, now: float) -> tuple[bytes, Job, bytes] | None:
        worker.seen = now
        worker.waits = False
        if worker.sleeping:
            self._sleepers.stir(worker)
        if self._sleepers.draining:
            return None
        while True:
            function = self._choose(worker)
            if function is None:
                if self._reading.blocking:
                    self._reading.await_for(worker)
                return None
            for line in function.lines:
                if not line.count:
                    continue
                job = line.head()
                if job is None or job.payload is None:
                    self._reading.next_missing(function, line)
                    break
                payload = job.payload
                line.take(job)
                self._holdings.count_queued(function, job.priority, -1)
                if line.on_disk or line.lean:
                    self._reading.keep_ahead(function, line)
                return self._assign(worker, function, job, payload, now)

    def _choose(self, worker: Worker) -> Function | None:
        functions, start = worker.functions, worker.cursor
        count = len(functions)
        high, normal, low = self._available
        if not (high or normal or low):
            return None
        best_there_is = 0 if high else 1 if normal else 2
        best, chosen = len(PRIORITIES), None
        for step in range(count):
            at = start + step
            if at >= count:
                at -= count
            function = functions[at]
            if not function.queued or not self._sleepers.may_take(worker, function):
                continue
            lines = function.lines
            priority = 0 if lines[0].count else 1 if lines[1].count else 2
            if priority < best:
                best, chosen = priority, function
                worker.cursor = at + 1 if at + 1 < count else 0
                if priority == best_there_is:
                    break
        return chosen

    def _assign(
        self, worker: Worker, function: Function, job: Job, payload: bytes, now: float
    ) -> tuple[bytes, Job, bytes]:
        handle = b"%b%d" % (self._prefix, job.id)
        if job.stored:
            self._holdings.release_payload(job)  # the store has it, should it come back
        job.queued = False
        job.worker = worker
        job.started = now
        worker.running[handle] = job
        if function.lane and function.holder is None:
            function.holder = worker
            function.group.take(worker)
        function.running[job.id] = job
        if function.regulated:
            self._regulate(worker, function, job, now)
        if worker.idle:
            self._sleepers.employ(worker)
        return handle, job, payload

    def _regulate(self, worker: Worker, function: Function, job: Job, now: float) -> None:
        """Time-out, number of running jobs, rate."""
        policy = function.policy
        timeout = (not function.lane and worker.timeouts.get(function)) or policy.timeout
        if timeout:
            self._deadlines.set(job, now + timeout)
        if policy.running and len(function.running) >= policy.running:
            self._holdings.close(function, FULL)
        if policy.rate:
            interval = 1.0 / policy.rate
            function.next_start = max(function.next_start, now) + interval
            until = function.next_start - max(0.0, _BURST - interval)
            if until > now:
                self._sleepers.rest(function, until)
