"""The connection that reads: every statement sees what is committed, and almost every method is one statement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection, Executable, and_, bindparam, case, func, or_, select, tuple_
from sqlalchemy.sql import ColumnElement, Select

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import READY, SCHEDULED, UNREADABLE, Result, StoredBacklog
from syncbridge.dispatch.store.sql.engine import Engine
from syncbridge.dispatch.store.sql.tables import PIECE, backlog, function, job, piece, result, setting
from syncbridge.errors import TransientError

#: Payloads up to this size are looked at even where only the row is wanted: is there what the row says?
_CHECKED: Final = 4096

# A payload is read by a join, where its size allows: MySQL would else read all of them to throw most away.
_payload = job.alias("payload")
_JOB: Final = (
    function.c.name,
    job.c.id,
    job.c.priority,
    job.c.uniq,
    job.c.join_key,
    job.c.submitted,
    job.c.attempts,
    job.c.size,
    job.c.reducer,
    job.c.state,
    job.c.due,
    job.c.note,
)


def _jobs(*payload: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*_JOB, *payload)
        .join_from(job, function, function.c.id == job.c.function_id)
        .outerjoin(_payload, _payload.c.id == case((job.c.size <= bindparam("inline"), job.c.id)))
    )


class Reader:
    """`functions`: the known names and their numbers, at the moment."""

    def __init__(self, engine: Engine, functions: Callable[[], dict[bytes, int]]) -> None:
        self._engine = engine
        self._functions = functions
        self._connection: Connection | None = None
        self._by_place = _by_place(engine)
        self._by_due = _by_due(engine)

    def backlogs(self) -> list[StoredBacklog]:
        return [
            StoredBacklog(name, priority, jobs, int(size), last or 0, state)
            for name, priority, jobs, size, last, state in self._rows(_BACKLOGS)
        ]

    def window(
        self, name: bytes, priority: int, after: int, through: int, limit: int, inline: int, state: int
    ) -> list[JobRecord]:
        number = self._functions().get(name)
        if number is None or limit <= 0:
            return []
        place = {"function_id": number, "priority": priority, "state": state}
        bounds = {"after": after, "through": through, "limit": limit, "inline": min(inline, PIECE)}
        found = [_with_payload(row, min(inline, PIECE)) for row in self._rows(self._by_place, **place, **bounds)]
        if inline > PIECE:
            found = [self._with_pieces(record) if PIECE < record.size <= inline else record for record in found]
        return found

    def by_due(self, state: int, after: tuple[int, int], limit: int) -> list[JobRecord]:
        due, number = after
        rows = self._rows(self._by_due, state=state, due=due, id=number, limit=max(0, limit), inline=_CHECKED)
        return [_without_payload(row) for row in rows]

    def payload(self, name: bytes, priority: int, number: int, state: int) -> bytes | None:
        place = {"function_id": self._functions().get(name), "priority": priority, "state": state}
        for size, payload in self._rows(_PAYLOAD, id=number, **place):
            found = self._pieces(number) if size > PIECE else payload
            if found is not None and len(found) == size:
                return bytes(found)
        return None

    def joinable(self, name: bytes, keys: Sequence[bytes]) -> dict[bytes, JobRecord]:
        number = self._functions().get(name)
        if number is None:
            return {}
        found = {key: self._one(_JOINABLE, function_id=number, join_key=key) for key in keys}
        return {key: record for key, record in found.items() if record is not None}

    def find(self, number: int) -> JobRecord | None:
        return self._one(_FIND, id=number)

    def result(self, number: int) -> Result | None:
        rows = self._rows(_RESULT, id=number)
        if not rows:
            return None
        *values, size = rows[0]
        found = Result(*values)
        return found._replace(data=self._pieces(-number)) if size > PIECE else found

    def settings(self) -> dict[bytes, bytes]:
        return {bytes(name): bytes(value) for name, value in self._rows(select(setting))}

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.invalidate()
            with suppress(Exception):
                connection.close()

    def _pieces(self, key: int) -> bytes:
        return b"".join(data for (data,) in self._rows(_PIECES, id=key))

    def _with_pieces(self, record: JobRecord) -> JobRecord:
        payload = self._pieces(record.id)
        if len(payload) != record.size:
            return record._replace(size=UNREADABLE)
        return record._replace(payload=payload)

    def _one(self, statement: Executable, **values: Any) -> JobRecord | None:
        rows = self._rows(statement, **values, inline=_CHECKED)
        return _without_payload(rows[0]) if rows else None

    def _rows(self, statement: Executable, **values: Any) -> Sequence[Any]:
        started = time.monotonic()
        while True:
            fresh = self._connection is None
            try:
                if self._connection is None:
                    self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                return self._connection.execute(statement, values).all()
            except Exception as error:
                self.close()
                # The connection may have been idle for hours, and its server restarted since: once more, at once.
                if fresh or time.monotonic() - started > self._engine.address.timeout / 2:
                    failure = self._engine.failure("read", error)
                    raise TransientError(str(failure), hint=failure.hint) from error


def _with_payload(row: Sequence[Any], inline: int) -> JobRecord:
    *columns, size, payload = _split(row)
    if size < 0 or (size <= inline and (payload is None or len(payload) != size)):
        size, payload = UNREADABLE, None
    return _record(columns, size, payload)


def _without_payload(row: Sequence[Any]) -> JobRecord:
    *columns, size, length = _split(row)
    if size < 0 or (size <= _CHECKED and length != size):
        size = UNREADABLE
    return _record(columns, size, None)


def _split(row: Sequence[Any]) -> tuple[Any, ...]:
    name, number, priority, uniq, join_key, submitted, attempts, size, reducer, state, due, note, payload = row
    return name, number, priority, uniq, join_key, submitted, attempts, reducer, state, due, note, size, payload


def _record(columns: Sequence[Any], size: int, payload: bytes | None) -> JobRecord:
    name, number, priority, uniq, join_key, submitted, attempts, reducer, state, due, note = columns
    return JobRecord(
        number, name, priority, uniq, join_key, submitted, attempts, payload, size, reducer, state, due, note
    )


# -- statements ------------------------------------------------------------------------------------------------------
# Each of them must go along the one index that fits, whatever a planner without statistics makes of a queue that was
# empty a minute ago: MySQL is told which, PostgreSQL gets an order that no other index has.


def _by_place(engine: Engine) -> Select[Any]:
    first: ColumnElement[bool]
    last: ColumnElement[bool]
    first, last = job.c.id > bindparam("after"), job.c.id <= bindparam("through")
    place = tuple_(job.c.function_id, job.c.state, job.c.priority, job.c.id)
    values: list[Any] = [bindparam(name) for name in ("function_id", "state", "priority")]
    if engine.address.backend == "postgresql":
        first, last = place > tuple_(*values, bindparam("after")), place <= tuple_(*values, bindparam("through"))
    found = _jobs(_payload.c.payload).where(
        *(column == value for column, value in zip(place.clauses, values, strict=False)), first, last
    )
    return _along(found, "place").order_by(*place.clauses).limit(bindparam("limit"))


def _by_due(engine: Engine) -> Select[Any]:
    due: Any = bindparam("due")
    number: Any = bindparam("id")
    after: ColumnElement[bool] = or_(job.c.due > due, and_(job.c.due == due, job.c.id > number))
    if engine.address.backend == "postgresql":
        after = tuple_(job.c.due, job.c.id) > tuple_(due, number)
    # The state is part of the statement: PostgreSQL's index is for those that are not 0.
    state = job.c.state == bindparam("state", literal_execute=True)
    found = _jobs(func.length(_payload.c.payload)).where(state, after)
    return _along(found, "due").order_by(job.c.state, job.c.due, job.c.id).limit(bindparam("limit"))


def _along(statement: Select[Any], index: str) -> Select[Any]:
    return statement.with_hint(job, f"FORCE INDEX (syncbridge_queue_job_{index})", "mysql")


_last = (
    select(job.c.id)
    .where(
        job.c.function_id == backlog.c.function_id,
        job.c.state == backlog.c.state,
        job.c.priority == backlog.c.priority,
    )
    .order_by(job.c.function_id.desc(), job.c.state.desc(), job.c.priority.desc(), job.c.id.desc())
    .limit(1)
    .correlate(backlog)
)
_BACKLOGS: Final = (
    select(
        function.c.name,
        backlog.c.priority,
        backlog.c.jobs,
        backlog.c.bytes,
        _along(_last, "place").scalar_subquery(),
        backlog.c.state,
    )
    .join_from(backlog, function, function.c.id == backlog.c.function_id)
    .where(backlog.c.jobs > 0)
)
_PAYLOAD: Final = select(job.c.size, job.c.payload).where(
    job.c.id == bindparam("id"),
    job.c.function_id == bindparam("function_id"),
    job.c.priority == bindparam("priority"),
    job.c.state == bindparam("state"),
)
_RESULT: Final = select(result).where(result.c.id == bindparam("id"))
_PIECES: Final = select(piece.c.data).where(piece.c.id == bindparam("id")).order_by(piece.c.part)
_JOINABLE: Final = (
    _along(_jobs(func.length(_payload.c.payload)), "join")
    .where(
        job.c.function_id == bindparam("function_id"),
        job.c.join_key == bindparam("join_key"),
        job.c.state.in_((READY, SCHEDULED)),
    )
    .order_by(job.c.function_id.desc(), job.c.join_key.desc(), job.c.id.desc())
    .limit(1)
)
_FIND: Final = _jobs(func.length(_payload.c.payload)).where(job.c.id == bindparam("id"))
