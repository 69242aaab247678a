"""Which Redis this pipeline fills: its id, so that an emptied or a swapped one is noticed (DESIGN P7)."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from syncbridge.state.database import Database
from syncbridge.state.tables import mirror


class Mirror:
    """The id that the first start gave to the Redis; the same id is in Redis."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> str | None:
        with self._database.read() as connection:
            query = select(mirror.c.sink_id).where(mirror.c.pipeline == self._database.pipeline)
            found: str | None = connection.execute(query).scalar()
        return found

    def save(self, sink_id: str) -> None:
        pipeline = self._database.pipeline
        with self._database.write() as connection:
            connection.execute(delete(mirror).where(mirror.c.pipeline == pipeline))
            connection.execute(insert(mirror).values(pipeline=pipeline, sink_id=sink_id))
