"""A run: background jobs of one function that arrived together, from their arrival until their commit is through.

Until then they are rows, and jobs only where somebody joins them; then they go to the window of their line or are
left to the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

from syncbridge.dispatch.job import Client, Job, JobRecord

if TYPE_CHECKING:
    from syncbridge.dispatch.function import Function


class Submitter(Client, Protocol):
    """A client whose submits are taken as runs."""

    def created_run(self, first: int, count: int) -> None:
        """created() of so many background jobs, whose ids follow each other."""


@final
class Run:
    """`records`: neighbouring ids, one function, one priority, READY. `named`: the join key of each is its unique."""

    __slots__ = ("client", "function", "made", "named", "records", "size")

    def __init__(self, client: Submitter, function: Function, records: list[JobRecord], size: int, named: bool) -> None:
        self.client = client
        self.function = function
        self.records = records
        #: Payload bytes.
        self.size = size
        self.named = named
        #: Those that are jobs already, by id.
        self.made: dict[int, Job] = {}

    def __contains__(self, number: int) -> bool:
        return 0 <= number - self.records[0].id < len(self.records)

    def jobs(self, records: list[JobRecord], handle_format: bytes) -> list[Job]:
        """These of its records as jobs that the store has."""
        function, made, jobs = self.function, self.made, []
        for number, _, priority, unique, key, submitted, _, payload, _, _, _, _, _ in records:
            job = made.get(number) if made else None
            if job is None:
                job = Job(number, function, priority, unique, payload or b"", handle_format % number, key, submitted)
                job.background = job.stored = True
            jobs.append(job)
        return jobs
