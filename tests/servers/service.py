"""`syncbridge server` as users start it: options only, no file, its store in its folder."""

from __future__ import annotations

import sys
from typing import ClassVar

from tests.servers.job_server import Peer
from tests.servers.process import ServerProcess, free_port


class Service(ServerProcess):
    """Listens on `port`; further options are arguments as they are written: Service("--http", "127.0.0.1:8080")."""

    name: ClassVar[str] = "syncbridge-server"

    def __init__(self, *arguments: object, store: str = "sqlite:///queue.db", listen: str = "127.0.0.1") -> None:
        super().__init__()
        self.store = store
        self.listen = f"{listen}:{self.port}"
        self.arguments = [str(argument) for argument in arguments]

    def command(self) -> list[str]:
        fixed = ["server", "--listen", self.listen, "--store", self.store]
        return [sys.executable, "-m", "syncbridge", *fixed, *self.arguments]

    def ready(self) -> bool:
        try:
            with Peer(self.port) as peer:
                return peer.text("version").startswith("OK")
        except OSError:
            return False


class HttpService(Service):
    """With its gateway on `http`."""

    def __init__(self, *arguments: object) -> None:
        self.http = free_port()
        super().__init__("--http", f"127.0.0.1:{self.http}", *arguments)
