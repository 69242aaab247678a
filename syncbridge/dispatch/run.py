"""A run: background jobs of one function that arrived together, from their arrival until their commit is through.

Until then they are what they came as, and jobs only where somebody joins them; then they go to the window of their line
or are left to the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

from syncbridge.dispatch.job import Client, Job, JobRecord, new_record

if TYPE_CHECKING:
    from syncbridge.dispatch.function import Function


class Submitter(Client, Protocol):
    """A client whose submits are taken as runs."""

    def created_run(self, first: int, count: int) -> None:
        """created() of so many background jobs, whose ids follow each other."""


@final
class Run:
    """Neighbouring ids from `first` on, one priority, READY. `named`: the join key of each is its unique.

    The store reads it in its own thread; only `made` changes meanwhile.
    """

    __slots__ = (
        "_indexes",
        "client",
        "count",
        "first",
        "function",
        "made",
        "name",
        "named",
        "payloads",
        "priority",
        "size",
        "submitted",
        "uniques",
    )

    def __init__(
        self,
        client: Submitter,
        function: Function,
        priority: int,
        first: int,
        uniques: list[bytes],
        payloads: list[bytes],
        submitted: int,
        *,
        size: int,
        named: bool,
    ) -> None:
        self.client = client
        self.function = function
        self.name = function.name
        self.priority = priority
        self.first = first
        self.count = len(payloads)
        self.uniques = uniques
        self.payloads = payloads
        #: As in JobRecord, for all of them.
        self.submitted = submitted
        #: Payload bytes.
        self.size = size
        self.named = named
        #: Those that are jobs already, by id.
        self.made: dict[int, Job] = {}
        self._indexes: dict[bytes, int] = {}

    @property
    def end(self) -> int:
        """The id behind the last one."""
        return self.first + self.count

    def index(self, key: bytes) -> int:
        """Which of them has this join key."""
        if not self._indexes:
            self._indexes.update(zip(self.uniques, range(self.count), strict=True))
        return self._indexes[key]

    def records(self, start: int = 0) -> list[JobRecord]:
        """The rows from this one on."""
        name, priority, named, submitted = self.name, self.priority, self.named, self.submitted
        numbers, uniques, payloads = range(self.first + start, self.end), self.uniques[start:], self.payloads[start:]
        return [
            new_record(
                (n, name, priority, unique, unique if named else None, submitted, 0, load, len(load), b"", 0, 0, b"")
            )
            for n, unique, load in zip(numbers, uniques, payloads, strict=True)
        ]

    def job(self, index: int, handle_format: bytes) -> Job:
        """One of them, as a job that the store has."""
        number, unique = self.first + index, self.uniques[index]
        job = self.made.get(number) if self.made else None
        if job is None:
            key, payload = unique if self.named else None, self.payloads[index]
            handle = handle_format % number
            job = Job(number, self.function, self.priority, unique, payload, handle, key, self.submitted)
            job.background = job.stored = True
        return job
