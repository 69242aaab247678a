"""A private memcached from the distribution's package."""

from __future__ import annotations

import os
import socket
from typing import ClassVar

from syncbridge.demo.process import find_program
from tests.servers.process import ServerProcess


class Memcached(ServerProcess):
    """memcached; keyword arguments are its long options, underscores for dashes: Memcached(memory_limit=8)."""

    name: ClassVar[str] = "memcached"

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options

    def command(self) -> list[str]:
        fixed = {"listen": "127.0.0.1", "port": self.port, "udp_port": 0, "threads": 2}
        command = [str(find_program("memcached", "memcached", "memcached"))]
        if os.getuid() == 0:
            fixed["user"] = "root"
        return command + [f"--{name.replace('_', '-')}={value}" for name, value in {**fixed, **self.options}.items()]

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as peer:
                peer.sendall(b"version\r\n")
                return peer.recv(100).startswith(b"VERSION")
        except OSError:
            return False

    def url(self) -> str:
        return f"memcached://127.0.0.1:{self.port}"
