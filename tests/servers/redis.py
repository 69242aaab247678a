"""A private Redis from the distribution's package."""

from __future__ import annotations

from typing import Any

import redis

from tests.servers.process import ServerProcess, find_program


class Redis(ServerProcess):
    """Redis; keyword arguments are directives of redis.conf, underscores for dashes, True and False for yes and no.

    It keeps nothing on disk by default: after kill9 it is empty. With
    `appendonly=True, appendfsync="always"` it keeps everything.
    """

    name = "redis"

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options: dict[str, object] = {
            "save": "",
            "appendonly": False,
            "enable_debug_command": True,
            **options,
        }

    def command(self) -> list[str]:
        program = find_program("redis-server", "Redis")
        fixed: dict[str, object] = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": self.folder,
            "unixsocket": self.folder / "s.sock",
        }
        words = [str(program)]
        for name, value in {**fixed, **self.options}.items():
            text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
        return words

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
