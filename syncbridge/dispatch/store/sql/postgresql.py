"""PostgreSQL, through psycopg 3 (the extra `syncbridge[postgresql]`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from typing import Any, ClassVar, Final

import psycopg
from psycopg import errors
from sqlalchemy import BigInteger, Connection, Integer, SmallInteger, Table, text

from syncbridge.dispatch.store import Promise
from syncbridge.dispatch.store.sql.engine import Engine

logger = logging.getLogger(__name__)

#: Advisory locks are per database; several queues in one may lie in several schemas.
_LOCK: Final = "7962110, hashtext(current_schema())"

_ACCOUNT: Final = ("28P01", "28000", "3D000")
_ACCOUNT_TEXT: Final = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist")
_PRIVILEGE: Final = ("42501", "3F000")
_LAYOUT: Final = ("42703", "42804")
_TLS_TEXT: Final = ("certificate", "server does not support SSL", "SSL error")


class TimedConnection(psycopg.Connection[Any]):
    """psycopg waits for answers without end: a server that freezes would take our thread along."""

    #: Seconds that one answer may take.
    patience = 5.0

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        # The loop that drives it comes by at least every 0.1 s, whether there is something or not.
        deadline = time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send((yield wanted))
                if time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {self.patience:g} s")
        except StopIteration as done:
            return done.value


class PostgreSQL(Engine):
    dialect: ClassVar[str] = "postgresql+psycopg"
    add_counts: ClassVar[str] = (
        "ON CONFLICT (function_id, priority, state) DO UPDATE SET "
        "jobs = syncbridge_queue_backlog.jobs + excluded.jobs, bytes = syncbridge_queue_backlog.bytes + excluded.bytes"
    )

    def _connect(self) -> Any:
        address = self.address
        connection = TimedConnection.connect(
            host=address.socket or address.host,
            port=address.port,
            user=address.user,
            password=address.password or None,
            dbname=address.database,
            connect_timeout=max(2, int(address.timeout)),
            application_name="syncbridge",
            client_encoding="UTF8",
            autocommit=True,
            **self._tls(),
        )
        connection.patience = address.timeout
        try:
            connection.execute(self._settings())
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    def _settings(self) -> str:
        """A session may choose how long its commits wait; what it cannot choose is in promise()."""
        timeout = int(self.address.timeout * 1000)
        wait = "set_config('synchronous_commit', 'off', false)"
        if self.durability is Promise.FULL:
            wait = wait.replace("off", "on")
            wait = f"CASE current_setting('synchronous_commit') WHEN 'off' THEN {wait} END"
        limits = ", ".join(
            f"set_config('{name}', '{timeout}', false)" for name in ("statement_timeout", "lock_timeout")
        )
        return f"SELECT {limits}, {wait}"

    def _tls(self) -> dict[str, Any]:
        address = self.address
        if not address.tls:
            return {} if address.ssl else {"sslmode": "disable"}
        found = {"sslrootcert": address.ssl_ca, "sslcert": address.ssl_cert, "sslkey": address.ssl_key}
        verified = address.ssl_verify and bool(address.ssl_ca)
        return {"sslmode": "verify-full" if verified else "require"} | {
            name: path for name, path in found.items() if path and (verified or name != "sslrootcert")
        }

    def _engine_arguments(self) -> dict[str, Any]:
        return {"use_native_hstore": False}

    # -- the lock ------------------------------------------------------------------------------------------------

    def lock(self, connection: Connection) -> bool:
        deadline = time.monotonic() + self.lock_wait
        while not connection.execute(text(f"SELECT pg_try_advisory_lock({_LOCK})")).scalar():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def session(self, connection: Connection) -> int:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    def end(self, connection: Connection, session: int) -> None:
        ended = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = :pid "
                "AND classid = 7962110 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ),
            {"pid": session},
        ).scalar()
        if ended:
            logger.warning("queue store %s: ended our former connection %d", self.address, session)

    # -- what it is ----------------------------------------------------------------------------------------------

    def promise(self, connection: Connection) -> Promise:
        """With synchronous_commit=off (durability: batch), a crash of PostgreSQL itself takes up to 0.6 s of jobs."""
        synchronous, synced = connection.execute(
            text("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
        ).one()
        return Promise.FULL if synchronous != "off" and synced == "on" else Promise.BATCH

    def check(self, connection: Connection) -> None:
        """Any PostgreSQL will do."""

    # -- writing -------------------------------------------------------------------------------------------------

    def insert(self, connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """COPY: twice as fast as INSERT, and no statement to plan."""
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types([_type(column.type) for column in table.columns])
            for row in rows:
                copy.write_row(row)

    def is_duplicate(self, error: Exception) -> bool:
        return isinstance(getattr(error, "orig", error), errors.UniqueViolation)

    # -- errors --------------------------------------------------------------------------------------------------

    def describe(self, error: Exception) -> tuple[str, str]:
        words = str(error)
        state = getattr(error, "sqlstate", None) or ""
        # What is refused while connecting comes without a state.
        connecting = isinstance(error, psycopg.OperationalError) and not state
        if state in _ACCOUNT or (connecting and any(part in words for part in _ACCOUNT_TEXT)):
            return words, "check user, password and database in the store's URL, and that the database exists"
        if state in _PRIVILEGE:
            return words, "GRANT ALL ON SCHEMA public TO the account of the store's URL, or give it a schema of its own"
        if state in _LAYOUT:
            return words, "its syncbridge_queue_ tables were not made by this version; use another database"
        if connecting and any(part in words for part in _TLS_TEXT):
            return words, "check ssl_ca, ssl_cert, ssl_key and ssl_verify in the store's URL"
        return words, ""


def _type(kind: Any) -> str:
    if isinstance(kind, SmallInteger):
        return "int2"
    if isinstance(kind, BigInteger):
        return "int8"
    return "int4" if isinstance(kind, Integer) else "bytea"
