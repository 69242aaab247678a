"""Connections to the source: opened by PyMySQL (authentication, TLS), errors turned into ours, the dump started.

Says who the server is and where its binlog stands. Never reads binlog events (stream.py does) and never puts a
password into a text.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pymysql
from pymysql.constants import COMMAND

from syncbridge.capture.gtid import GtidSet
from syncbridge.errors import ConfigError, PermanentError, PositionLost, SyncbridgeError, TransientError

MYSQL, MARIADB = "mysql", "mariadb"

#: Our dump connection may leave the server waiting this long (backpressure) before the server gives up on us.
NET_WRITE_TIMEOUT_S = 24 * 3600

#: Codes of a statement that a table does not fit any more: it, its schema or one of its columns is there no more.
TABLE_CHANGED = frozenset((1049, 1054, 1146))
_ACCESS_DENIED = frozenset((1044, 1045, 1130, 1698, 1862, 3118, 3955))
_PRIVILEGE = frozenset((1142, 1143, 1227, 1370))
_AUTHENTICATION_PLUGIN = frozenset((1251, 1524, 2059, 2061))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """How to reach one server. `ssl_verify`: "" (TLS if the server has it, unverified; with `ssl_ca`: "identity"),
    "off", "required" (encrypted, unverified), "ca" (certificate), "identity" (certificate and host name)."""

    host: str = "127.0.0.1"
    port: int = 3306
    user: str = ""
    password: str = field(default="", repr=False)
    unix_socket: str | None = None
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    ssl_verify: str = ""
    connect_timeout_s: float = 10.0
    read_timeout_s: float | None = None

    @property
    def address(self) -> str:
        return self.unix_socket or f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Who a server is, as far as capture cares."""

    flavor: str  # MYSQL or MARIADB
    version: tuple[int, ...]
    version_text: str
    server_id: int
    identity: str  # MySQL's server_uuid, MariaDB's server_uid; "" where MariaDB is too old to have one
    binlog_checksum: str  # CRC32 or NONE
    gtid: bool  # GTIDs name every transaction (MariaDB: always)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the binlog: the offset `pos` in `file`, and the GTIDs executed up to there ("" where unknown)."""

    file: str
    pos: int
    gtid_set: str = ""


def connect(
    settings: ConnectionSettings, *, autocommit: bool = True, raw: bool = False
) -> pymysql.Connection[pymysql.cursors.Cursor]:
    """Open a connection: utf8mb4, UTC. With `raw` every value comes as the bytes of the text protocol.

    Raises ConfigError (wrong password, unknown host, bad certificate) or TransientError (not reachable now).
    """
    extra: dict[str, Any] = {"conv": {}, "use_unicode": False} if raw else {}
    with source_errors(settings):
        connection = pymysql.connect(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            password=settings.password.encode(),  # bytes: PyMySQL would encode it as latin1
            unix_socket=settings.unix_socket,
            charset="utf8mb4",
            autocommit=autocommit,
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            # PAD_CHAR_TO_FULL_LENGTH would make SELECT print CHAR otherwise than the binlog holds it.
            init_command="SET time_zone='+00:00', sql_mode=REPLACE(@@sql_mode, 'PAD_CHAR_TO_FULL_LENGTH', '')",
            program_name="syncbridge",
            defer_connect=True,
            **_tls(settings),
            **extra,
        )
        if _tls_if_offered(settings):
            # PyMySQL would load every certificate authority of the system for each connection, 25 ms, and trust none.
            vars(connection).update(ssl=True, ctx=_trusting())
        if settings.unix_socket is None:
            connection.connect()
        else:
            connection.connect(_unix_socket(settings.unix_socket, settings.connect_timeout_s))
        return connection


def _unix_socket(path: str, timeout: float) -> socket.socket:
    """A connected socket; PyMySQL would leave its own open when nobody listens."""
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(timeout)
        connected.connect(path)
    except OSError:
        connected.close()
        raise
    return connected


def _verify(settings: ConnectionSettings) -> str:
    return settings.ssl_verify or ("identity" if settings.ssl_ca else "required" if settings.ssl_cert else "")


def _tls_if_offered(settings: ConnectionSettings) -> bool:
    return not _verify(settings)


