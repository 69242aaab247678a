"""A private Redis from the distribution's package."""

from __future__ import annotations

from syncbridge.demo.redis import PrivateRedis
from tests.servers.process import ServerProcess


class Redis(ServerProcess, PrivateRedis):
    """Redis; keyword arguments are directives of redis.conf, see PrivateRedis. DEBUG is allowed."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{"enable_debug_command": True, **options})
