"""The mappings that Redis was last filled by; a changed one is re-snapshotted and swept (DESIGN P3)."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from syncbridge.state.database import Database
from syncbridge.state.tables import mapping_history


class Mappings:
    """Mapping id -> definition (its fingerprint: the mapping as JSON)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, str]:
        query = select(mapping_history).where(mapping_history.c.pipeline == self._database.pipeline)
        with self._database.read() as connection:
            return {row.mapping: row.definition for row in connection.execute(query)}

    def put(self, mapping: str, definition: str) -> None:
        self.forget(mapping)
        with self._database.write() as connection:
            connection.execute(
                insert(mapping_history).values(pipeline=self._database.pipeline, mapping=mapping, definition=definition)
            )

    def forget(self, mapping: str) -> None:
        with self._database.write() as connection:
            connection.execute(
                delete(mapping_history).where(
                    mapping_history.c.pipeline == self._database.pipeline, mapping_history.c.mapping == mapping
                )
            )
