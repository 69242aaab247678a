"""A batch: what one group commit makes durable, and who waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from syncbridge.dispatch.job import Client, Job
from syncbridge.dispatch.store import Changes


class Answer(NamedTuple):
    """What a client is told after the commit."""

    client: Client
    #: The job it submitted or joined, or a finished reply that keeps its place behind earlier answers.
    about: Job | bytes
    #: It was promised durability, not just a result.
    durable: bool


@dataclass(slots=True)
class Batch:
    """Everything of one round, in order of arrival."""

    changes: Changes = field(default_factory=Changes)
    #: New jobs; they are queued once the commit is done, so that nobody runs a job that a crash would unmake.
    jobs: list[Job] = field(default_factory=list)
    #: Foreground jobs that a background submit joined: durable from this commit on.
    upgraded: list[Job] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    #: Submitted payload bytes.
    size: int = 0
    #: How long its commit took.
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.answers or self.jobs or self.changes)
