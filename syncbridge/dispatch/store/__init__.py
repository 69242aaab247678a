"""Stores: where queued background jobs survive the process. One seam, one conformance suite, several engines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from syncbridge.dispatch.job import JobRecord


class JobKey(NamedTuple):
    """Where a stored job lies. `size`: its payload bytes, for the totals."""

    function: bytes
    priority: int
    size: int


@dataclass(slots=True)
class Changes:
    """What one transaction does, in this order: adds, moves, attempts, removes. Every dict is keyed by job id.

    Adds have ascending ids. Keys name where the job lies when its step runs (a job moved and removed in one
    transaction is removed from its new function).
    """

    adds: list[JobRecord] = field(default_factory=list)
    #: id -> (old place, new function, attempts).
    moves: dict[int, tuple[JobKey, bytes, int]] = field(default_factory=dict)
    #: id -> (place, attempts).
    attempts: dict[int, tuple[JobKey, int]] = field(default_factory=dict)
    removes: dict[int, JobKey] = field(default_factory=dict)
    #: The first job id of the next process; 0 leaves it as it is.
    reserve: int = 0

    def __bool__(self) -> bool:
        return bool(self.adds or self.removes or self.attempts or self.moves or self.reserve)

    def __len__(self) -> int:
        return len(self.adds) + len(self.removes) + len(self.attempts) + len(self.moves)


class StoredBacklog(NamedTuple):
    """What a store holds of one function and priority."""

    function: bytes
    priority: int
    jobs: int
    #: Payload bytes.
    bytes: int
    last_id: int


class JobStore(Protocol):
    """Seam between the queue core and what survives a crash.

    commit() runs in the server's commit thread, everything else in the thread of the event loop, at the same time;
    reads see what is committed. Every method raises TransientError when the store cannot be used now.
    """

    @property
    def queue_id(self) -> str:
        """Random id given at creation: a checkpoint made against another queue is worthless here."""

    @property
    def next_id(self) -> int:
        """No job id from this one on was ever used."""

    def commit(self, changes: Changes) -> None:
        """All of it or nothing, durable on return."""

    def backlogs(self) -> list[StoredBacklog]:
        """One entry per function and priority that holds jobs."""

    def window(
        self, function: bytes, priority: int, *, after: int, through: int, limit: int, inline: int
    ) -> list[JobRecord]:
        """Up to `limit` jobs with after < id <= through, ascending; payloads above `inline` bytes are left out."""

    def payload(self, function: bytes, priority: int, number: int) -> bytes | None:
        """One job's payload; None when there is no such job."""

    def joinable(self, function: bytes, key: bytes) -> JobRecord | None:
        """The newest job of the function with this join key, without its payload.

        Of several only the newest can still be wanted: the others are done and about to be removed.
        """

    def find(self, number: int) -> JobRecord | None:
        """The job with this id, without its payload."""

    def close(self) -> None:
        """Idempotent."""
