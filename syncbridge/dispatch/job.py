"""A job: what is durable of it (`JobRecord`) and what the server knows about it while it runs (`Job`).

Neither has behaviour beyond naming; the rules are in queue.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from syncbridge.dispatch.deadlines import Alarm
    from syncbridge.dispatch.function import Function
    from syncbridge.dispatch.worker import Worker

HIGH: Final = 0
NORMAL: Final = 1
LOW: Final = 2
PRIORITIES: Final = (HIGH, NORMAL, LOW)

#: `Job.state` of a job that its commit did not take.
REFUSED: Final = -1

NO_PROGRESS: Final = (b"0", b"0")


class JobRecord(NamedTuple):
    """One stored job. `id` is the server's own counter, never the client's unique: equal uniques stay two jobs."""

    id: int
    function: bytes
    priority: int
    #: As the client sent it (JOB_ASSIGN_UNIQ repeats it), empty when it sent none.
    unique: bytes
    #: What a later submit must equal to join this job; None: nothing joins it. See `join_key`.
    join_key: bytes | None
    #: Wall clock of the submit, microseconds.
    submitted: int
    #: Deliveries that ended without any answer (the worker's connection died).
    attempts: int
    #: None where a store was asked for the index only.
    payload: bytes | None
    #: Payload bytes; UNREADABLE (store/__init__.py): the row makes no sense.
    size: int
    #: The function that gets the result as a job of its own (SUBMIT_REDUCE_JOB), empty for none.
    reducer: bytes = b""
    #: READY, SCHEDULED or DEAD, see store/__init__.py.
    state: int = 0
    #: SCHEDULED: when it is due; DEAD: when it died. Wall clock, microseconds.
    due: int = 0
    #: DEAD: why.
    note: bytes = b""


#: JobRecord from a tuple of all its fields, at half the price.
new_record: Final[Callable[[tuple[object, ...]], JobRecord]] = partial(tuple.__new__, JobRecord)


class Client(Protocol):
    """A connection that submits jobs, as the core sees it."""

    def created(self, job: Job) -> None:
        """The job is accepted (a background job: durable). Foreground: the client is in `job.clients` if it waits for
        the job, and may abandon() it from now on; progress() may have come before, when it joined a running job."""

    def refused(self, reason: str) -> None:
        """The job could not be accepted; nothing of it is kept."""

    def deliver(self, reply: bytes) -> None:
        """A reply that had to wait for its turn behind submissions not answered yet."""

    def progress(self, kind: int, job: Job, data: bytes) -> None:
        """A WORK_* packet of a foreground job; `data` is everything after the handle."""


class Job:
    """A job in memory: queued, running, or stored and joined by a waiting client."""

    __slots__ = (
        "alarm",
        "attempts",
        "background",
        "clients",
        "dropped",
        "due",
        "function",
        "handle",
        "id",
        "join_key",
        "output",
        "payload",
        "priority",
        "progress",
        "queued",
        "reducer",
        "size",
        "spilled",
        "started",
        "state",
        "stored",
        "submitted",
        "unique",
        "worker",
    )
    #: Set before it is scheduled: when it is due, wall clock in microseconds.
    due: int
    #: Set when a worker takes it: when, by the clock of `now`.
    started: float

    def __init__(
        self,
        number: int,
        function: Function,
        priority: int,
        unique: bytes,
        payload: bytes,
        handle: bytes,
        key: bytes | None = None,
        submitted: int = 0,
    ) -> None:
        self.id = number
        #: Its name to clients, see handles.py.
        self.handle = handle
        self.function = function
        self.priority = priority
        self.unique = unique
        self.join_key = key
        #: None: only the store has it.
        self.payload: bytes | None = payload
        self.size = len(payload)
        self.submitted = submitted
        self.attempts = 0
        #: Promised to be durable, and independent of any client.
        self.background = False
        #: The store has it by the time it is queued. A foreground job that a background submit joined gets there later;
        #: a store that is only memory gets it when memory here lets go of it (Batches.write).
        self.stored = False
        #: Foreground clients that get the results.
        self.clients: tuple[Client, ...] = ()
        #: The worker that has it, None while queued.
        self.worker: Worker | None = None
        #: It lies in a line in memory.
        self.queued = False
        #: Nobody wants it any more; skipped when its turn comes.
        self.dropped = False
        #: Queued in the store only; this object exists because a client waits for the result.
        self.spilled = False
        #: Numerator and denominator of the last WORK_STATUS.
        self.progress = NO_PROGRESS
        self.reducer = b""
        #: Where its row lies: READY, or SCHEDULED, even when it is due by now (see schedule.py).
        self.state = 0
        #: Its time-out, while it runs (deadlines.py).
        self.alarm: Alarm | None = None
        #: WORK_DATA of a background job whose result is kept.
        self.output: bytearray | None = None

    def __lt__(self, other: Job) -> bool:
        """Older. Only heaps ask, where two entries of one job meet."""
        return self.id < other.id

    def record(self) -> JobRecord:
        """What the store keeps of a job just submitted."""
        return new_record(
            (
                self.id,
                self.function.name,
                self.priority,
                self.unique,
                self.join_key,
                self.submitted,
                self.attempts,
                self.payload,
                self.size,
                self.reducer,
                self.state,
                self.due if self.state else 0,
                b"",
            )
        )


def join_key(unique: bytes, payload: bytes) -> bytes | None:
    """The key under which submits of one function are the same job (Gearman coalescing), or None for never.

    An empty unique never joins. `-` means "the payload is the unique": a digest, told apart from a client's unique by
    the NUL that no unique can hold; an empty payload then never joins.
    """
    if unique != b"-":
        return unique or None
    return b"-\0" + hashlib.blake2b(payload, digest_size=16).digest() if payload else None
