"""Stores: where queued background jobs survive the process. One seam, one conformance suite, several engines.

A stored job lies in a place: its function, its priority, and a state. READY jobs wait for a worker, in the order of
their ids. SCHEDULED jobs wait for their time first (an epoch job, a retry with backoff). DEAD jobs are the dead-letter
list: nobody gets them until somebody says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final, NamedTuple, Protocol

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.run import Run

READY: Final = 0
SCHEDULED: Final = 1
DEAD: Final = 2

#: `JobRecord.size` of a row that makes no sense (a column of the wrong type, a payload that is not there).
UNREADABLE: Final = -1


class Promise(StrEnum):
    """What a store promises of a commit that returned."""

    #: Survives a power cut.
    FULL = "full"
    #: Survives the end of the process; a power cut, and with some engines a crash of their own server, may take the
    #: last second's commits.
    BATCH = "batch"
    #: Survives nothing.
    MEMORY = "memory"


class JobKey(NamedTuple):
    """The place where a stored job lies. `size`: its payload bytes, for the totals."""

    function: bytes
    priority: int
    size: int
    state: int = READY


#: JobKey from a tuple of its fields, at half the price.
new_key: Final[Callable[[tuple[bytes, int, int, int]], JobKey]] = partial(tuple.__new__, JobKey)


class Move(NamedTuple):
    """A job takes another place: isolated, scheduled, due, dead, or back from the dead."""

    old: JobKey
    function: bytes
    attempts: int
    state: int = READY
    #: SCHEDULED: when it is due; DEAD: when it died. Wall clock, microseconds.
    due: int = 0
    #: DEAD: why, a sentence of at most 1,000 bytes.
    note: bytes = b""


class Result(NamedTuple):
    """How a background job ended; kept until `expires`."""

    #: The job's.
    id: int
    function: bytes
    unique: bytes
    #: WORK_COMPLETE, WORK_FAIL or WORK_EXCEPTION.
    outcome: int
    numerator: bytes
    denominator: bytes
    data: bytes
    #: Wall clock, microseconds.
    finished: int
    expires: int


@dataclass(slots=True)
class Changes:
    """What one transaction does, in this order: adds, moves, attempts, removes, the rest. Dicts are keyed by job id.

    Adds have ascending ids. Keys name where the job lies when its step runs (a job moved and removed in one
    transaction is removed from its new place).
    """

    adds: list[JobRecord] = field(default_factory=list)
    moves: dict[int, Move] = field(default_factory=dict)
    #: id -> (place, attempts).
    attempts: dict[int, tuple[JobKey, int]] = field(default_factory=dict)
    removes: dict[int, JobKey] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    #: Results whose time is over by then go, wall clock in microseconds; 0: none.
    expire_results: int = 0
    #: What the server remembers beside jobs (paused functions, …); None deletes.
    settings: dict[bytes, bytes | None] = field(default_factory=dict)
    #: The first job id of the next process; 0 leaves it as it is.
    reserve: int = 0
    #: More adds, many at a time; their ids may lie between those of `adds`.
    runs: list[Run] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.adds
            or self.runs
            or self.removes
            or self.attempts
            or self.moves
            or self.reserve
            or self.results
            or self.settings
            or self.expire_results
        )

    @property
    def only_removes(self) -> bool:
        """Beside jobs that are over, and how they ended, there is nothing."""
        others = self.attempts or self.moves or self.reserve or self.settings or self.expire_results
        return not (self.adds or self.runs or others)

    def __len__(self) -> int:
        added = len(self.adds) + sum(run.count for run in self.runs)
        return added + len(self.removes) + len(self.attempts) + len(self.moves)

    def unroll(self) -> None:
        """Make the runs adds like all others, for a store that takes them one by one."""
        if self.runs:
            runs, self.runs = self.runs, []
            self.adds += [record for run in runs for record in run.records()]
            self.adds.sort(key=lambda record: record.id)


class StoredBacklog(NamedTuple):
    """What a store holds of one function, priority and state."""

    function: bytes
    priority: int
    jobs: int
    #: Payload bytes.
    bytes: int
    last_id: int
    state: int = READY


class JobStore(Protocol):
    """Seam between the queue core and what survives a crash.

    commit() runs in the server's commit thread, the reads in its reader thread, at the same time, one call each; reads
    see what is committed. Every method raises TransientError when the store cannot be used now, within a few seconds
    and without harm: a commit that raised changed nothing, or (the connection was lost in the middle) is tried again
    by the store itself before anything newer, so that adding or removing twice must be harmless. The next call
    reconnects. A row that makes no sense is returned with size UNREADABLE, never raised: the core sets it aside.
    Opening raises ConfigError (not usable, a newer format) or TransientError (not there, another server has it).
    """

    @property
    def queue_id(self) -> str:
        """Random id given at creation: a checkpoint made against another queue is worthless here."""

    @property
    def promise(self) -> Promise:
        """What a commit that returned survives."""

    @property
    def sync_seconds(self) -> float:
        """How long the last commit took to become durable (its fsync), out of all its time; 0.0: not known, or nobody
        waits for it."""

    @property
    def next_id(self) -> int:
        """No job id from this one on was ever used."""

    def commit(self, changes: Changes) -> None:
        """All of it or nothing, as durable on return as `promise` says."""

    def backlogs(self) -> list[StoredBacklog]:
        """One entry per place that holds jobs. Counts nothing row by row where the engine allows."""

    def window(
        self, function: bytes, priority: int, *, after: int, through: int, limit: int, inline: int, state: int = READY
    ) -> list[JobRecord]:
        """Up to `limit` jobs of the place with after < id <= through, ascending; payloads above `inline` bytes are left
        out (None)."""

    def by_due(self, state: int, *, after: tuple[int, int], limit: int) -> list[JobRecord]:
        """Up to `limit` SCHEDULED or DEAD jobs of all functions with (due, id) > after, ascending, without payload."""

    def payload(self, function: bytes, priority: int, number: int, state: int = READY) -> bytes | None:
        """One job's payload; None when there is no such job, or its row makes no sense."""

    def joinable(self, function: bytes, keys: Sequence[bytes]) -> dict[bytes, JobRecord]:
        """The newest READY or SCHEDULED job of the function with each of these join keys, where there is one, without
        its payload.

        Of several only the newest can still be wanted: the others are done and about to be removed.
        """

    def find(self, number: int) -> JobRecord | None:
        """The job with this id, in any place, without its payload."""

    def result(self, number: int) -> Result | None:
        """How this job ended, if that is still kept."""

    def settings(self) -> dict[bytes, bytes]:
        """What Changes.settings left."""

    def close(self) -> None:
        """Idempotent."""
