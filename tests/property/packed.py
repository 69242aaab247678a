"""Commands packed by the code under test, sent as they are."""

from __future__ import annotations

from typing import Any

import redis


def send(client: redis.Redis, packed: bytes) -> Any:
    """The reply to the very bytes that workers send; an error of Redis is raised."""
    connection: Any = client.connection_pool.get_connection()
    try:
        connection.send_packed_command([packed])
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)
