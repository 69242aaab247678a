"""How far capture is: everything up to here is durable in the queue (DESIGN P1)."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select

from syncbridge.state.database import Database
from syncbridge.state.tables import checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A position at a transaction boundary of one server's binlog."""

    #: Rises when positions stop being comparable.
    epoch: int
    #: Which server these positions belong to (its uuid).
    server: str
    #: Binlog file and the position where the next transaction starts.
    file: str
    pos: int
    #: Creation time of that file by its format description event: tells a RESET that reuses names.
    file_created: int
    #: Executed GTIDs up to here, empty where the server has none.
    gtid_set: str
    #: The queue that holds what was captured.
    queue_id: str
    #: Lanes that may hold jobs: more than sync.yaml names until those of an earlier one are empty.
    lanes: int = 0
    updated_at: float = 0.0


class Checkpoints:
    """One row for each pipeline."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> Checkpoint | None:
        with self._database.read() as connection:
            row = connection.execute(select(checkpoint).where(checkpoint.c.pipeline == self._database.pipeline)).first()
        if row is None:
            return None
        fields = dict(row._mapping)
        del fields["pipeline"]
        return Checkpoint(**fields)

    def save(self, value: Checkpoint) -> None:
        fields = asdict(value) | {"pipeline": self._database.pipeline, "updated_at": time.time()}
        with self._database.write() as connection:
            connection.execute(delete(checkpoint).where(checkpoint.c.pipeline == self._database.pipeline))
            connection.execute(insert(checkpoint).values(**fields))
