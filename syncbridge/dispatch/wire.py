"""A connection to the first job server that answers, for code that must not block: packets in, bytes out. One thread.

Only open() waits. Whatever breaks becomes a TransientError and closes the connection; who knows what was under way on
it sends that again after the next open().
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Sequence

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.packets import Packet, PacketReader
from syncbridge.dispatch.target import Target, unreachable
from syncbridge.errors import ProtocolError, TransientError

#: Longest wait for the server where a call may block, seconds.
TIMEOUT = 10.0
#: Bytes handed to the socket, or asked of it, at a time.
CHUNK = 1 << 18
#: The socket takes or gives nothing now.
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire:
    """Targets are tried in order at every open(). `max_packet`: bytes of the largest packet we send."""

    def __init__(self, targets: Sequence[Target | tuple[str, int]], max_packet: int) -> None:
        self._targets = [Target(*target) for target in targets]
        self._max_packet = max_packet
        #: The one in use.
        self.target = self._targets[0]
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._output = b""

    def open(self) -> str:
        """Connect; the queue's id, empty where the server has none (a foreign one). Raises TransientError."""
        self.close()
        failure: Exception | None = None
        for target in self._targets:
            try:
                connection = target.connect(TIMEOUT)
            except OSError as error:
                failure = error
                continue
            try:
                identity = ask(connection, b"queue id\n")
            except (OSError, ProtocolError) as error:
                connection.close()
                failure = error
                continue
            connection.setblocking(False)
            self.target, self._socket = target, connection
            self._reader = PacketReader(magic=p.RES, max_packet=self._max_packet + p.ANSWER_EXTRA)
            self._poll.register(connection, select.POLLIN)
            return identity.removeprefix(b"OK ").decode() if identity.startswith(b"OK ") else ""
        raise unreachable(self._targets, failure)

    def close(self) -> None:
        """What was not sent is forgotten."""
        if self._socket is not None:
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._poll.unregister(self._socket)
            self._socket.close()
            self._socket = None
        self._output = b""

    def fileno(self) -> int:
        """-1 while there is no connection."""
        return self._socket.fileno() if self._socket else -1

    def lost(self, reason: object) -> TransientError:
        """Close, and what to raise."""
        self.close()
        return TransientError(f"connection to the job server {self.target} is lost: {reason}")

    def send(self, fill: Callable[[], bytes]) -> bool:
        """Hand the socket what it takes; `fill()` gives the next bytes, b"" for no more. False: some are left."""
        connection = self._connected()
        while True:
            if not self._output:
                self._output = fill()
                if not self._output:
                    return True
            try:
                sent = connection.send(self._output)
            except _NOT_NOW:
                return False
            except OSError as error:
                raise self.lost(error) from error
            self._output = self._output[sent:]

    def receive(self) -> list[Packet]:
        """The packets that are there; none where nothing has come. Raises TransientError at the end of the stream."""
        connection = self._connected()
        received: list[Packet] = []
        while True:
            try:
                data = connection.recv(CHUNK)
            except _NOT_NOW:
                return received
            except OSError as error:
                raise self.lost(error) from error
            if not data and not received:
                raise self.lost("closed by the server")
            if not data:
                return received  # the next call meets the end again
            received += self._reader.receive(data)
            if self._reader.error is not None:
                raise self.lost(self._reader.error)

    def wait(self, seconds: float) -> None:
        """Until there is something to receive, or room for what send() left over."""
        events = select.POLLIN | (select.POLLOUT if self._output else 0)
        self._poll.modify(self._connected(), events)
        self._poll.poll(max(0.0, seconds) * 1000)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise TransientError("not connected to the job server")
        return self._socket


def ask(connection: socket.socket, command: bytes) -> bytes:
    """One text command, its one-line answer without the end of line. Raises OSError, ProtocolError."""
    connection.sendall(command)
    answer = b""
    while not answer.endswith(b"\n"):
        data = connection.recv(4096)
        if not data or len(answer) > p.MAX_LINE:
            raise ProtocolError("the server closed the connection without an answer")
        answer += data
    return answer.strip()
