"""Endings: what becomes of a job that a worker had, or that nobody shall have any more.

    complete                       over
    fail, exception, time-out      lane: back to its place; else by the function's policy: again at once, again later
    worker lost                    (SCHEDULED), or over, as a dead letter if it was a background job

Whatever ends here leaves memory now and the store with the next commit.
"""

from __future__ import annotations

import logging

from syncbridge.dispatch import lanes
from syncbridge.dispatch.batch import Batches
from syncbridge.dispatch.deadlines import Deadlines
from syncbridge.dispatch.function import FULL, RESTING, Function
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.job import NO_PROGRESS, Job
from syncbridge.dispatch.packets import WORK_COMPLETE, WORK_DATA, WORK_EXCEPTION, WORK_FAIL
from syncbridge.dispatch.policy import Ending, next_delivery
from syncbridge.dispatch.schedule import Schedule
from syncbridge.dispatch.sleepers import Sleepers
from syncbridge.dispatch.store import DEAD, SCHEDULED, Result
from syncbridge.dispatch.worker import Worker

logger = logging.getLogger(__name__)

#: Longest note of a dead letter, bytes.
_MAX_NOTE = 1000


class Endings:
    """Takes jobs out of workers' hands."""

    __slots__ = ("_batches", "_deadlines", "_holdings", "_schedule", "_sleepers", "_volatile", "results_until")

    def __init__(
        self, holdings: Holdings, sleepers: Sleepers, batches: Batches, schedule: Schedule, deadlines: Deadlines
    ) -> None:
        self._holdings = holdings
        self._sleepers = sleepers
        self._batches = batches
        self._volatile = batches.volatile
        self._schedule = schedule
        self._deadlines = deadlines
        #: Kept results are all over by then, wall clock in microseconds.
        self.results_until = 0

    # -- what workers report -------------------------------------------------------------------------------------

    def complete(self, worker: Worker, handle: bytes, data: bytes) -> bool:
        """WORK_COMPLETE: the job is done and leaves. False: not this worker's job.

        Every job passes here: leave() and Holdings.forget() in one spare 0.3 of 1.1 µs.
        """
        job = worker.running.pop(handle, None)
        if job is None:
            return False
        function, holdings = job.function, self._holdings
        function.tallies[job.priority].completed += 1
        holdings.touched.add(function)
        function.failures = 0
        if function.keeps:
            self._keep_result(job, WORK_COMPLETE, data)
        if function.simple and job.background and job.alarm is None:
            number, key = job.id, job.join_key
            del function.running[number]
            holdings.jobs.pop(number, None)
            if key is not None and (joinable := function.joinable).get(key) is job:
                del joinable[key]
            job.worker = None
            if job.stored or not self._volatile:
                self._batches.remove(job)
            holdings.count -= 1
            holdings.bytes -= job.size
            if job.payload is not None:
                job.payload = None
                holdings.payload_bytes -= job.size
        else:
            self.leave(job)
        if function.regulated:
            self._heard_of_lane(function)
        if job.clients:
            self._tell(job, WORK_COMPLETE, data)
        return True

    def fail(self, worker: Worker, handle: bytes, kind: int, data: bytes) -> bool:
        job = worker.running.pop(handle, None)
        if job is None:
            return False
        function = job.function
        self._holdings.touched.add(function)
        if function.lane:
            # A worker that leaves resets its abilities before it gives its jobs back: that is no failure.
            if not function.closed & RESTING and worker in function.workers:
                function.failures += 1
                pause = lanes.FAILURE_PAUSE * 2 ** min(function.failures - 1, 16)
                self._sleepers.rest(function, self._holdings.now + min(pause, lanes.MAX_FAILURE_PAUSE))
            self._heard_of_lane(function)
            self._put_back(job)
        else:
            self._ended_badly(job, Ending.FAILED if kind == WORK_FAIL else Ending.EXCEPTION, kind, data)
        return True

    def progress(self, worker: Worker, handle: bytes, kind: int, data: bytes) -> bool:
        job = worker.running.get(handle)
        if job is None:
            return False
        function = job.function
        if kind == WORK_DATA and function.keeps and job.background:
            if job.output is None:
                job.output = bytearray()
            job.output += data[: self._holdings.limits.max_result - len(job.output)]
        self._heard_of_lane(function)
        for client in job.clients:
            client.progress(kind, job, data)
        return True

    def lost(self, worker: Worker) -> None:
        """The worker is gone: its jobs return to their places, in order, and count one delivery."""
        running, worker.running = worker.running, {}
        for job in running.values():
            self._holdings.touched.add(job.function)
            if job.function.lane:
                self._unanswered(job)
            else:
                self._ended_badly(job, Ending.LOST, WORK_FAIL, b"")

    def time_out(self, job: Job, handle: bytes) -> None:
        """Its worker took too long; what it still says of the job is unknown from now on."""
        worker, function = job.worker, job.function
        assert worker is not None
        function.tallies[job.priority].timed_out += 1
        self._holdings.touched.add(function)
        if function.lane:
            # The lane's next jobs wait behind this one in the same hands.
            for late, other in [(h, j) for h, j in worker.running.items() if j.function is function]:
                del worker.running[late]
                self._unanswered(other)
            return
        del worker.running[handle]
        if not function.policy.durable:
            self._tell(job, WORK_FAIL, b"")
        self._ended_badly(job, Ending.TIMED_OUT, WORK_FAIL, b"")

    def _heard_of_lane(self, function: Function) -> None:
        """A lane's time-out counts from its worker's last answer."""
        if function.lane and function.policy.timeout:
            deadline = self._holdings.now + function.policy.timeout
            for job in function.running.values():
                self._deadlines.set(job, deadline)

    # -- again or over -------------------------------------------------------------------------------------------

    def _unanswered(self, job: Job) -> None:
        """A lane's job was delivered and nothing came back."""
        job.attempts += 1
        function = job.function
        if not lanes.is_isolated(function.name) and job.attempts >= lanes.MAX_DELIVERIES:
            target = self._holdings.function(lanes.isolated(function.name))
            function.tallies[job.priority].isolated += 1
            logger.warning("job %d of %s took %d workers down: isolated", job.id, function.name, job.attempts)
            if job.background:
                self._batches.move(job, target.name)
            self._put_back(job, target)
            return
        if job.background:
            self._batches.note_attempts(job)
        self._put_back(job)

    def _ended_badly(self, job: Job, ending: Ending, kind: int, data: bytes) -> None:
        job.attempts += 1
        policy = job.function.policy
        delay = next_delivery(policy, ending, job.attempts, background=job.background)
        if delay is None:
            self._give_up(job, ending, kind, data)
        elif delay and not job.dropped:
            self._put_off(job, delay)
        else:
            if job.background:
                self._batches.note_attempts(job)
            self._put_back(job)

    def _give_up(self, job: Job, ending: Ending, kind: int, data: bytes) -> None:
        function = job.function
        function.tallies[job.priority].failed += 1
        if function.keeps:
            self._keep_result(job, kind, data)
        if job.background and function.policy.keep_dead:
            note = f"delivery {job.attempts}: {ending.value}".encode()
            if kind == WORK_EXCEPTION:
                note += b": " + data
            self.bury(job, note)
        else:
            self.leave(job)
        self._tell(job, kind, data)

    def _put_off(self, job: Job, delay: float) -> None:
        """From running to scheduled."""
        function = job.function
        function.tallies[job.priority].requeued += 1
        self._stop_running(job)
        job.due = self._holdings.clock() + int(delay * 1e6)
        if job.background:
            self._batches.move(job, function.name, SCHEDULED, job.due)
        self.schedule(job)
        self.after_running(function)

    def _put_back(self, job: Job, target: Function | None = None) -> None:
        """From running to queued: in its own function, or in `target`."""
        source = job.function
        if job.dropped:
            self._stop_running(job)
            self._holdings.forget(job)
        else:
            source.tallies[job.priority].requeued += 1
            self.enqueue(job, target or source)
            self._stop_running(job, source)
        if (function := target or source).sleepers:
            self._sleepers.wake_one(function)
        self.after_running(source)

    def enqueue(self, job: Job, function: Function) -> None:
        """Into the function's line, at the place its id gives it."""
        self._holdings.count_queued(function, job.priority, 1)
        job.function = function
        job.queued = True
        function.lines[job.priority].put_back(job)

    def schedule(self, job: Job) -> None:
        """Into the schedule, at `job.due`."""
        job.function.scheduled += 1
        self._schedule.add(job)

    def _stop_running(self, job: Job, function: Function | None = None) -> None:
        if job.alarm is not None:
            self._deadlines.clear(job)
        job.worker = None
        job.output = None
        job.progress = NO_PROGRESS
        (function or job.function).running.pop(job.id, None)

    def leave(self, job: Job) -> None:
        """The job is over: out of memory now, out of the store with the next commit."""
        function = job.function
        function.running.pop(job.id, None)
        job.worker = None
        if job.alarm is not None:
            self._deadlines.clear(job)
        holdings = self._holdings
        if job.background:
            self._batches.remove(job)
            holdings.uncount(job)
        holdings.forget(job)
        if not function.simple:
            self.after_running(function)

    def bury(self, job: Job, note: bytes) -> None:
        """A background job becomes a dead letter: nobody gets it until somebody says so."""
        function, holdings = job.function, self._holdings
        self._stop_running(job)
        self._batches.move(job, function.name, DEAD, holdings.clock(), note[:_MAX_NOTE])
        function.tallies[job.priority].dead += 1
        holdings.touched.add(function)
        holdings.uncount(job)
        holdings.dead += 1
        holdings.forget(job)
        self.after_running(function)

    def after_running(self, function: Function) -> None:
        """One job less runs. A lane without running jobs is free for anybody."""
        if function.closed & FULL and len(function.running) < function.policy.running:
            self._holdings.open(function, FULL)
            self._sleepers.wake_for(function, 1)
        if not function.lane or function.running:
            return
        if function.holder is not None:
            function.group.release(function.holder)
            function.holder = None
            if function.queued and function.sleepers:
                self._sleepers.wake_one(function)
        if not function.queued:
            function.group.active -= 1

    # -- taken back by people ------------------------------------------------------------------------------------

    def cancel(self, job: Job) -> None:
        """Take a job in memory away from whoever has it or waits for it; its clients get WORK_FAIL."""
        worker = job.worker
        if worker is not None:
            worker.running = {handle: other for handle, other in worker.running.items() if other is not job}
        else:
            self.unqueue(job)
        self._holdings.touched.add(job.function)
        self.leave(job)
        self._tell(job, WORK_FAIL, b"")

    def requeue(self, job: Job) -> bool:
        """A scheduled job, or a dead letter just read, is queued now. False: it is neither."""
        function, holdings = job.function, self._holdings
        if job.state == DEAD:
            job.attempts = 0
            self._batches.move(job, function.name)
            holdings.dead -= 1
            holdings.count += 1
            holdings.bytes += job.size
        elif self._schedule.remove(job):
            function.scheduled -= 1
        elif job.spilled and job.state == SCHEDULED:
            self._schedule.on_disk -= 1
            function.scheduled -= 1
            function.scheduled_on_disk -= 1
            job.spilled = False
        else:
            return False
        if job.background and job.state == SCHEDULED:
            self._batches.move(job, function.name)
        self.enqueue(job, function)
        return True

    def unqueue(self, job: Job) -> None:
        """Out of its line or of the schedule; only the caller knows what becomes of it."""
        function = job.function
        line = function.lines[job.priority]
        if job.queued:
            job.queued = False
            line.drop(job)
            self._holdings.count_queued(function, job.priority, -1)
        elif self._schedule.remove(job):
            job.dropped = True
            function.scheduled -= 1
        elif job.spilled:
            job.dropped = True
            if job.state == SCHEDULED:
                self._schedule.on_disk -= 1
                function.scheduled -= 1
                function.scheduled_on_disk -= 1
            else:
                line.forget_stored()
                self._holdings.count_queued(function, job.priority, -1)

    # -- clients and results -------------------------------------------------------------------------------------

    @staticmethod
    def _tell(job: Job, kind: int, data: bytes) -> None:
        clients, job.clients = job.clients, ()
        for client in clients:
            client.progress(kind, job, data)

    def _keep_result(self, job: Job, outcome: int, data: bytes) -> None:
        if not job.background:
            return
        output = (bytes(job.output or b"") + data)[: self._holdings.limits.max_result]
        finished = self._holdings.clock()
        expires = finished + int(job.function.policy.keep_result * 1e6)
        self.results_until = max(self.results_until, expires)
        self._batches.gathering.changes.results.append(
            Result(job.id, job.function.name, job.unique, outcome, *job.progress, output, finished, expires)
        )
