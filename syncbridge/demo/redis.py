"""A private Redis from the distribution's package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from syncbridge.demo.process import PrivateServer, find_program


def server_program() -> str:
    """The path of the server. Raises MissingServer."""
    return str(find_program("redis-server", "Redis", "redis-server"))


class PrivateRedis(PrivateServer):
    """Redis; keyword arguments are directives of redis.conf, underscores for dashes, True and False for yes and no.

    It keeps nothing on disk by default: after a kill -9 it is empty. With `appendonly=True, appendfsync="always"` it
    keeps everything.
    """

    name = "redis"

    def __init__(self, folder: Path, **options: object) -> None:
        super().__init__(folder)
        self.options: dict[str, object] = {"save": '""', "appendonly": False, **options}

    def command(self) -> list[str]:
        return [server_program(), str(self.folder / "redis.conf")]

    def prepare(self) -> None:
        """Write redis.conf: on a command line everybody could read the password."""
        fixed: dict[str, object] = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": f'"{self.folder}"',
            "unixsocket": f'"{self.folder / "s.sock"}"',
        }
        lines = []
        for name, value in {**fixed, **self.options}.items():
            text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            lines.append(f"{name.replace('_', '-')} {text}\n")
        path = self.folder / "redis.conf"
        path.touch(0o600)
        path.write_text("".join(lines))

    def ready(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):  # BusyLoading is a ConnectionError too
                return False

    def client(self, **arguments: Any) -> redis.Redis:
        """A new client (bytes in, bytes out); close it, or use it in a with block."""
        password = self.options.get("requirepass")
        return redis.Redis(**{"host": "127.0.0.1", "port": self.port, "password": password, **arguments})

    def url(self, database: int = 0, user: str = "", password: str = "") -> str:
        account = f"{user}:{password}@" if user or password else ""
        return f"redis://{account}127.0.0.1:{self.port}/{database}"
