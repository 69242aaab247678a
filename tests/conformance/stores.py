"""The job stores under test, each behind one Backend: how to open it, how to harm it.

A new store adds a class of its own and an entry in BACKENDS; the suite is test_job_store.py.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import orjson
import pytest
from pymemcache.client.base import Client

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import JobStore
from syncbridge.dispatch.store.memcached import MemcachedStore
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.dispatch.store.redis import RedisStore
from syncbridge.dispatch.store.sql import SqlStore
from syncbridge.dispatch.store.sqlite import SqliteStore
from syncbridge.dispatch.store.sqlite_places import MAX_ID
from tests.servers import Memcached, PostgreSQL, Redis, SqlServer


class Backend:
    """One empty store for one test. Fixtures (a server, a folder) come from `request`."""

    #: What was committed is there after the next open().
    durable = True
    #: Its format number can be changed behind its back: `set_format` works.
    formatted = True
    #: `corrupt` works.
    corruptible = True
    #: `cut` and `mend` work.
    remote = False

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.request = request

    def open(self) -> JobStore:
        """The next process: what the one before had open is closed. The first call creates the store."""
        raise NotImplementedError

    def corrupt(self, job: JobRecord) -> None:
        """Behind the store's back: the payload of this stored job is no longer one. The store stays open."""
        raise NotImplementedError

    def set_format(self, number: int) -> None:
        """Behind the store's back: as if this version of syncbridge had written it. The store stays open."""
        raise NotImplementedError

    def cut(self) -> None:
        """From here on the store's server cannot be reached, and its connections are gone."""
        raise NotImplementedError

    def mend(self) -> None:
        """It can be reached again."""
        raise NotImplementedError

    def close(self) -> None:
        """After the test."""
        raise NotImplementedError


class Memory(Backend):
    durable = formatted = corruptible = False

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self._store = MemoryStore()

    def open(self) -> JobStore:
        return self._store

    def close(self) -> None:
        self._store.close()


class Sqlite(Backend):
    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.path: Path = request.getfixturevalue("tmp_path") / "queue.db"
        self._store: SqliteStore | None = None

    def open(self) -> JobStore:
        self.close()
        self._store = SqliteStore(self.path)
        return self._store

    def corrupt(self, job: JobRecord) -> None:
        self._execute(f"UPDATE job SET payload = 7 WHERE id & {MAX_ID} = {job.id}")

    def set_format(self, number: int) -> None:
        self._execute(f"UPDATE meta SET value = {number} WHERE name = 'format'")

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _execute(self, sql: str) -> None:
        database = sqlite3.connect(self.path, isolation_level=None)
        try:
            assert database.execute(sql).rowcount == 1
        finally:
            database.close()


class RedisQueue(Backend):
    remote = True

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.server: Redis = request.getfixturevalue("new_redis")(appendonly=True, appendfsync="always")
        self._store: RedisStore | None = None

    def open(self) -> JobStore:
        self.close()
        self._store = RedisStore(f"{self.server.url()}?prefix=test")
        return self._store

    def corrupt(self, job: JobRecord) -> None:
        with self.server.client() as client:
            assert client.hset("syncbridge:queue:{test}:payload", str(job.id), "shorter or longer") == 0

    def set_format(self, number: int) -> None:
        with self.server.client() as client:
            client.hset("syncbridge:queue:{test}:meta", "format", number)

    def cut(self) -> None:
        self.server.kill9()

    def mend(self) -> None:
        self.server.start()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


class MemcachedQueue(Backend):
    """memcached forgets everything when it ends, but not when we do."""

    durable = False
    remote = True

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.server: Memcached = request.getfixturevalue("new_memcached")()
        self._store: MemcachedStore | None = None

    def open(self) -> JobStore:
        self.close()
        self._store = MemcachedStore(self.server.url())
        return self._store

    def corrupt(self, job: JobRecord) -> None:
        assert self._store is not None
        with closing(Client(("127.0.0.1", self.server.port))) as client:
            assert client.delete(self._store._writer.key(self._store._name(f"j{job.id}:0")), noreply=False)

    def set_format(self, number: int) -> None:
        assert self._store is not None
        with closing(Client(("127.0.0.1", self.server.port), default_noreply=False)) as client:
            key = self._store._writer.key("meta")
            client.set(key, orjson.dumps(orjson.loads(client.get(key)) | {"format": number}))

    def cut(self) -> None:
        self.server.kill9()

    def mend(self) -> None:
        self.server.start()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()


