"""The connection that commits: it holds the queue's lock, and knows whether a commit happened whose answer was lost.

Each commit counts up `commits` in the meta row, in its own transaction, and only where the row still names this process
as owner: a server that lost its connection, and with it the lock, cannot write over another that took the queue since.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

from sqlalchemy import Connection, delete, insert, inspect, select, update

from syncbridge.dispatch.store import Changes, Promise
from syncbridge.dispatch.store.sql.engine import Engine
from syncbridge.dispatch.store.sql.tables import FORMAT, backlog, function, meta, metadata
from syncbridge.dispatch.store.sql.transaction import Mismatch, Transaction, last_job
from syncbridge.errors import ConfigError, SyncbridgeError, TransientError

logger = logging.getLogger(__name__)


class Writer:
    """Opening creates what is missing, takes the lock and makes this process the owner.

    Raises ConfigError or TransientError. Methods may be called from any thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mutex = threading.Lock()
        self._connection: Connection | None = None
        self._session = 0
        self._owner = secrets.token_hex(16)
        #: Why this process may never commit again.
        self._over: SyncbridgeError | None = None
        #: Confirmed commits.
        self._commits = 0
        #: The commit whose answer was lost.
        self._in_doubt: Changes | None = None
        #: Jobs of a commit that was reported as failed and did happen: nobody was promised them, so they go again.
        self._ghosts: list[int] = []
        self.functions: dict[bytes, int] = {}
        self.queue_id = ""
        self.next_id = 1
        self.promise = Promise.MEMORY
        try:
            self._connect()
        except BaseException:
            self._drop()
            raise

    # -- committing ----------------------------------------------------------------------------------------------

    def commit(self, changes: Changes) -> None:
        """All of it or nothing. A broken connection is replaced at once, as long as that takes no time."""
        with self._mutex:
            deadline = time.monotonic() + self._engine.address.timeout / 2
            while True:
                if self._ready(changes):
                    return
                try:
                    self._transact(changes)
                    return
                except Exception as error:
                    self._fail(error, retry=time.monotonic() < deadline)

    def settle(self) -> None:
        """Before reading: what a commit left in doubt is found out, and what it should not have left is removed."""
        if self._in_doubt is None and not self._ghosts:
            return
        with self._mutex:
            self._ready(None)
            if self._ghosts:
                try:
                    self._transact(Changes())
                except Exception as error:
                    self._fail(error, retry=False)

    def close(self) -> None:
        with self._mutex:
            self._drop()

    def _fail(self, error: Exception, *, retry: bool) -> None:
        """Back to a connection that can be used, or none. Returns only to have it tried again."""
        connection = self._connection
        alive = False
        if connection is not None and not isinstance(error, _LostLockError):
            with suppress(Exception):
                connection.rollback()
                alive = not connection.invalidated
        if alive:
            self._in_doubt = None  # the server answered: it did not happen
        else:
            self._drop()
        if isinstance(error, SyncbridgeError) and not isinstance(error, _LostLockError):
            raise error
        if alive or not retry:
            raise self._transient(error) from error

    def _transient(self, error: Exception) -> TransientError:
        if isinstance(error, TransientError):
            return error
        failure = self._engine.failure("written", error)
        return failure if isinstance(failure, TransientError) else TransientError(str(failure), hint=failure.hint)

    def _transact(self, changes: Changes) -> None:
        connection = self._connection
        assert connection is not None
        try:
            written = self._write(connection, changes, exact=False)
        except Exception as error:
            if not isinstance(error, Mismatch) and not self._engine.is_duplicate(error):
                raise
            connection.rollback()
            written = self._write(connection, changes, exact=True)
        self._in_doubt = changes
        connection.commit()
        self._in_doubt = None
        self._commits += 1
        self._ghosts = []
        self.next_id = max(self.next_id, changes.reserve)
        if written.new_functions:
            self.functions |= written.new_functions

    def _write(self, connection: Connection, changes: Changes, *, exact: bool) -> Transaction:
        # First of all, so that whoever is not the owner any more gets no further.
        mine = connection.exec_driver_sql(
            f"UPDATE {meta.name} SET commits = {self._commits + 1}, next_id = {max(self.next_id, changes.reserve)} "  # noqa: S608
            f"WHERE id = 1 AND commits = {self._commits} AND owner = '{self._owner}'"
        )
        if mine.rowcount != 1:
            raise _LostLockError("the lock was lost")
        transaction = Transaction(connection, self._engine, self.functions, exact=exact)
        if self._ghosts:
            transaction.undo(self._ghosts)
        transaction.write(changes)
        return transaction

    # -- connecting ----------------------------------------------------------------------------------------------

    def _ready(self, changes: Changes | None) -> bool:
        """Connect if need be. True: `changes` were in doubt, and did happen."""
        if self._over is not None:
            raise self._over
        if self._connection is not None:
            return False
        doubted, self_happened = self._in_doubt, False
        try:
            happened = self._connect()
        except SyncbridgeError as error:
            self._drop()
            raise error if isinstance(error, TransientError) else TransientError(str(error), hint=error.hint) from error
        except BaseException:
            self._drop()
            raise
        if happened and doubted is not None:
            self._ghosts = []
            if doubted is changes:
                self_happened = True
            else:
                self._ghosts = [record.id for record in doubted.adds]
        return self_happened

    def _connect(self) -> bool:
        """True: the commit in doubt did happen."""
        engine = self._engine
        try:
            self._connection = connection = engine.connect()
            locked = engine.lock(connection)
            if not locked and self.queue_id and self._is_owner(connection):
                engine.end(connection, self._session)
                locked = engine.lock(connection)
            if not locked:
                self._refuse_second()
            engine.check(connection)
            connection.rollback()  # what was read so far may be older than the lock
            happened = self._resume(connection) if self.queue_id else self._open(connection)
            self._session = engine.session(connection)
            self.promise = engine.promise(connection)
            self.functions = {name: number for number, name in connection.execute(select(function))}
            connection.rollback()
        except SyncbridgeError:
            raise
        except Exception as error:
            raise engine.failure("opened" if not self.queue_id else "reached", error) from error
        self._in_doubt = None
        return happened

    def _open(self, connection: Connection) -> bool:
        """The first time in this process."""
        if not inspect(connection).has_table(meta.name) or connection.execute(select(meta.c.id)).first() is None:
            metadata.create_all(connection)
            row = {"id": 1, "format": FORMAT, "queue_id": secrets.token_hex(16), "owner": "", "commits": 0}
            connection.execute(insert(meta).values(next_id=last_job(connection) + 1, **row))
            connection.commit()
        stored = connection.execute(select(meta)).one()
        if stored.format != FORMAT:
            raise ConfigError(
                f"queue store {self._engine.address} has format {stored.format}, this syncbridge reads format {FORMAT}",
                hint="run the syncbridge version that wrote it, or point queue.store at another database",
            )
        self._commits = stored.commits
        self.next_id = max(stored.next_id, last_job(connection) + 1)
        connection.execute(update(meta).values(owner=self._owner))
        # Names that only finished jobs used.
        connection.execute(delete(backlog).where(backlog.c.jobs <= 0))
        connection.execute(delete(function).where(function.c.id.not_in(select(backlog.c.function_id))))
        connection.commit()
        self.queue_id = stored.queue_id
        return False

    def _resume(self, connection: Connection) -> bool:
        """Again, after a lost connection: is it still our queue, and where did we stop?"""
        stored: Any = connection.execute(select(meta)).first()
        if stored is None or stored.queue_id != self.queue_id:
            self._stop("is another queue now", "restart this server, which then serves that one")
        if stored.owner != self._owner:
            self._stop("was taken over by another server while this one had lost it", "stop one of the two servers")
        happened = bool(stored.commits == self._commits + 1)
        if stored.commits != self._commits and not (happened and (self._in_doubt is not None or self._ghosts)):
            logger.error(
                "queue store %s is at commit %d, not %d: its server lost or gained what was committed",
                self._engine.address,
                stored.commits,
                self._commits,
            )
        self._commits = stored.commits
        self.next_id = max(self.next_id, stored.next_id)
        logger.warning("queue store %s: connected again", self._engine.address)
        return happened

    def _is_owner(self, connection: Connection) -> bool:
        owner = connection.scalar(select(meta.c.owner))
        return bool(owner == self._owner)

    def _refuse_second(self) -> NoReturn:
        raise TransientError(
            f"queue store {self._engine.address} is in use by another process",
            hint="stop the other syncbridge server, or give this one a database of its own",
        )

    def _stop(self, what: str, hint: str) -> NoReturn:
        self._over = TransientError(f"queue store {self._engine.address} {what}: no more commits", hint=hint)
        logger.critical("%s; %s", self._over, hint)
        raise self._over

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.invalidate()
            with suppress(Exception):
                connection.close()


class _LostLockError(Exception):
    """The meta row no longer says what this process left there."""
