"""The packet loop: from the socket that PyMySQL opened to complete binlog events, as bytes.

It knows MySQL packets (length, sequence, OK / ERR / EOF) and nothing of events. It holds at most one unfinished
packet besides what one read returned.
"""

from __future__ import annotations

import contextlib
import ssl
from struct import Struct
from typing import Any

from syncbridge.capture.connection import dump_refused
from syncbridge.errors import ProtocolError, SyncbridgeError, TransientError

#: Bytes asked of the socket at once.
READ_SIZE = 256 * 1024
_MAX_PACKET = 0xFFFFFF
#: A packet's length in three bytes, and its sequence number.
_PREFIX = Struct("<I")
_EOF, _ERR = 0xFE, 0xFF


class BinlogStream:
    """Reads the events of a dump started with `start_dump`. Own thread or loop: not shared."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._socket = connection._sock
        self._timeout: float | None = -1.0
        self._parts: list[bytes] = []  # received, not yet consumed
        self._have = 0  # their length
        self._need = 4  # bytes that must be there before it is worth looking
        self._long: list[bytes] = []  # payloads of full packets whose event continues in the next packet
        self._failed: SyncbridgeError | None = None

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def read(self, timeout: float | None) -> list[bytes]:
        """Complete events received, waiting at most `timeout` seconds (None: for ever) for the first byte.

        An empty list means: nothing complete yet. Raises TransientError (connection lost, server stopped),
        PositionLost (the server does not have the position), ConfigError. Events received before the failure are
        returned first.
        """
        if self._failed is not None:
            raise self._failed
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout
        try:
            chunk = self._socket.recv(READ_SIZE)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, InterruptedError):
            return []
        except OSError as error:
            raise TransientError(f"lost the binlog connection: {error}", hint="it is opened again") from error
        if not chunk:
            raise TransientError("source closed the binlog connection", hint="it is opened again")
        return self.feed(chunk)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events completed by `chunk`; pure, apart from what it remembers of an unfinished packet."""
        self._parts.append(chunk)
        self._have += len(chunk)
        if self._have < self._need:
            return []
        buffer = b"".join(self._parts) if len(self._parts) > 1 else chunk
        size = len(buffer)
        events: list[bytes] = []
        start = 0
        prefix = _PREFIX.unpack_from
        while size - start >= 4:
            (word,) = prefix(buffer, start)
            length = word & _MAX_PACKET
            body = start + 4
            end = body + length
            if end > size:
                break
            if self._long:
                self._continue(buffer[body:end], length, events)
            elif not length or buffer[body]:
                self._stop(buffer[body:end])
                break
            elif length == _MAX_PACKET:
                self._long.append(buffer[body + 1 : end])
            else:
                events.append(buffer[body + 1 : end])
            start = end
        self._keep(buffer, start, size)
        if self._failed is not None and not events:
            raise self._failed
        return events

    def _keep(self, buffer: bytes, start: int, size: int) -> None:
        rest = buffer[start:]
        self._parts = [rest] if rest else []
        self._have = size - start
        self._need = 4 if self._have < 4 else 4 + int.from_bytes(rest[:3], "little")

    def _continue(self, payload: bytes, length: int, events: list[bytes]) -> None:
        self._long.append(payload)
        if length < _MAX_PACKET:
            events.append(b"".join(self._long))
            self._long = []

    def _stop(self, payload: bytes) -> None:
        first = payload[0] if payload else -1
        if first == _ERR and len(payload) >= 3:
            text = payload[9:] if payload[3:4] == b"#" else payload[3:]
            self._failed = dump_refused(int.from_bytes(payload[1:3], "little"), text.decode("utf-8", "replace"))
        elif first == _EOF and len(payload) < 9:
            self._failed = TransientError("source ended the binlog dump", hint="it is started again")
        else:
            self._failed = ProtocolError(f"source sent a packet that is no binlog event: {payload[:16].hex()}")

    def close(self) -> None:
        """Close the socket at once. The protocol has no other way out of a dump."""
        with contextlib.suppress(Exception):
            self._connection._force_close()
