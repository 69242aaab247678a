"""How tables looked when trigger capture last looked: what happened to them while nobody captured shows by it."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from syncbridge.state.database import Database
from syncbridge.state.tables import table_look


class Looks:
    """(db, table) -> a text that says nothing to the state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[tuple[str, str], str]:
        query = select(table_look).where(table_look.c.pipeline == self._database.pipeline)
        with self._database.read() as connection:
            return {(row.db, row.table_name): row.look for row in connection.execute(query)}

    def put(self, looks: dict[tuple[str, str], str]) -> None:
        """These in place of all that were known."""
        pipeline = self._database.pipeline
        rows = [
            {"pipeline": pipeline, "db": db, "table_name": table, "look": look} for (db, table), look in looks.items()
        ]
        with self._database.write() as connection:
            connection.execute(delete(table_look).where(table_look.c.pipeline == pipeline))
            if rows:
                connection.execute(insert(table_look), rows)
