"""The job stores under test, each behind one Backend: how to open it, how to harm it.

A new store adds a class of its own and an entry in BACKENDS; the suite is test_job_store.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import JobStore
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.dispatch.store.redis import RedisStore
from syncbridge.dispatch.store.sqlite import SqliteStore
from tests.servers import Redis


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
    #: A reader never sees half a commit.
    atomic = True

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
        self._execute(f"UPDATE job SET payload = 7 WHERE id = {job.id}")

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


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {
    "memory": Memory,
    "redis": RedisQueue,
}
