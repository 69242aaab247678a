"""A job as its client sees it: where it is, what it reports, and its result."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from enum import StrEnum
from typing import NamedTuple

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.peers.errors import JobFailed, JobRaised
from syncbridge.dispatch.peers.server import Server


class JobHandle(NamedTuple):
    """What a server calls a job, and which server that is."""

    handle: bytes
    server: Server

    def __str__(self) -> str:
        return self.handle.decode(errors="replace")


class JobStatus(NamedTuple):
    """`clients`: how many wait for its result, where the server was asked by unique."""

    known: bool
    running: bool
    numerator: float
    denominator: float
    clients: int = 0


class Kind(StrEnum):
    DATA = "data"
    WARNING = "warning"
    STATUS = "status"


class Update(NamedTuple):
    """Something a running job reports: `data` of DATA and WARNING, `numerator` and `denominator` of STATUS."""

    kind: Kind
    data: bytes = b""
    numerator: float = 0
    denominator: float = 0


_KINDS = {p.WORK_DATA: Kind.DATA, p.WORK_WARNING: Kind.WARNING}


class Task:
    """A foreground job. Await it for its result, iterate over it for its updates, or both (updates first).

    The result is the data of WORK_COMPLETE. Raises JobFailed, JobRaised, or ResultUnknown when the connection is lost.
    Updates go to `on_update` if there is one, else they are kept for who iterates.
    """

    def __init__(self, on_update: Callable[[Update], object] | None = None) -> None:
        #: Set once the server accepted the job.
        self.handle: JobHandle
        #: The last STATUS.
        self.progress = (0.0, 0.0)
        self._on_update = on_update
        self._updates: deque[Update] = deque()
        self._more = asyncio.Event()
        self._outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._outcome.add_done_callback(_retrieved)

    @property
    def done(self) -> bool:
        return self._outcome.done()

    async def result(self) -> bytes:
        """Wait for the result. Whoever gives up waiting leaves the job as it is: others may wait on."""
        return await asyncio.shield(self._outcome)

    def __await__(self) -> Generator[None, None, bytes]:
        return self.result().__await__()

    async def __aiter__(self) -> AsyncIterator[Update]:
        """The updates in order, until the job is over, however it ends."""
        while True:
            while self._updates:
                yield self._updates.popleft()
            if self.done:
                return
            self._more.clear()
            await self._more.wait()

    # -- from the conversation -----------------------------------------------------------------------------------

    def report(self, kind: int, rest: bytes) -> None:
        """A WORK_* packet; `rest` is everything after the handle."""
        if kind == p.WORK_COMPLETE:
            self._finish(result=rest)
        elif kind == p.WORK_FAIL:
            self._finish(JobFailed(f"job {self.handle} failed"))
        elif kind == p.WORK_EXCEPTION:
            said = rest[:200].decode(errors="replace")
            self._finish(JobRaised(f"job {self.handle} raised: {said}", rest))
        elif not self.done:
            self._update(kind, rest)

    def lost(self, error: Exception) -> None:
        self._finish(error)

    def _update(self, kind: int, rest: bytes) -> None:
        if kind == p.WORK_STATUS:
            numerator, _, denominator = rest.partition(b"\0")
            self.progress = (number(numerator), number(denominator))
            update = Update(Kind.STATUS, b"", *self.progress)
        else:
            update = Update(_KINDS[kind], rest)
        if self._on_update is not None:
            self._on_update(update)
        else:
            self._updates.append(update)
            self._more.set()

    def _finish(self, error: Exception | None = None, *, result: bytes = b"") -> None:
        if not self.done:
            if error is None:
                self._outcome.set_result(result)
            else:
                self._outcome.set_exception(error)
        self._more.set()


def number(text: bytes) -> float:
    """A numerator or denominator. Workers may send anything there: what is no number is 0."""
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return 0


def _retrieved(outcome: asyncio.Future[bytes]) -> None:
    """Nobody has to fetch a result: mark its error as seen."""
    if not outcome.cancelled():
        outcome.exception()
