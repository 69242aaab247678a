"""MySQL and MariaDB, through PyMySQL."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

import pymysql
from pymysql.constants import CLIENT, ER
from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import IntegrityError

from syncbridge.dispatch.store import Promise
from syncbridge.dispatch.store.sql.engine import Engine
from syncbridge.errors import ConfigError

logger = logging.getLogger(__name__)

#: Statements with many rows end at this size, bytes; one row is smaller (a byte is two digits).
_STATEMENT: Final = 1000 << 10
#: What a server must take.
_PACKET: Final = 1 << 20

#: Server-wide names: one queue for each database.
_LOCK: Final = "CONCAT('sbq.', SHA2(DATABASE(), 224))"

_ACCOUNT: Final = {ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.BAD_DB_ERROR, 1698}
_PRIVILEGE: Final = {ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR}
_LAYOUT: Final = {ER.BAD_FIELD_ERROR, ER.WRONG_VALUE_COUNT_ON_ROW}


class MySQL(Engine):
    dialect: ClassVar[str] = "mysql+pymysql"
    add_counts: ClassVar[str] = "ON DUPLICATE KEY UPDATE jobs = jobs + VALUES(jobs), bytes = bytes + VALUES(bytes)"

    def _connect(self) -> Any:
        address = self.address
        connection = pymysql.connect(
            host=address.host,
            port=address.port,
            unix_socket=address.socket or None,
            user=address.user,
            password=address.password.encode(),  # str would be sent as latin1
            database=address.database,
            charset="utf8mb4",
            client_flag=CLIENT.FOUND_ROWS,
            connect_timeout=max(1, int(address.timeout)),
            read_timeout=address.timeout,
            write_timeout=address.timeout,
            init_command="SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
            f"innodb_lock_wait_timeout={max(1, int(address.timeout))}",
            program_name="syncbridge",
            defer_connect=True,
            **self._tls(),
        )
        connection.connect(_unix_socket(address.socket, address.timeout) if address.socket else None)
        return connection

    def _tls(self) -> dict[str, Any]:
        address = self.address
        if not address.tls:
            return {} if address.ssl else {"ssl_disabled": True}
        context = ssl.create_default_context(cafile=address.ssl_ca or None)
        # Servers generate certificates that lack extensions which the strict mode of newer Python demands.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        verified = address.ssl_verify and bool(address.ssl_ca)
        context.check_hostname = verified
        context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
        if address.ssl_cert:
            context.load_cert_chain(address.ssl_cert, address.ssl_key or None)
        return {"ssl": context}

    # -- the lock ------------------------------------------------------------------------------------------------

    def lock(self, connection: Connection) -> bool:
        return bool(connection.execute(text(f"SELECT GET_LOCK({_LOCK}, {self.lock_wait})")).scalar())

    def session(self, connection: Connection) -> int:
        return int(connection.execute(text("SELECT CONNECTION_ID()")).scalar_one())

    def end(self, connection: Connection, session: int) -> None:
        if connection.execute(text(f"SELECT IS_USED_LOCK({_LOCK})")).scalar() == session:
            logger.warning("queue store %s: ending our former connection %d", self.address, session)
            connection.exec_driver_sql(f"KILL {session}")

    # -- what it is ----------------------------------------------------------------------------------------------

    def promise(self, connection: Connection) -> Promise:
        """No session can choose: the log is flushed as the server is set up.

        With a binlog, crash recovery undoes what is not in it: then that must be synced too.
        """
        flush, binlog, sync = connection.execute(
            text("SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog")
        ).one()
        if flush == 0:
            logger.warning(
                "queue store %s: innodb_flush_log_at_trx_commit=0, so a crash of the database server takes up to a "
                "second of jobs; SET GLOBAL innodb_flush_log_at_trx_commit=1 (or 2)",
                self.address,
            )
        return Promise.FULL if flush == 1 and (not binlog or sync == 1) else Promise.BATCH

    def check(self, connection: Connection) -> None:
        packet: int = connection.execute(text("SELECT @@max_allowed_packet")).scalar_one()
        if packet < _PACKET:
            raise ConfigError(
                f"queue store {self.address} has max_allowed_packet={packet}, and {_PACKET} is the least we need",
                hint=f"SET GLOBAL max_allowed_packet={16 * _PACKET}, and in the server's configuration file",
            )

    # -- writing -------------------------------------------------------------------------------------------------

    def insert(self, connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        for values in _statements(rows):
            connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES {values}")  # noqa: S608 - numbers and digits

    def is_duplicate(self, error: Exception) -> bool:
        return isinstance(error, IntegrityError)

    # -- errors --------------------------------------------------------------------------------------------------

    def describe(self, error: Exception) -> tuple[str, str]:
        number, words = 0, str(error)
        if isinstance(error, pymysql.err.MySQLError) and len(error.args) > 1:
            number, words = error.args[0], f"{error.args[1]} ({error.args[0]})"
        original = getattr(error, "original_exception", None) or error
        if number in _ACCOUNT:
            return words, "check user, password and database in the store's URL, and that the database exists"
        if number in _PRIVILEGE:
            return words, f"GRANT ALL ON {self.address.database}.* TO the account of the store's URL"
        if number in _LAYOUT:
            return words, "its syncbridge_queue_ tables were not made by this version; use another database"
        if isinstance(original, ssl.SSLError) or "SSL is required" in words:
            return words, "check ssl_ca, ssl_cert, ssl_key and ssl_verify in the store's URL"
        return words, ""


def _statements(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The rows as text after VALUES, cut into statements of bounded size."""
    found: list[str] = []
    size = 0
    for row in rows:
        values = "(" + ",".join([_literal(value) for value in row]) + ")"
        if found and size + len(values) > _STATEMENT:
            yield ",".join(found)
            found, size = [], 0
        found.append(values)
        size += len(values)
    if found:
        yield ",".join(found)


def _literal(value: int | bytes | None) -> str:
    if value is None:
        return "NULL"
    return f"X'{value.hex()}'" if isinstance(value, bytes) else str(value)


def _unix_socket(path: str, timeout: float) -> socket.socket:
    """A connected socket; PyMySQL would leave its own open when nobody listens."""
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(timeout)
        connected.connect(path)
    except OSError as error:
        connected.close()
        raise pymysql.err.OperationalError(2003, f"nobody answers at {path}: {error.strerror}") from error
    return connected
