"""The pipeline's memory: one database, with a room for each kind of thing to remember."""

from __future__ import annotations

from syncbridge.state.checkpoints import Checkpoints
from syncbridge.state.database import Database
from syncbridge.state.failures import DeadLetters, Retries
from syncbridge.state.looks import Looks
from syncbridge.state.mappings import Mappings
from syncbridge.state.mirror import Mirror
from syncbridge.state.requests import Requests
from syncbridge.state.schemas import Schemas
from syncbridge.state.snapshots import Snapshots


class State:
    """Open it with `State.open(url, pipeline)`; every method may raise TransientError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.checkpoints = Checkpoints(database)
        self.schemas = Schemas(database)
        self.mappings = Mappings(database)
        self.looks = Looks(database)
        self.mirror = Mirror(database)
        self.snapshots = Snapshots(database)
        self.requests = Requests(database)
        self.retries = Retries(database)
        self.dead_letters = DeadLetters(database)

    @classmethod
    def open(cls, url: str, pipeline: str) -> State:
        """Open (and create) the database of `sqlite:///path`, `mysql://…` or `postgresql://…`. Raises ConfigError."""
        return cls(Database.open(url, pipeline))

    def close(self) -> None:
        self._database.close()
