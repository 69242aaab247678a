"""Schema history: what each mapped table looked like from a version on, so that capture can rewind (DESIGN P7)."""

from __future__ import annotations

from sqlalchemy import and_, delete, func, insert, select

from syncbridge.state.database import Database
from syncbridge.state.tables import schema_history as history


class Schemas:
    """Definitions are opaque bytes here; capture gives them meaning."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, db: str, table: str, version: str, definition: bytes | None) -> None:
        """The table looks like `definition` from `version` on; None: it is gone."""
        where = and_(
            history.c.pipeline == self._database.pipeline,
            history.c.db == db,
            history.c.table_name == table,
            history.c.version == version,
        )
        with self._database.write() as connection:
            connection.execute(delete(history).where(where))
            connection.execute(
                insert(history).values(
                    pipeline=self._database.pipeline, db=db, table_name=table, version=version, definition=definition
                )
            )

    def at(self, version: str) -> dict[tuple[str, str], bytes]:
        """Every table's definition as of `version`."""
        newest = (
            select(history.c.db, history.c.table_name, func.max(history.c.version).label("version"))
            .where(history.c.pipeline == self._database.pipeline, history.c.version <= version)
            .group_by(history.c.db, history.c.table_name)
            .subquery()
        )
        query = (
            select(history.c.db, history.c.table_name, history.c.definition)
            .join(
                newest,
                and_(
                    history.c.db == newest.c.db,
                    history.c.table_name == newest.c.table_name,
                    history.c.version == newest.c.version,
                ),
            )
            .where(history.c.pipeline == self._database.pipeline)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return {(row.db, row.table_name): row.definition for row in rows if row.definition is not None}

    def all_until(self, version: str) -> list[bytes]:
        """Every definition of every table up to `version`, oldest first."""
        query = (
            select(history.c.definition)
            .where(
                history.c.pipeline == self._database.pipeline,
                history.c.version <= version,
                history.c.definition.is_not(None),
            )
            .order_by(history.c.version)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def forget_after(self, version: str) -> None:
        """Drop what was learnt behind `version`: capture rewound and will meet those statements again."""
        with self._database.write() as connection:
            connection.execute(
                delete(history).where(history.c.pipeline == self._database.pipeline, history.c.version > version)
            )