@cache
def _trusting() -> ssl.SSLContext:
    """Encrypts and verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _tls(settings: ConnectionSettings) -> dict[str, Any]:
    verify = _verify(settings)
    if verify in ("off", ""):
        return {"ssl_disabled": True}
    context = ssl.create_default_context(cafile=settings.ssl_ca)
    # Servers generate certificates that lack extensions which the strict mode of newer Python demands.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = verify == "identity"
    context.verify_mode = ssl.CERT_NONE if verify == "required" else ssl.CERT_REQUIRED
    if settings.ssl_cert:
        context.load_cert_chain(settings.ssl_cert, settings.ssl_key)
    return {"ssl": context}


@contextmanager
def source_errors(settings: ConnectionSettings | None = None) -> Iterator[None]:
    """Turns what PyMySQL and sockets raise inside the block into ConfigError, TransientError, PermanentError."""
    try:
        yield
    except (pymysql.err.MySQLError, OSError) as error:
        raise source_error(error, settings) from error


def source_error(error: Exception, settings: ConnectionSettings | None = None) -> SyncbridgeError:
    """Our error for one of PyMySQL's or the socket's, by what the caller can do about it."""
    where = f"source {settings.address}" if settings else "source"
    user = f"user {settings.user!r}" if settings else "the user"
    code, text = _code_and_text(error)
    original = getattr(error, "original_exception", error)
    if isinstance(original, FileNotFoundError) and not (settings and settings.unix_socket):
        return ConfigError(f"{where}: {original}", hint="check ssl_ca, ssl_cert and ssl_key")
    if isinstance(original, socket.gaierror) and original.errno != socket.EAI_AGAIN:
        return ConfigError(f"{where}: unknown host", hint="check the host name in source.url")
    if isinstance(original, ssl.SSLError):
        return ConfigError(f"{where}: TLS failed: {original}", hint="check ssl_ca, ssl_cert, ssl_key and ssl_verify")
    if code in _ACCESS_DENIED:
        return ConfigError(f"{where} refuses {user}: {text}", hint="check user, password and host of the account")
    if code in _PRIVILEGE:
        return ConfigError(
            f"{where}: {user} lacks a privilege: {text}",
            hint="GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the account of source.url",
        )
    if code in _AUTHENTICATION_PLUGIN:
        return ConfigError(
            f"{where}: {user} authenticates in a way we cannot: {text}",
            hint="give the account caching_sha2_password or mysql_native_password",
        )
    if isinstance(error, pymysql.err.ProgrammingError | pymysql.err.NotSupportedError | pymysql.err.DataError):
        return PermanentError(f"{where} refuses a statement: {text} ({code})")
    return TransientError(f"{where} is not available: {text}", hint="it is tried again")


def _code_and_text(error: Exception) -> tuple[int | None, str]:
    if isinstance(error, pymysql.err.MySQLError) and len(error.args) >= 2:
        return error.args[0], str(error.args[1])
    return None, str(error) or type(error).__name__


def fetch_one(connection: Any, sql: str, arguments: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    """The first row of a query, bytes decoded."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        row = cursor.fetchone()
    return row and tuple(v.decode() if isinstance(v, bytes) else v for v in row)


def identify(connection: Any) -> Server:
    """Ask the server who it is. Raises ConfigError when it is too old."""
    with source_errors():
        return _identify(connection)


def _identify(connection: Any) -> Server:
    row = fetch_one(connection, "SELECT VERSION(), @@version_comment, @@server_id, @@global.binlog_checksum")
    assert row is not None
    version_text, comment, server_id, checksum = row
    mariadb = "mariadb" in f"{version_text} {comment}".lower()
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version_text.removeprefix("5.5.5-"))
    version = tuple(int(number) for number in match.groups()) if match else (0,)
    if version < ((10, 6) if mariadb else (8, 0)):
        raise ConfigError(
            f"source is {'MariaDB' if mariadb else 'MySQL'} {version_text}, which is too old",
            hint="syncbridge reads MariaDB 10.6 or later and MySQL 8.0 or later",
        )
    if mariadb:
        uid = fetch_one(connection, "SHOW GLOBAL VARIABLES LIKE 'server_uid'")
        identity, gtid = (uid[1] if uid else ""), True
    else:
        found = fetch_one(connection, "SELECT @@server_uuid, @@global.gtid_mode")
        assert found is not None
        identity, gtid = found[0], found[1] == "ON"
    return Server(
        flavor=MARIADB if mariadb else MYSQL,
        version=version,
        version_text=version_text,
        server_id=int(server_id),
        identity=identity,
        binlog_checksum=checksum,
        gtid=gtid,
    )


def current_position(connection: Any, server: Server) -> Position:
    """Where the binlog ends now. Raises ConfigError when the server writes none, or when we may not ask."""
    with source_errors():
        return _current_position(connection, server)