class Sql(Backend):
    """One database on the session's server, emptied for each test: to make and drop one takes longer than most tests.
    Cut off: its connections are ended, and no new one is let in.
    """

    remote = True
    #: Of its fixture.
    kind: ClassVar[str]
    database = "queue_suite"
    user = "queue_suite"
    options = ""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.server: SqlServer | PostgreSQL = request.getfixturevalue(f"_shared_{self.kind}")
        self._outside = self.server.database
        self.make()
        self.server.database = self.database
        self._store: SqlStore | None = None

    def make(self) -> None:
        """The account, and an empty database."""
        raise NotImplementedError

    def open(self) -> SqlStore:
        self.close()
        self.server.database = self.database
        self._store = SqlStore(self.server.url(self.user, "secret", self.database) + self.options)
        return self._store

    def corrupt(self, job: JobRecord) -> None:
        self.server.execute(f"UPDATE syncbridge_queue_job SET payload = NULL WHERE id = {job.id}")

    def set_format(self, number: int) -> None:
        self.server.execute(f"UPDATE syncbridge_queue_meta SET format = {number}")

    def close(self) -> None:
        self.server.database = self._outside
        if self._store is not None:
            self._store.close()


class MySQLQueue(Sql):
    kind = "mysql"
    options = "?ssl=false"  # to prepare for it costs more than the rest of a connection

    def make(self) -> None:
        found = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'queue_suite'"
        self.server.execute(
            "CREATE DATABASE IF NOT EXISTS queue_suite",
            "CREATE USER IF NOT EXISTS queue_suite@'127.0.0.1' IDENTIFIED BY 'secret'",
            "GRANT ALL ON queue_suite.* TO queue_suite@'127.0.0.1'",
            *(f"DELETE FROM queue_suite.{name}" for (name,) in self.server.execute(found)),
        )

    def cut(self) -> None:
        self.server.execute("ALTER USER queue_suite@'127.0.0.1' ACCOUNT LOCK")
        found = "SELECT id FROM information_schema.processlist WHERE user = 'queue_suite'"
        self.server.execute(*(f"KILL {number}" for (number,) in self.server.execute(found)))

    def mend(self) -> None:
        self.server.execute("ALTER USER queue_suite@'127.0.0.1' ACCOUNT UNLOCK")


class MariaDBQueue(MySQLQueue):
    kind = "mariadb"


class PostgreSQLQueue(Sql):
    kind = "postgresql"

    def make(self) -> None:
        if not self.server.execute("SELECT 1 FROM pg_roles WHERE rolname = 'queue_suite'"):
            self.server.execute("CREATE USER queue_suite PASSWORD 'secret'")
        if not self.server.execute("SELECT 1 FROM pg_database WHERE datname = 'queue_suite'"):
            self.server.execute("CREATE DATABASE queue_suite OWNER queue_suite")
        self.server.database = self.database
        found = self.server.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'syncbridge_queue_%'")
        self.server.execute("SELECT 1", *(f"DELETE FROM {name}" for (name,) in found))

    def cut(self) -> None:
        self.server.execute(
            "ALTER USER queue_suite NOLOGIN",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'queue_suite'",
        )

    def mend(self) -> None:
        self.server.execute("ALTER USER queue_suite LOGIN")


BACKENDS: dict[str, type[Backend]] = {
    "memcached": MemcachedQueue,
    "memory": Memory,
    "sqlite": Sqlite,
    "mariadb": MariaDBQueue,
    "mysql": MySQLQueue,
    "postgresql": PostgreSQLQueue,
    "redis": RedisQueue,
}
