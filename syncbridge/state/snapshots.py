"""Progress of table snapshots, so that a crash resumes after the last durable chunk (DESIGN P3)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from syncbridge.state.database import Database
from syncbridge.state.tables import snapshot

#: A table waits, is being read, is being swept, or is done.
WAITING, RUNNING, SWEEPING, DONE = "waiting", "running", "sweeping", "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRow:
    """One table's snapshot."""

    db: str
    table: str
    status: str
    #: Why it was started, for people: `initial`, `ALTER TABLE …`, `mapping changed`.
    reason: str = ""
    #: Version of its first watermark: keys older than this are gone from the source when it ends. Empty before.
    first_version: str = ""
    #: Version of its newest watermark so far: a rewind to before it makes the snapshot start again.
    last_version: str = ""
    #: JSON array: primary key of the last row that is durable in the queue; empty before the first chunk.
    last_key: str = ""
    rows_done: int = 0
    rows_estimate: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0


class Snapshots:
    """One row for each mapped table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, db: str, table: str) -> SnapshotRow | None:
        return next((row for row in self.all() if (row.db, row.table) == (db, table)), None)

    def all(self) -> list[SnapshotRow]:
        query = (
            select(snapshot)
            .where(snapshot.c.pipeline == self._database.pipeline)
            .order_by(snapshot.c.db, snapshot.c.table_name)
        )
        with self._database.read() as connection:
            rows = [dict(row._mapping) for row in connection.execute(query)]
        for row in rows:
            del row["pipeline"]
            row["table"] = row.pop("table_name")
        return [SnapshotRow(**row) for row in rows]

    def save(self, row: SnapshotRow) -> None:
        """Replace the table's row; what touch() raised stays raised, unless the snapshot starts from scratch."""
        fields = self._fields(row)
        same = self._of(row.db, row.table)
        with self._database.write() as connection:
            known = connection.execute(select(snapshot.c.last_version).where(same).with_for_update()).scalar()
            if known is None:
                connection.execute(insert(snapshot).values(**fields))
                return
            if row.last_version:
                fields["last_version"] = max(known, row.last_version)
            connection.execute(update(snapshot).where(same).values(**fields))

    def touch(self, db: str, table: str, version: str) -> None:
        """Rows were written at `version` besides what the binlog holds: a rewind to before it reads the table."""
        row = SnapshotRow(db=db, table=table, status=DONE, last_version=version)  # never read: source.snapshot is never
        same = self._of(db, table)
        with self._database.write() as connection:
            known = connection.execute(select(snapshot.c.last_version).where(same).with_for_update()).scalar()
            if known is None:
                with suppress(IntegrityError), connection.begin_nested():  # just requested: it will be read anyway
                    connection.execute(insert(snapshot).values(**self._fields(row)))
            elif known < version:
                connection.execute(update(snapshot).where(same).values(last_version=version))

    def _fields(self, row: SnapshotRow) -> dict[str, Any]:
        fields = asdict(row) | {"pipeline": self._database.pipeline, "reason": row.reason[:255]}
        fields["table_name"] = fields.pop("table")
        return fields

    def _of(self, db: str, table: str) -> ColumnElement[bool]:
        mine = snapshot.c.pipeline == self._database.pipeline
        return and_(mine, snapshot.c.db == db, snapshot.c.table_name == table)
