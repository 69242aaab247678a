"""The job store that the server sees: commits go to the writer, reads to the reader."""

from __future__ import annotations

from collections.abc import Sequence

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import READY, Changes, Promise, Result, StoredBacklog
from syncbridge.dispatch.store.sql.address import Address
from syncbridge.dispatch.store.sql.engine import Engine
from syncbridge.dispatch.store.sql.reader import Reader
from syncbridge.dispatch.store.sql.writer import Writer


class SqlStore:
    """JobStore in a database `mysql://`, `mariadb://` or `postgresql://user:password@host:port/name`; see Address.

    `durability`: PostgreSQL commits as it says (BATCH: without waiting for the disk); MySQL and MariaDB commit as their
    server is set up. What holds is in `promise`. Creates its tables (`syncbridge_queue_*`) where there are none.
    Raises ConfigError (account, rights, layout) and TransientError (not there, another server has it).
    """

    def __init__(self, url: str, *, durability: Promise = Promise.FULL) -> None:
        engine = _engine(Address.parse(url), durability)
        self._writer = Writer(engine)
        self._reader = Reader(engine, lambda: self._writer.functions)

    @property
    def queue_id(self) -> str:
        return self._writer.queue_id

    @property
    def promise(self) -> Promise:
        return self._writer.promise

    @property
    def next_id(self) -> int:
        return self._writer.next_id

    @property
    def sync_seconds(self) -> float:
        return self._writer.sync_seconds

    def commit(self, changes: Changes) -> None:
        changes.unroll()
        self._writer.commit(changes)

    def backlogs(self) -> list[StoredBacklog]:
        return self._settled().backlogs()

    def window(
        self, function: bytes, priority: int, *, after: int, through: int, limit: int, inline: int, state: int = READY
    ) -> list[JobRecord]:
        return self._settled().window(function, priority, after, through, limit, inline, state)

    def by_due(self, state: int, *, after: tuple[int, int], limit: int) -> list[JobRecord]:
        return self._settled().by_due(state, after, limit)

    def payload(self, function: bytes, priority: int, number: int, state: int = READY) -> bytes | None:
        return self._settled().payload(function, priority, number, state)

    def joinable(self, function: bytes, keys: Sequence[bytes]) -> dict[bytes, JobRecord]:
        return self._settled().joinable(function, keys)

    def find(self, number: int) -> JobRecord | None:
        return self._settled().find(number)

    def result(self, number: int) -> Result | None:
        return self._settled().result(number)

    def settings(self) -> dict[bytes, bytes]:
        return self._settled().settings()

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _settled(self) -> Reader:
        """No read sees a job of a commit that was reported as failed."""
        self._writer.settle()
        return self._reader


def _engine(address: Address, durability: Promise) -> Engine:
    """The driver is imported here: PostgreSQL's is not installed with syncbridge."""
    if address.backend == "mysql":
        from syncbridge.dispatch.store.sql.mysql import MySQL

        return MySQL(address, durability)
    from syncbridge.dispatch.store.sql.postgresql import PostgreSQL

    return PostgreSQL(address, durability)
