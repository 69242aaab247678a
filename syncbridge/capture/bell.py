"""A bell that one thread rings for another one that waits in select()."""

from __future__ import annotations

import socket
from contextlib import suppress


class Bell:
    """Readable from ring() until quiet(). Ring after what is to be found, be quiet before looking: none is missed."""

    def __init__(self) -> None:
        self._heard, self._rung = socket.socketpair()
        self._heard.setblocking(False)
        self._rung.setblocking(False)

    def fileno(self) -> int:
        return self._heard.fileno()

    def ring(self) -> None:
        """From any thread; nothing happens once it is closed."""
        with suppress(OSError):  # full: it rings already
            self._rung.send(b"\0")

    def quiet(self) -> None:
        with suppress(OSError):  # empty, or closed
            while self._heard.recv(4096):
                pass

    def close(self) -> None:
        self._heard.close()
        self._rung.close()
