"""The packet loop: from the socket that PyMySQL opened to complete binlog events, as bytes.

It knows MySQL packets (length, sequence, OK / ERR / EOF) and nothing of events. It holds what one read returned, and
at most one unfinished packet or event.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

from syncbridge.capture.connection import dump_refused
from syncbridge.errors import ProtocolError, SyncbridgeError, TransientError

#: Bytes asked of the socket at once.
READ_SIZE = 256 * 1024
#: The length of a packet whose payload continues in the next.
MAX_PACKET = 0xFFFFFF
_EOF, _ERR = 0xFE, 0xFF
#: What every packet starts with: its length and a sequence number.
PREFIX_SIZE = 4


class BinlogStream:
    """Reads the events of a dump started with `start_dump`. Own thread or loop: not shared.

    `take()` cuts events one by one. BinlogReader takes most of them itself, in place: those of `buffer` from `at` on,
    unless `continues`.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._socket = connection._sock
        self._timeout: float | None = -1.0
        #: Received, and where the first packet starts that nobody has taken.
        self.buffer = b""
        self.at = 0
        self._parts: list[bytes] = []  # of a packet that is not complete; the buffer is empty then
        self._have = 0  # their length
        self._need = 0  # bytes that must be there before it is worth looking
        self._long: list[bytes] = []  # payloads of full packets whose event continues in the next packet
        self._failed: SyncbridgeError | None = None

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def receive(self, timeout: float | None) -> bool:
        """Wait at most `timeout` seconds (None: for ever) for bytes; whether some came.

        What came before is to be taken first. Raises TransientError where the connection is lost, and again what
        take() raised.
        """
        if self._failed is not None:
            raise self._failed
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout
        try:
            chunk = self._socket.recv(READ_SIZE)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, InterruptedError):
            return False
        except OSError as error:
            raise TransientError(f"lost the binlog connection: {error}", hint="it is opened again") from error
        if not chunk:
            raise TransientError("source closed the binlog connection", hint="it is opened again")
        self.add(chunk)
        return True

    def add(self, chunk: bytes) -> None:
        """Bytes as they came from the socket."""
        if not self._parts and self.at == len(self.buffer):
            self.buffer, self.at = chunk, 0
            return
        if not self._parts:
            self._put_aside(0)
        self._parts.append(chunk)
        self._have += len(chunk)
        if self._have >= self._need:
            self.buffer, self.at = b"".join(self._parts), 0
            self._parts = []

    def _put_aside(self, need: int) -> None:
        """What is left waits for more, until `need` bytes are there: a large packet is joined once."""
        rest = self.buffer[self.at :]
        self._parts = [rest] if rest else []
        self._have, self._need = len(rest), need
        self.buffer, self.at = b"", 0

    @property
    def continues(self) -> bool:
        """Whether the next packet continues an event, or what is there is more than ordinary packets hold."""
        return bool(self._long) or len(self.buffer) - self.at > MAX_PACKET

    def take(self) -> bytes | None:
        """The next event; None: it is not complete yet.

        Raises TransientError (server stopped), PositionLost (the server does not have the position), ConfigError.
        """
        while not self._parts:
            start, size = self.at, len(self.buffer)
            length = int.from_bytes(self.buffer[start : start + 3], "little")
            body = start + PREFIX_SIZE
            end = body + length
            if body > size or end > size:
                self._put_aside(PREFIX_SIZE if body > size else PREFIX_SIZE + length)
                break
            self.at = end
            if self._long:
                self._long.append(self.buffer[body:end])
            elif not length or self.buffer[body]:
                self._failed = self._failure(self.buffer[body:end])
                raise self._failed
            elif length < MAX_PACKET:
                return self.buffer[body + 1 : end]
            else:
                self._long.append(self.buffer[body + 1 : end])
            if length < MAX_PACKET:
                event = b"".join(self._long)
                self._long = []
                return event
        return None

    def _failure(self, payload: bytes) -> SyncbridgeError:
        first = payload[0] if payload else -1
        if first == _ERR and len(payload) >= 3:
            text = payload[9:] if payload[3:4] == b"#" else payload[3:]
            return dump_refused(int.from_bytes(payload[1:3], "little"), text.decode("utf-8", "replace"))
        if first == _EOF and len(payload) < 9:
            return TransientError("source ended the binlog dump", hint="it is started again")
        return ProtocolError(f"source sent a packet that is no binlog event: {payload[:16].hex()}")

    def close(self) -> None:
        """Close the socket at once. The protocol has no other way out of a dump."""
        with contextlib.suppress(Exception):
            self._connection._force_close()
