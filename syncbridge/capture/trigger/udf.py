"""The UDF library as capture uses it: told where the job server is, asked to send heartbeats. IO: a cursor."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pymysql

from syncbridge.capture.trigger.reported import heartbeat_hint
from syncbridge.config import Address, Config, SocketPath
from syncbridge.errors import ConfigError
from syncbridge.seams import hints_function

#: The function does not exist (MySQL then looks for a stored one, in no database); its library cannot be loaded.
_NO_FUNCTION = (1305, 1046, 1126, 1127)


def servers(config: Config) -> str:
    """The job servers as the database server is to reach them, for gman_servers_set. Raises ConfigError."""
    named = config.source.trigger.servers
    if named:
        return named
    places = config.queue.listen
    sockets = [str(place) for place in places if isinstance(place, SocketPath)]
    plain = [str(place.reachable) for place in places if isinstance(place, Address) and config.queue.tls is None]
    if found := sockets + plain:
        return ",".join(found)
    raise ConfigError(
        "source.trigger.servers: the UDF library speaks no TLS, and queue.listen names nothing else",
        hint="let the job server listen on a Unix socket, too, and name it: servers: unix:/path",
    )


def name_servers(connection: Any, config: Config) -> str:
    """Tell the library where our hints go; the same list again changes nothing. What is wrong, "" when nothing is.

    Raises ConfigError when there is no list to tell.
    """
    listed = servers(config)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT gman_servers_set(%s, %s)", (listed, hints_function(config.name)))
            if cursor.fetchone()[0] is not None:
                return ""
            cursor.execute("SELECT CONVERT(gman_last_error() USING utf8mb4)")
            return f"the UDF library refuses source.trigger.servers: {cursor.fetchone()[0]}"
    except pymysql.MySQLError as error:
        if error.args[0] not in _NO_FUNCTION:
            raise
        return "the source lacks the UDF library (syncbridge udf install)"


def heartbeat_job(pipeline: str, fall_back: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
    """Writes a heartbeat the way triggers report changes, for HeartbeatWriter."""
    function = hints_function(pipeline)

    def write(cursor: Any, token: int) -> None:
        hint = heartbeat_hint(token, time.time_ns() // 1000)
        try:
            cursor.execute("SELECT gman_do_background(%s, %s)", (function, hint))
            taken = cursor.fetchone()[0] is not None
        except pymysql.MySQLError as error:
            if error.args[0] not in _NO_FUNCTION:
                raise
            taken = False
        if not taken:
            fall_back(cursor, token)

    return write
