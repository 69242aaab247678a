"""What commands and workers ask of capture: the control plane of the pipeline.

snapshot   load the table again                      payload {"reason": …}; db and table empty: every mapped table
reread     read one row again and emit it            payload {"key": {column: value}}; "change" tells those of
                                                    trigger capture apart
rewind     go back to a version and capture again    payload {"version": …}
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from syncbridge.state.database import Database
from syncbridge.state.tables import request

SNAPSHOT, REREAD, REWIND = "snapshot", "reread", "rewind"


@dataclass(frozen=True, slots=True)
class Request:
    """A pending request; it is deleted when capture has done it durably."""

    id: int
    kind: str
    db: str
    table: str
    payload: dict[str, Any]
    created_at: float


class Requests:
    """Pending requests, oldest first. Equal ones are one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def file(self, kind: str, db: str = "", table: str = "", payload: dict[str, Any] | None = None) -> None:
        """Ask for something; asking twice before it is done is asking once."""
        # Equal whatever the order of keys; kept in the order given, for a key's columns have one.
        text = orjson.dumps(payload or {}, option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha1(b"\0".join((kind.encode(), db.encode(), table.encode(), text)), usedforsecurity=False)
        pipeline = self._database.pipeline
        values = {
            "pipeline": pipeline,
            "kind": kind,
            "db": db,
            "table_name": table,
            "payload": orjson.dumps(payload or {}).decode(),
            "digest": digest.hexdigest(),
            "created_at": time.time(),
        }
        with self._database.write() as connection:
            same = select(request.c.id).where(request.c.pipeline == pipeline, request.c.digest == values["digest"])
            if connection.execute(same).first() is None:
                # Somebody else may be asking for the same right now.
                with suppress(IntegrityError), connection.begin_nested():
                    connection.execute(insert(request).values(**values))

    def pending(self, kind: str | None = None, *, limit: int = 1000) -> list[Request]:
        query = select(request).where(request.c.pipeline == self._database.pipeline)
        if kind is not None:
            query = query.where(request.c.kind == kind)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(request.c.id).limit(limit)).all()
        return [
            Request(row.id, row.kind, row.db, row.table_name, orjson.loads(row.payload), row.created_at) for row in rows
        ]

    def done(self, *ids: int) -> None:
        with self._database.write() as connection:
            connection.execute(delete(request).where(request.c.id.in_(ids)))
