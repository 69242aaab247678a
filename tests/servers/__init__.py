"""Real database and Redis servers for the tests: private, on free ports, in temporary folders, never left behind.

    with MariaDB(binlog_row_metadata="FULL") as server:
        server.execute("CREATE DATABASE shop")
        server.kill9()
        server.start()          # same port, same data

Nothing here is a stand-in: every class starts the real program. A program that is missing is an error, not a skip.
"""

from __future__ import annotations

from tests.servers.gearmand import Gearmand
from tests.servers.mariadb import MariaDB
from tests.servers.memcached import Memcached
from tests.servers.mysql import MySQL
from tests.servers.postgresql import PostgreSQL
from tests.servers.process import MissingServer, ServerProcess, free_port
from tests.servers.redis import Redis
from tests.servers.sql import SqlServer
from tests.servers.waiting import eventually

__all__ = [
    "Gearmand",
    "MariaDB",
    "Memcached",
    "MissingServer",
    "MySQL",
    "PostgreSQL",
    "Redis",
    "ServerProcess",
    "SqlServer",
    "eventually",
    "free_port",
]
