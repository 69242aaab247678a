"""A job in a worker's hands, as its handler sees it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from syncbridge.dispatch import packets as p

if TYPE_CHECKING:
    from syncbridge.dispatch.peers.worker import WorkerLink


class WorkerJob:
    """All methods may be called from the handler's thread too."""

    __slots__ = ("_loop", "_thread", "function", "handle", "link", "payload", "reducer", "unique")

    def __init__(
        self, link: WorkerLink, handle: bytes, function: str, unique: bytes, reducer: bytes, payload: bytes
    ) -> None:
        self.handle = handle
        #: As it was registered.
        self.function = function
        #: As the client sent it; empty when it sent none.
        self.unique = unique
        #: The function that wants the result (a reduce job), empty for none.
        self.reducer = reducer
        self.payload = payload
        #: Where it came from, and where its reports go.
        self.link = link
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @property
    def lost(self) -> bool:
        """The server is gone, and gives the job to somebody else: whatever is still done here may be done twice."""
        return self.link.error is not None

    def send_data(self, data: bytes) -> None:
        """A part of the result, to the clients that wait (WORK_DATA)."""
        self.report(p.request(p.WORK_DATA, self.handle, data))

    def warning(self, data: bytes) -> None:
        """WORK_WARNING."""
        self.report(p.request(p.WORK_WARNING, self.handle, data))

    def progress(self, numerator: float, denominator: float) -> None:
        """How far the job is (WORK_STATUS); the server answers status requests with it."""
        self.report(p.request(p.WORK_STATUS, self.handle, b"%a" % numerator, b"%a" % denominator))

    async def drain(self) -> None:
        """Wait while the server does not read: call it between large send_data(). Not for threads."""
        await self.link.writable()

    def report(self, packet: bytes) -> None:
        """Send a packet about this job; into the void when the server is gone."""
        if threading.get_ident() == self._thread:
            self.link.report(packet)
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended: so has the connection
                self._loop.call_soon_threadsafe(self.link.report, packet)

    def __repr__(self) -> str:
        return f"job {self.handle.decode(errors='replace')} of {self.function}"
