"""Rows that failed by themselves: the retry table, and the dead-letter table behind it (DESIGN P5)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Table, and_, delete, func, insert, select, update

from syncbridge.event import place
from syncbridge.state.database import Database
from syncbridge.state.tables import dead_letter, retry
from syncbridge.version import ZERO

#: A claimed row comes due again after so many seconds, should the worker that claimed it die.
CLAIM_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRow:
    """One event that one mapping could not apply."""

    #: Empty for an object of a plain function; `table` is the function then, `version` when its job was taken.
    db: str
    table: str
    #: Mapping id, empty when the job itself could not be decoded.
    mapping: str
    key: dict[str, Any]
    version: str
    #: The event as JSON (or the job's bytes when they are no event).
    payload: bytes
    error_class: str
    message: str
    attempts: int = 1
    #: The payload may be older than what tombstones remember: read the row again instead of applying it.
    stale: bool = False
    first_failed_at: float = 0.0
    last_failed_at: float = 0.0
    next_attempt_at: float = 0.0
    id: int = 0

    @classmethod
    def undecodable(
        cls, workload: bytes, error_class: str, message: str, function: str = "", version: str = ZERO
    ) -> FailedRow:
        """A job that is no job: kept whole, under no table; its digest tells it from others."""
        digest = hashlib.sha256(workload).hexdigest()
        return cls(
            db="", table=function, mapping="", key={"job": digest}, version=version, payload=workload,
            error_class=error_class, message=message,
        )  # fmt: skip

    @property
    def place(self) -> str:
        """`db.table`, or `function:name` for an object of a plain function."""
        return place(self.db, self.table)

    @property
    def of_function(self) -> bool:
        """Its payload is an object (or a whole job) of the plain function `table`."""
        return not self.db and bool(self.table)


class _FailedRows:
    """What both tables share."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table

    def count(self) -> int:
        query = select(func.count()).select_from(self._table).where(self._mine())
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def list(self, *, limit: int = 100, after_id: int = 0, table: str | None = None) -> list[FailedRow]:
        """Rows by id; `table` is `db.table`."""
        query = select(self._table).where(self._mine(), self._table.c.id > after_id)
        if table is not None:
            db, _, name = table.partition(".")
            query = query.where(self._table.c.db == db, self._table.c.table_name == name)
        with self._database.read() as connection:
            return [_from_row(row) for row in connection.execute(query.order_by(self._table.c.id).limit(limit))]

    def get(self, row_id: int) -> FailedRow | None:
        query = select(self._table).where(self._mine(), self._table.c.id == row_id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _from_row(row)

    def discard(self, *row_ids: int) -> int:
        """Delete these rows; answers how many there were."""
        with self._database.write() as connection:
            return connection.execute(delete(self._table).where(self._mine(), self._table.c.id.in_(row_ids))).rowcount

    def add(self, *rows: FailedRow) -> None:
        """Durable when this returns. One (table, key, mapping, version) is kept once, however often its job comes."""
        now = time.time()
        with self._database.write() as connection:
            for row in rows:
                values = _to_values(row, self._database.pipeline)
                values["first_failed_at"] = row.first_failed_at or now
                values["last_failed_at"] = row.last_failed_at or now
                same = and_(
                    *(
                        self._table.c[name] == values[name]
                        for name in ("pipeline", "db", "table_name", "mapping", "row_key", "version")
                    )
                )
                if connection.execute(select(self._table.c.id).where(same)).first() is None:
                    connection.execute(insert(self._table).values(**values))

    def _mine(self) -> Any:
        return self._table.c.pipeline == self._database.pipeline


class Retries(_FailedRows):
    """Rows that will be tried again."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, retry)

    def due(self, now: float, *, limit: int = 100) -> list[FailedRow]:
        """Rows whose time has come, claimed so that no other worker takes them for CLAIM_SECONDS."""
        query = select(retry).where(self._mine(), retry.c.next_attempt_at <= now).order_by(retry.c.next_attempt_at)
        with self._database.write() as connection:
            rows = connection.execute(query.limit(limit).with_for_update(skip_locked=True)).all()
            if rows:
                connection.execute(
                    update(retry)
                    .where(retry.c.id.in_([row.id for row in rows]))
                    .values(next_attempt_at=now + CLAIM_SECONDS)
                )
        return [_from_row(row) for row in rows]

    def failed(self, row_id: int, *, error_class: str, message: str, next_attempt_at: float) -> None:
        """It failed again: one more attempt on the count."""
        with self._database.write() as connection:
            connection.execute(
                update(retry)
                .where(retry.c.id == row_id)
                .values(
                    attempts=retry.c.attempts + 1,
                    error_class=error_class,
                    message=message,
                    last_failed_at=time.time(),
                    next_attempt_at=next_attempt_at,
                )
            )

    def postpone(self, row_id: int, next_attempt_at: float) -> None:
        """The sink is sick: later, and no attempt is burnt."""
        with self._database.write() as connection:
            connection.execute(update(retry).where(retry.c.id == row_id).values(next_attempt_at=next_attempt_at))

    def done(self, *row_ids: int) -> None:
        self.discard(*row_ids)

    def bury(self, row_id: int, *, error_class: str, message: str) -> None:
        """Move the row to the dead-letter table, with its last error."""
        changes = {"error_class": error_class, "message": message, "last_failed_at": time.time()}
        with self._database.write() as connection:
            _move(connection, retry, dead_letter, self._database.pipeline, [row_id], changes, attempts_plus=1)

    def newest(self, row: FailedRow) -> str | None:
        """The version of the newest row that failed for the same mapping and key; None: there is none any more."""
        query = select(func.max(retry.c.version)).where(self._like(row.table, row.mapping, row.key))
        with self._database.read() as connection:
            newest: str | None = connection.execute(query).scalar_one()
        return newest

    def overtake(self, function: str, done: Sequence[tuple[str, dict[str, Any], str]]) -> int:
        """Objects (mapping, key, version) of a function were applied: older failures of these have nothing to say."""
        of_function = and_(self._mine(), retry.c.db == "", retry.c.table_name == function)
        with self._database.read() as connection:
            if connection.execute(select(retry.c.id).where(of_function).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            return sum(
                connection.execute(
                    delete(retry).where(self._like(function, mapping, key), retry.c.version < version)
                ).rowcount
                for mapping, key, version in done
            )

    def _like(self, function: str, mapping: str, key: dict[str, Any]) -> Any:
        return and_(
            self._mine(),
            retry.c.db == "",
            retry.c.table_name == function,
            retry.c.mapping == mapping,
            retry.c.row_key == _key_text(key),
        )

    def drop_older(self, db: str, table: str, version: str) -> int:
        """The table was emptied at `version`: older failures of it have nothing left to say."""
        with self._database.write() as connection:
            return connection.execute(
                delete(retry).where(
                    self._mine(), retry.c.db == db, retry.c.table_name == table, retry.c.version < version
                )
            ).rowcount


class DeadLetters(_FailedRows):
    """Rows that nothing tries again until somebody says so."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, dead_letter)

    def retry(self, *row_ids: int) -> int:
        """Move rows back to the retry table, due now, as stale: the row is read again, never applied as it was."""
        changes = {"attempts": 0, "stale": 1, "next_attempt_at": 0.0}
        with self._database.write() as connection:
            return _move(connection, dead_letter, retry, self._database.pipeline, list(row_ids), changes)


def _move(
    connection: Connection,
    source: Table,
    target: Table,
    pipeline: str,
    row_ids: list[int],
    changes: dict[str, Any],
    *,
    attempts_plus: int = 0,
) -> int:
    rows = connection.execute(select(source).where(source.c.pipeline == pipeline, source.c.id.in_(row_ids))).all()
    for row in rows:
        values = dict(row._mapping) | changes
        values["attempts"] += attempts_plus
        del values["id"]
        connection.execute(insert(target).values(**values))
    connection.execute(delete(source).where(source.c.id.in_([row.id for row in rows])))
    return len(rows)


def _key_text(key: dict[str, Any]) -> str:
    return orjson.dumps(key, option=orjson.OPT_SORT_KEYS).decode()


def _to_values(row: FailedRow, pipeline: str) -> dict[str, Any]:
    return {
        "pipeline": pipeline,
        "db": row.db,
        "table_name": row.table,
        "mapping": row.mapping,
        "row_key": _key_text(row.key),
        "version": row.version,
        "payload": row.payload,
        "error_class": row.error_class,
        "message": row.message,
        "attempts": row.attempts,
        "stale": int(row.stale),
        "first_failed_at": row.first_failed_at,
        "last_failed_at": row.last_failed_at,
        "next_attempt_at": row.next_attempt_at,
    }


def _from_row(row: Row[Any]) -> FailedRow:
    values = dict(row._mapping)
    del values["pipeline"]
    values["table"] = values.pop("table_name")
    values["key"] = orjson.loads(values.pop("row_key"))
    values["stale"] = bool(values["stale"])
    return FailedRow(**values)
