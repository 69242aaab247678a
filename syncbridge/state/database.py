"""The state database itself: opening it, creating its tables, and the two ways to use it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.engine.url import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, NoSuchModuleError

from syncbridge.errors import ConfigError, PermanentError, TransientError
from syncbridge.state import tables

#: How long one process waits for another to let go of an SQLite file.
_BUSY_SECONDS = 30


class Database:
    """An engine and the two ways to use it. Safe for threads; SQLite files are shared between processes."""

    def __init__(self, engine: Engine, pipeline: str) -> None:
        self.engine = engine
        self.pipeline = pipeline

    @classmethod
    def open(cls, url: str, pipeline: str) -> Database:
        """Open the database, create what it lacks. ConfigError: no usable URL, or written by a newer syncbridge."""
        database = cls(_engine(url), pipeline)
        try:
            with database.read() as guard, _one_at_a_time(guard), database.write() as connection:
                _create_tables(connection)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, durable when the block ends. Raises TransientError when the database is away.

        PermanentError: it refuses a value.
        """
        with _mapped_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only transaction. Raises TransientError when the database is away."""
        with _mapped_errors(), self.engine.connect().execution_options(syncbridge_read=True) as connection:
            yield connection


@contextmanager
def _one_at_a_time(connection: Connection) -> Iterator[None]:
    """The processes of a new pipeline start together: one creates the tables. (SQLite's BEGIN IMMEDIATE does it.)"""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7962109)")
    if connection.dialect.name not in ("mysql", "mariadb"):
        yield
        return
    connection.exec_driver_sql("SELECT GET_LOCK(CONCAT('sb.', SHA2(DATABASE(), 224)), 30)")
    try:
        yield
    finally:
        connection.exec_driver_sql("SELECT RELEASE_LOCK(CONCAT('sb.', SHA2(DATABASE(), 224)))")


def _create_tables(connection: Connection) -> None:
    tables.metadata.create_all(connection)
    found = connection.execute(select(tables.format_table.c.format)).scalar()
    if found is None:
        connection.execute(insert(tables.format_table).values(format=tables.FORMAT))
    elif found > tables.FORMAT:
        raise ConfigError(
            f"the state database has format {found}, this syncbridge knows {tables.FORMAT}",
            hint="run the syncbridge version that wrote it, or a newer one",
        )


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() in ("mysql", "mariadb"):
            parsed = parsed.set(drivername="mysql+pymysql").update_query_dict({"charset": "utf8mb4"})
            return create_engine(parsed, pool_pre_ping=True, pool_recycle=600, isolation_level="READ COMMITTED")
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(
            "state: this is not a database URL that can be used here",
            hint="write sqlite:///path/state.db or mysql://user:password@host:3306/database",
        ) from error
    if parsed.database:
        _make_private_folder(Path(parsed.database).parent)
        _make_private_file(Path(parsed.database))
    engine = create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private_folder(folder: Path) -> None:
    """Payloads are users' rows: the folder is ours alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"state: cannot create {folder}: {error.strerror}", hint="set state: to a writable path"
        ) from error


def _make_private_file(path: Path) -> None:
    """SQLite would make it readable for everybody; its -wal and -shm files take over these rights."""
    with suppress(OSError):  # what is wrong with it, SQLite says when it opens it
        path.touch(mode=0o600)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin_sqlite
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            # Several processes make a new file's log at once: SQLite then does not wait by itself.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock first: a transaction that reads, then writes, cannot fail half-way as busy.
    reading = connection.get_execution_options().get("syncbridge_read")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


#: What no waiting mends: MySQL's error numbers for wrong account, database and rights, and SQLite's sentences.
_REFUSED = {1044, 1045, 1046, 1049, 1142, 1698}
_REFUSED_TEXT = ("not a database", "unable to open", "readonly database")


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except DataError as error:  # the same tomorrow
        raise PermanentError(
            f"the state database refuses a value: {error.orig}", hint="please report it: every column should hold it"
        ) from error
    except DBAPIError as error:
        reason = error.orig
        number = reason.args[0] if reason is not None and reason.args else None
        if number in _REFUSED or str(number).endswith(_REFUSED_TEXT) or str(number).startswith(_REFUSED_TEXT):
            raise ConfigError(
                f"state: the database cannot be used: {reason}",
                hint="check the path, account, password and database name of state, and that it may be written",
            ) from error
        raise TransientError(
            f"the state database failed: {reason}", hint="check that it is reachable, writable and not full"
        ) from error
