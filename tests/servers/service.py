"""`syncbridge server` as users start it: options only, no file, its store in its folder."""

from __future__ import annotations

import socket
import sys
from typing import ClassVar

from tests.servers.job_server import Peer
from tests.servers.process import ServerProcess, free_port


class Service(ServerProcess):
    """Listens on `port`; further options are arguments as they are written: Service("--http", "127.0.0.1:8080")."""

    name: ClassVar[str] = "syncbridge-server"
    #: Ports beside the Gearman one.
    more_ports: tuple[int, ...] = ()

    def __init__(self, *arguments: object, store: str = "sqlite:///queue.db", listen: str = "127.0.0.1") -> None:
        super().__init__()
        self.store = store
        self.listen = f"{listen}:{self.port}"
        self.arguments = [str(argument) for argument in arguments]

    def command(self) -> list[str]:
        fixed = ["server", "--listen", self.listen, "--store", self.store]
        return [sys.executable, "-m", "syncbridge", *fixed, *self.arguments]

    def ready(self) -> bool:
        """It answers, and whatever else it opens listens too."""
        try:
            with Peer(self.port) as peer:
                if not peer.text("version").startswith("OK"):
                    return False
            for port in self.more_ports:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
        return True


class HttpService(Service):
    """With its gateway on `http`."""

    def __init__(self, *arguments: object, ready: bool = True) -> None:
        """`ready`: its start waits until it answers in plain text."""
        self.http = free_port()
        self.more_ports = (self.http,)
        self._answers = ready
        super().__init__("--http", f"127.0.0.1:{self.http}", *arguments)

    def ready(self) -> bool:
        return super().ready() if self._answers else True
