"""One connection to a Gearman server: packets in, bytes out, and a ping when it has been silent for too long.

What packets mean is the subclass's business; reconnecting is its owner's.
"""

from __future__ import annotations

import asyncio
from typing import cast

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.packets import Packet, PacketReader
from syncbridge.errors import ProtocolError

#: How long close() waits for the last bytes to go, seconds.
_CLOSE_TIMEOUT = 10.0


class Link(asyncio.Protocol):
    """Everything written in one turn of the loop goes out in one piece.

    `error` is set once the connection cannot be used any more. `heartbeat`: a server that says nothing for this many
    seconds is pinged, and given up after as many again; 0: never.
    """

    transport: asyncio.Transport

    def __init__(self, max_packet: int = p.MAX_PACKET, *, heartbeat: float = 0.0) -> None:
        self.error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        #: Done once the connection is gone.
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._reader = PacketReader(magic=p.RES, max_packet=max_packet + p.ANSWER_EXTRA)
        self._output: list[bytes] = []
        #: Set while the socket takes what we write.
        self._writable = asyncio.Event()
        self._writable.set()
        self._heartbeat = heartbeat
        self._heard = self._pinged = False
        self._timer: asyncio.TimerHandle | None = None

    # -- what a subclass says ------------------------------------------------------------------------------------

    def received(self, packets: list[Packet]) -> None:
        """Packets arrived, at least one. Raises ProtocolError where they make no sense: the link is then aborted."""
        raise NotImplementedError

    def broken(self, error: Exception) -> None:
        """The connection cannot be used any more; called once."""

    def ping(self) -> None:
        """Send something that the server answers."""
        raise NotImplementedError

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not data:
            return
        if not self._output:
            self._loop.call_soon(self._flush)
        self._output.append(data)

    async def writable(self) -> None:
        """Wait while the server does not read."""
        await self._writable.wait()

    async def close(self) -> None:
        """Send what is written and close."""
        self._flush()
        self.transport.close()
        await asyncio.wait([self.closed], timeout=_CLOSE_TIMEOUT)

    def abort(self, error: Exception) -> None:
        self._break(error)
        self.transport.abort()

    def _flush(self) -> None:
        if self._output and not self.transport.is_closing():
            self.transport.write(b"".join(self._output))
        self._output.clear()

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has its own class
        self._heard = True
        self._listen()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._pinged = False
        packets = self._reader.receive(data)
        try:
            if packets and self.error is None:
                self.received(packets)
            if self._reader.error is not None:
                raise self._reader.error
        except ProtocolError as error:
            self.abort(error)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._break(error or ConnectionResetError("closed by the server"))
        if not self.closed.done():
            self.closed.set_result(None)

    def _break(self, error: Exception) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.error is None:
            self.error = error
            self._writable.set()
            self.broken(error)

    def _listen(self) -> None:
        """Is the server still there? Asked once per heartbeat."""
        if not self._heartbeat or self.error is not None:
            return
        if self._pinged:
            self.abort(TimeoutError(f"silent for {2 * self._heartbeat:g} s"))
            return
        if not self._heard:
            self._pinged = True
            self.ping()
        self._heard = False
        self._timer = self._loop.call_later(self._heartbeat, self._listen)
