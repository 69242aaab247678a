"""What the server holds: functions by name, jobs in memory by id, and the totals. Counts and indexes, no rules."""

from __future__ import annotations

from itertools import islice

from syncbridge.dispatch import lanes
from syncbridge.dispatch.function import Function
from syncbridge.dispatch.job import PRIORITIES, Job, JobRecord
from syncbridge.dispatch.lanes import LaneGroup
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.policy import Policies

#: What a job costs beside its payload, bytes, where jobs without payload must count too.
OVERHEAD = 512
#: Functions looked at, when there are too many, for some that nobody needs any more.
_SWEEP = 100


class Holdings:
    """Shared by all parts of the core."""

    __slots__ = (
        "_groups",
        "available",
        "bytes",
        "count",
        "dead",
        "epoch",
        "foreground_bytes",
        "functions",
        "handle_format",
        "jobs",
        "limits",
        "now",
        "payload_bytes",
        "policies",
        "touched",
    )

    def __init__(self, limits: Limits, policies: Policies, epoch: float, handle_format: bytes) -> None:
        self.limits = limits
        #: See handles.py.
        self.handle_format = handle_format
        self.policies = policies
        #: The time now, seconds, and what makes it wall clock.
        self.now = 0.0
        self.epoch = epoch
        self.functions: dict[bytes, Function] = {}
        self._groups: dict[bytes, LaneGroup] = {}
        #: Jobs in memory.
        self.jobs: dict[int, Job] = {}
        #: Queued jobs by priority over all functions that are not closed: lets grab() stop at the best there is.
        self.available = [0] * len(PRIORITIES)
        #: Background jobs and their payload bytes, those being committed included, dead letters not.
        self.count = 0
        self.bytes = 0
        #: Dead letters.
        self.dead = 0
        #: Foreground payloads and overhead; payloads of background jobs in memory.
        self.foreground_bytes = 0
        self.payload_bytes = 0
        #: Functions whose tally changed; the driver reports and clears it.
        self.touched: set[Function] = set()

    def clock(self) -> int:
        """Wall clock, microseconds."""
        return int((self.now + self.epoch) * 1e6)

    # -- functions -----------------------------------------------------------------------------------------------

    def function(self, name: bytes) -> Function:
        """The function of this name, made on first use. Beyond max_functions it is not kept, so submits are refused."""
        function = self.functions.get(name)
        if function is not None:
            return function
        if len(self.functions) >= self.limits.max_functions:
            self._forget_idle_functions()
        policy = self.policies.of(name)
        if len(self.functions) >= self.limits.max_functions:
            return Function(name, LaneGroup(), policy)
        group = self._groups.setdefault(lanes.group_name(name), LaneGroup())
        group.lanes += 1
        function = self.functions[name] = Function(name, group, policy)
        return function

    def forget_function(self, function: Function) -> None:
        """Only one without jobs and workers."""
        del self.functions[function.name]
        function.group.lanes -= 1
        if not function.group.lanes:
            del self._groups[lanes.group_name(function.name)]

    def _forget_idle_functions(self) -> None:
        for name in list(islice(self.functions, _SWEEP)):
            function = self.functions[name]
            if function.idle_and_empty:
                self.forget_function(function)
            else:
                del self.functions[name]
                self.functions[name] = function  # behind the others: the next sweep looks at those

    def count_queued(self, function: Function, priority: int, change: int) -> None:
        if change > 0 and function.lane and not function.queued and not function.running:
            function.group.active += 1
        function.queued += change
        if not function.closed:
            self.available[priority] += change

    def close(self, function: Function, reason: int) -> None:
        """Hand out nothing of it."""
        if not function.closed:
            for priority, line in enumerate(function.lines):
                self.available[priority] -= line.count
        function.closed |= reason

    def open(self, function: Function, reason: int) -> None:
        """This reason is gone."""
        if not function.closed & reason:
            return
        function.closed &= ~reason
        if not function.closed:
            for priority, line in enumerate(function.lines):
                self.available[priority] += line.count

    # -- jobs ----------------------------------------------------------------------------------------------------

    def from_record(self, function: Function, record: JobRecord) -> Job:
        """A stored job, not yet among the jobs in memory and without its payload."""
        handle = self.handle_format % record.id
        job = Job(record.id, function, record.priority, record.unique, b"", handle, record.join_key, record.submitted)
        job.payload, job.size, job.attempts = None, record.size, record.attempts
        job.reducer, job.state, job.due = record.reducer, record.state, record.due
        job.background = job.stored = True
        return job

    def remember(self, job: Job) -> None:
        self.jobs[job.id] = job
        if job.join_key is not None:
            job.function.joinable[job.join_key] = job

    def forget(self, job: Job) -> None:
        self.jobs.pop(job.id, None)
        key = job.join_key
        if key is not None and (joinable := job.function.joinable).get(key) is job:
            del joinable[key]
        if not job.background:
            self.foreground_bytes -= job.size + OVERHEAD
        elif job.payload is not None:
            job.payload = None
            self.payload_bytes -= job.size

    def forget_joinable(self, job: Job) -> None:
        if job.join_key is not None and job.function.joinable.get(job.join_key) is job:
            del job.function.joinable[job.join_key]

    def release_payload(self, job: Job) -> None:
        if job.payload is not None:
            job.payload = None
            self.payload_bytes -= job.size

    def uncount(self, job: Job) -> None:
        self.count -= 1
        self.bytes -= job.size
