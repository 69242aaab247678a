"""What can become of a job, besides a result. Built on the project's errors, so that `except TransientError` works."""

from __future__ import annotations

from syncbridge.errors import PermanentError, TransientError


class JobFailed(PermanentError):
    """The worker said WORK_FAIL. A handler raises it to say so. The outcome is the job's: repeating is the caller's."""


class JobRaised(JobFailed):
    """The worker said WORK_EXCEPTION; `data` is what it sent with it."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


class JobRefused(TransientError):
    """The server said QUEUE_ERROR: the queue is full, or its store is away. Nothing was kept; submit again later."""


class AcceptanceUnknown(TransientError):
    """The connection ended, or the time was over, between a submit and its answer: the job may be queued, or not."""


class ResultUnknown(TransientError):
    """The connection ended while a foreground job was under way: it may have run, its result went nowhere."""
