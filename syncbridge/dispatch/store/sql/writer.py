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
from typing import Any, Final, NoReturn

from sqlalchemy import Connection, delete, insert, inspect, select, update

from syncbridge.dispatch.store import Changes, Promise
from syncbridge.dispatch.store.sql.engine import Engine
from syncbridge.dispatch.store.sql.tables import FORMAT, backlog, function, meta, metadata
from syncbridge.dispatch.store.sql.transaction import Mismatch, Transaction, last_job
from syncbridge.errors import ConfigError, SyncbridgeError, TransientError

logger = logging.getLogger(__name__)

#: With more function names than this, those without jobs are forgotten.
_CROWDED: Final = 10_000


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
        #: See JobStore.
        self.sync_seconds = 0.0
        #: Confirmed commits.
        self._commits = 0
        #: The commit whose answer was lost.
        self._in_doubt: Changes | None = None
        #: A commit that was reported as failed and did happen.
        self._undo: Changes | None = None
        self.functions: dict[bytes, int] = {}
        self._next_function = 1
        self._crowded = _CROWDED
        self.queue_id = ""
        #: What the queue is called should it turn out to have lost confirmed commits.
        self._successor = secrets.token_hex(16)
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
        if self._in_doubt is None and self._undo is None:
            return
        with self._mutex:
            self._ready(None)
            if self._undo is not None:
                try:
                    self._transact(Changes())
                except Exception as error:
                    self._fail(error, retry=False)

    def close(self) -> None:
        with self._mutex:
            self._drop()

    def _fail(self, error: Exception, *, retry: bool) -> None:
        """Back to a connection that can be used, or none. Returns only to have it tried again."""
        connection, alive = self._connection, False
        if connection is not None and not isinstance(error, _LostLockError):
            with suppress(Exception):
                connection.rollback()
                alive = not connection.invalidated
        if alive:
            self._in_doubt = None  # the server answered: it did not happen
        else:
            self._drop()
        if alive or not retry:
            raise _transient(self._engine.failure("written", error)) from error

    def _transact(self, changes: Changes) -> None:
        if len(self.functions) > self._crowded:
            self._commit(Changes(), tidy=True)
            self._crowded = max(_CROWDED, 2 * len(self.functions))
        self._commit(changes)

    def _commit(self, changes: Changes, *, tidy: bool = False) -> None:
        connection = self._connection
        assert connection is not None
        try:
            written = self._write(connection, changes, exact=self._undo is not None)
        except Exception as error:
            if not isinstance(error, Mismatch) and not self._engine.is_duplicate(error):
                raise
            connection.rollback()
            written = self._write(connection, changes, exact=True)
        left = _forget_idle_functions(connection) if tidy else {}
        started = time.perf_counter()
        try:
            connection.commit()
        except Exception:
            self._in_doubt = changes
            raise
        self.sync_seconds = time.perf_counter() - started
        self._commits += 1
        self._undo = None
        self.next_id = max(self.next_id, changes.reserve)
        if tidy:
            self._learn(left)
        elif written.new_functions:
            self._learn(self.functions | written.new_functions)

    def _write(self, connection: Connection, changes: Changes, *, exact: bool) -> Transaction:
        # First of all, so that whoever is not the owner any more gets no further.
        mine = connection.exec_driver_sql(
            f"UPDATE {meta.name} SET commits = {self._commits + 1}, next_id = {max(self.next_id, changes.reserve)} "  # noqa: S608
            f"WHERE id = 1 AND commits = {self._commits} AND owner = '{self._owner}'"
        )
        if mine.rowcount != 1:
            raise _LostLockError("the lock was lost")
        transaction = Transaction(connection, self._engine, self.functions, self._next_function, exact=exact)
        if self._undo is not None:
            transaction.undo(self._undo)
        transaction.write(changes)
        return transaction

    def _learn(self, functions: dict[bytes, int]) -> None:
        """A number is not given twice in a process: the reader may still have it for its former name."""
        self.functions = functions
        self._next_function = max(self._next_function, max(functions.values(), default=0) + 1)

    # -- connecting ----------------------------------------------------------------------------------------------

    def _ready(self, changes: Changes | None) -> bool:
        """Connect if need be. True: `changes` were in doubt, and did happen."""
        if self._over is not None:
            raise self._over
        if self._connection is not None:
            return False
        try:
            happened = self._connect()
        except SyncbridgeError as error:
            self._drop()
            raise _transient(error) from error
        except BaseException:
            self._drop()
            raise
        if happened is None:
            return False
        self._undo = None if happened is changes else happened
        return happened is changes

    def _connect(self) -> Changes | None:
        """The commit that was in doubt, if it did happen."""
        engine = self._engine
        try:
            self._connection = connection = engine.connect()
            self._lock(connection)
            engine.check(connection)
            session, promise = engine.session(connection), engine.promise(connection)
            connection.rollback()  # what was read so far may be older than the lock
            stored = self._stored(connection) if self.queue_id else self._open(connection)
            functions = _functions(connection)
            connection.rollback()
        except SyncbridgeError:
            raise
        except Exception as error:
            raise engine.failure("reached" if self.queue_id else "opened", error) from error
        # From here on nothing can go wrong, so that what was found out is not forgotten.
        self._session, self.promise = session, promise
        self._learn(functions)
        self.next_id = max(self.next_id, stored.next_id)
        return self._outcome(stored)

    def _lock(self, connection: Connection) -> None:
        engine = self._engine
        locked = engine.lock(connection)
        if not locked and self.queue_id and connection.scalar(select(meta.c.owner)) == self._owner:
            engine.end(connection, self._session)
            locked = engine.lock(connection)
        if not locked:
            raise TransientError(
                f"queue store {engine.address} is in use by another process",
                hint="stop the other syncbridge server, or give this one a database of its own",
            )

    def _open(self, connection: Connection) -> Any:
        """The first time in this process: the meta row, made if there is none."""
        if not inspect(connection).has_table(meta.name) or connection.execute(select(meta.c.id)).first() is None:
            metadata.create_all(connection)
            row = {"id": 1, "format": FORMAT, "queue_id": secrets.token_hex(16), "owner": "", "commits": 0}
            connection.execute(insert(meta).values(next_id=1, **row))
            connection.commit()
        stored = connection.execute(select(meta)).one()
        if stored.format != FORMAT:
            raise ConfigError(
                f"queue store {self._engine.address} has format {stored.format}, this syncbridge reads format {FORMAT}",
                hint="run the syncbridge version that wrote it, or point queue.store at another database",
            )
        self.next_id = last_job(connection) + 1
        connection.execute(update(meta).values(owner=self._owner))
        _forget_idle_functions(connection)
        connection.commit()
        self._commits, self.queue_id = stored.commits, stored.queue_id
        return stored

    def _stored(self, connection: Connection) -> Any:
        """Again, after a lost connection: the meta row, if it is still our queue."""
        stored = connection.execute(select(meta)).first()
        if stored is None or stored.queue_id not in (self.queue_id, self._successor):
            self._stop("is another queue now", "restart this server, which then serves that one")
        if stored.owner != self._owner:
            self._stop("was taken over by another server while this one had lost it", "stop one of the two servers")
        if stored.queue_id == self.queue_id and stored.commits not in (self._commits, self._commits + 1):
            # Set back: restored, or a server that promises less than FULL crashed. Whoever kept a position for this
            # queue must see that it is no longer the same one.
            logger.error(
                "queue store %s is at commit %d, not %d: its server lost commits; the queue gets a new id",
                self._engine.address,
                stored.commits,
                self._commits,
            )
            connection.execute(update(meta).values(queue_id=self._successor))
            connection.commit()
            stored = connection.execute(select(meta)).one()
        logger.warning("queue store %s: connected again", self._engine.address)
        return stored

    def _outcome(self, stored: Any) -> Changes | None:
        doubted, self._in_doubt = self._in_doubt, None
        expected, self._commits = self._commits, stored.commits
        if stored.queue_id == self._successor:
            self.queue_id, self._successor = self._successor, secrets.token_hex(16)
        return doubted if stored.commits == expected + 1 else None

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


def _functions(connection: Connection) -> dict[bytes, int]:
    return {bytes(name): number for number, name in connection.execute(select(function))}


def _forget_idle_functions(connection: Connection) -> dict[bytes, int]:
    """Names that only finished jobs used go; the others are returned."""
    connection.execute(delete(backlog).where(backlog.c.jobs <= 0))
    connection.execute(delete(function).where(function.c.id.not_in(select(backlog.c.function_id))))
    return _functions(connection)


def _transient(error: SyncbridgeError) -> TransientError:
    """A server that runs does not give up because somebody changed its account: it waits."""
    return error if isinstance(error, TransientError) else TransientError(str(error), hint=error.hint)
