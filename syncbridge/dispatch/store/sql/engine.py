"""What MySQL, MariaDB and PostgreSQL differ in, as the rest of the store sees it; mysql.py, postgresql.py fill it in.

A connection it makes has time-outs on everything: a server that freezes costs seconds, never the thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from sqlalchemy import Connection, Table, create_engine
from sqlalchemy.pool import NullPool

from syncbridge.dispatch.store import Promise
from syncbridge.dispatch.store.sql.address import Address
from syncbridge.errors import ConfigError, SyncbridgeError, TransientError

#: How long the lock of a server that just went is waited for, seconds; less where answers must come sooner.
_LOCK_WAIT: Final = 2.0


class Engine(ABC):
    """One database server, reached as one account."""

    #: SQLAlchemy's name of dialect and driver.
    dialect: ClassVar[str]
    #: After VALUES of backlog rows: adds their counts to rows that are there.
    add_counts: ClassVar[str]

    def __init__(self, address: Address, durability: Promise) -> None:
        self.address = address
        self.lock_wait = min(_LOCK_WAIT, address.timeout / 2)
        self.durability = durability
        self._engine = create_engine(
            f"{self.dialect}://", creator=self._connect, poolclass=NullPool, **self._engine_arguments()
        )

    def connect(self) -> Connection:
        """A new connection. Raises what the driver raises."""
        return self._engine.connect().execution_options(no_parameters=True)

    @abstractmethod
    def _connect(self) -> Any:
        """The driver's connection."""

    def _engine_arguments(self) -> dict[str, Any]:
        return {}

    # -- the lock ------------------------------------------------------------------------------------------------

    @abstractmethod
    def lock(self, connection: Connection) -> bool:
        """Take the queue's lock for as long as this connection lives; False when another keeps it."""

    @abstractmethod
    def session(self, connection: Connection) -> int:
        """The server's own number of this connection."""

    @abstractmethod
    def end(self, connection: Connection, session: int) -> None:
        """End that session if it has the lock: it is our own former one, which the server takes for alive."""

    # -- what it is ----------------------------------------------------------------------------------------------

    @abstractmethod
    def promise(self, connection: Connection) -> Promise:
        """What a commit on this connection survives, by the server's own settings."""

    @abstractmethod
    def check(self, connection: Connection) -> None:
        """ConfigError when the server is set up in a way that we cannot work with."""

    # -- writing -------------------------------------------------------------------------------------------------

    @abstractmethod
    def insert(self, connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Many rows in few statements; columns in the table's order."""

    @abstractmethod
    def is_duplicate(self, error: Exception) -> bool:
        """Whether insert() failed because a row with this key is there."""

    # -- errors --------------------------------------------------------------------------------------------------

    @abstractmethod
    def describe(self, error: Exception) -> tuple[str, str]:
        """The driver's error in words, and what the configuration must change, empty where waiting may help."""

    def failure(self, doing: str, error: Exception) -> SyncbridgeError:
        """ "cannot be <doing>": ConfigError when no waiting mends it, else TransientError."""
        cause = getattr(error, "orig", None) or error
        text, mend = self.describe(cause)
        sentence = f"queue store {self.address} cannot be {doing}: {' '.join(text.split())}"
        if mend:
            return ConfigError(sentence, hint=mend)
        return TransientError(sentence, hint="check that its server runs, can be reached and has room")
