"""A TCP connection to a server, with somebody in the middle who can cut it at the worst moment."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Wire:
    """Forwards 127.0.0.1:port to another port. Threads end with close().

    `cut_before(mark)`: the next request that holds `mark` is not passed on, and all connections end.
    `cut_after(mark)`: it is passed on, and all connections end when the server answers; the answer is lost.
    `down`: new connections are refused.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._mark = b""
        self._after = False
        self._drop_answer = False
        #: How often it was cut as told.
        self.cuts = 0
        #: Be down from the next cut on.
        self.down_after_cut = False
        self.down = False
        self._sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_before(self, mark: bytes) -> None:
        self._mark, self._after = mark, False

    def cut_after(self, mark: bytes) -> None:
        self._mark, self._after = mark, True

    def cut(self) -> None:
        """All connections end now."""
        self.down = self.down or self.down_after_cut
        for connection in list(self._sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._sockets |= {client, server}
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, requests: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if requests and self._mark and self._mark in data:
                    self._mark = b""
                    self.cuts += 1
                    if not self._after:
                        self.cut()
                        break
                    self._drop_answer = True
                elif not requests and self._drop_answer:
                    self._drop_answer = False
                    self.cut()
                    break
                sink.sendall(data)
        for connection in (source, sink):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.down_after_cut = False
        self.cut()
        for connection in list(self._sockets):
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
