"""A server that is there and says nothing."""

from __future__ import annotations

import socket


class BlackHole:
    """Accepts connections, as far as the kernel does, and never answers."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]

    def __enter__(self) -> BlackHole:
        return self

    def __exit__(self, *error: object) -> None:
        self.listener.close()