def _current_position(connection: Any, server: Server) -> Position:
    new_words = server.flavor == MYSQL and server.version >= (8, 2)
    row = fetch_one(connection, "SHOW BINARY LOG STATUS" if new_words else "SHOW MASTER STATUS")
    if row is None:
        raise ConfigError("source writes no binlog", hint="start the server with log_bin and binlog_format=ROW")
    if server.flavor == MARIADB:
        gtid = fetch_one(connection, "SELECT @@global.gtid_binlog_pos")
        return Position(row[0], int(row[1]), gtid[0] if gtid else "")
    return Position(row[0], int(row[1]), (row[4] or "").replace("\n", "") if server.gtid else "")


def is_read_only(connection: Any) -> bool:
    """Whether the server refuses ordinary writes: a replica, or a primary that was stepped down."""
    with source_errors():
        row = fetch_one(connection, "SELECT @@global.read_only")
    return row is not None and str(row[0]).upper() not in ("0", "OFF")


def binary_logs(connection: Any) -> list[tuple[str, int]]:
    """(file, size in bytes) of every binlog file that the server still has, oldest first."""
    with source_errors(), connection.cursor() as cursor:
        cursor.execute("SHOW BINARY LOGS")
        return [(name.decode() if isinstance(name, bytes) else name, int(size)) for name, size, *_ in cursor.fetchall()]


def start_dump(
    connection: Any,
    server: Server,
    position: Position,
    server_id: int,
    *,
    by_gtid: bool = False,
    heartbeat_s: float = 1.0,
    register: bool = True,
) -> None:
    """Ask the server to send its binlog from `position`: by file and offset, or `by_gtid` whatever is not in gtid_set.

    Afterwards the connection belongs to `BinlogStream`. A position beyond 4 GiB does not fit COM_BINLOG_DUMP: the dump
    then starts at the head of the file, and BinlogReader (given the same position) skips what lies before.
    Raises TransientError, ConfigError; refusals of the position itself come from the stream as PositionLost.
    """
    with source_errors():
        _prepare(connection, server, position, by_gtid=by_gtid, heartbeat_s=heartbeat_s)
        if register:
            _register(connection, server_id)
        file = b"" if by_gtid else position.file.encode()
        offset = 4 if by_gtid else position.pos
        if server.flavor == MYSQL and by_gtid:
            gtids = GtidSet(position.gtid_set).encode()
            command = struct.pack("<HIIQI", _DUMP_THROUGH_GTID, server_id, 0, offset, len(gtids)) + gtids
            connection._execute_command(COMMAND.COM_BINLOG_DUMP_GTID, command)
        else:
            offset = offset if offset <= 0xFFFFFFFF else 4
            connection._execute_command(COMMAND.COM_BINLOG_DUMP, struct.pack("<IHI", offset, 0, server_id) + file)


_DUMP_THROUGH_GTID = 0x04


def _prepare(connection: Any, server: Server, position: Position, *, by_gtid: bool, heartbeat_s: float) -> None:
    nanoseconds = int(heartbeat_s * 1_000_000_000)
    words = ("master", "source") if server.flavor == MYSQL else ("master",)
    assignments = [f"@{word}_binlog_checksum=@@global.binlog_checksum" for word in words]
    assignments += [f"@{word}_heartbeat_period={nanoseconds}" for word in words]
    assignments.append(f"net_write_timeout={NET_WRITE_TIMEOUT_S}")
    if server.flavor == MARIADB:
        assignments.append("@mariadb_slave_capability=4")
        if by_gtid:
            assignments += ["@slave_gtid_strict_mode=0", "@slave_gtid_ignore_duplicates=0"]
    with connection.cursor() as cursor:
        cursor.execute("SET " + ", ".join(assignments))
        if server.flavor == MARIADB and by_gtid:
            cursor.execute("SET @slave_connect_state=%s", (position.gtid_set,))


def _register(connection: Any, server_id: int) -> None:
    """COM_REGISTER_SLAVE: makes SHOW REPLICAS list us. Host, user, password and port are for display only."""
    name = b"syncbridge"
    body = struct.pack("<IB", server_id, len(name)) + name + b"\0\0" + struct.pack("<HII", 0, 0, 0)
    connection._execute_command(COMMAND.COM_REGISTER_SLAVE, body)
    connection._read_packet()


def dump_refused(code: int, text: str) -> SyncbridgeError:
    """Our error for the ERR packet that ended a dump."""
    lower = text.lower()
    if "same server_uuid/server_id" in lower or "same server_id" in lower:
        return TransientError(
            "another replica with our server_id took over the dump and the server closed ours",
            hint="give every replica its own number: set source.server_id to one that no other replica uses",
        )
    if code == 1236:
        return PositionLost(
            f"source no longer has our binlog position: {text}",
            hint="re-snapshot: syncbridge snapshot (and keep binlogs longer: binlog_expire_logs_seconds)",
        )
    return source_error(pymysql.err.OperationalError(code, text))
