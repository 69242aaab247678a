"""What a server says about the UDF library: where libraries lie, which functions it has, whose they are. Reads only."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

from syncbridge.capture.connection import identify, source_errors
from syncbridge.capture.sql import quote
from syncbridge.commands.checks.gather import grants, quoted_account, rows
from syncbridge.commands.checks.privileges import Privileges
from syncbridge.commands.checks.source import is_on
from syncbridge.commands.gearman_udf.source import LIBRARY, PREFIX

#: What making and dropping functions takes, on the table that remembers them.
PRIVILEGES = ("INSERT", "DELETE")
_NOT_CONNECTED = (2006, 2013)
_VARIABLES = ("plugin_dir", "hostname", "log_bin", "secure_file_priv", "datadir", "init_file", "super_read_only")


@dataclass(frozen=True, slots=True, kw_only=True)
class UdfFacts:
    """One server, as far as the library is concerned."""

    #: Without a password.
    address: str
    version_text: str
    #: `user`@`host` as GRANT wants it, and what SHOW GRANTS says.
    account: str
    grants: tuple[str, ...]
    variables: dict[str, str]
    #: plugin_dir is a folder of this machine.
    local: bool
    #: Function -> library file, of all that begin with gman_; None where the account may not read mysql.func.
    libraries: dict[str, str] | None
    #: The number of the library that answers; 0: it has none, an older one; None: nothing of ours answers.
    loaded: int | None
    #: What gman_stats() says; empty where it does not answer.
    stats: dict[str, Any] = field(default_factory=dict)
    #: (db, table) whose triggers call such functions.
    callers: tuple[tuple[str, str], ...] = ()

    @property
    def plugin_dir(self) -> Path:
        return Path(self.variables.get("plugin_dir", ""))

    @property
    def library(self) -> Path:
        """Where the library belongs, on the server's machine."""
        return self.plugin_dir / LIBRARY

    @property
    def unprivileged(self) -> list[str]:
        """What the account lacks for making functions."""
        return Privileges(self.grants).missing(PRIVILEGES, "mysql", "func")

    @property
    def without_grant_tables(self) -> bool:
        """A server started with --skip-grant-tables loads no functions."""
        return self.account.startswith("`skip-grants")

    def has(self, name: str) -> bool:
        """A global variable is ON."""
        return is_on(self.variables, name)

    def foreign(self) -> list[str]:
        """Library files of others that have functions of our names."""
        return sorted({file for file in (self.libraries or {}).values() if file != LIBRARY})


def udf_facts(connection: Any, address: str) -> UdfFacts:
    """Ask the server behind an open connection. Raises ConfigError or TransientError."""
    with source_errors():
        server = identify(connection)
        names = ", ".join(f"'{name}'" for name in _VARIABLES)
        found = rows(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
        variables = {name.lower(): str(value or "") for name, value in found}
        stats = stats_of(connection)
        return UdfFacts(
            address=address,
            version_text=server.version_text,
            account=quoted_account(rows(connection, "SELECT CURRENT_USER()")[0][0]),
            grants=grants(connection),
            variables=variables,
            local=variables.get("hostname") == socket.gethostname() and Path(variables["plugin_dir"]).is_dir(),
            libraries=_libraries(connection),
            loaded=None if stats is None else int(stats.get("version", 0)),
            stats=stats or {},
            callers=_callers(connection),
        )


def stats_of(connection: Any) -> dict[str, Any] | None:
    """gman_stats(), None where there is no such function."""
    try:
        (text,) = rows(connection, f"SELECT CONVERT({PREFIX}stats() USING utf8mb4)")[0]
    except pymysql.MySQLError as error:
        if error.args and error.args[0] in _NOT_CONNECTED:
            raise
        return None
    found: dict[str, Any] = json.loads(text)
    return found


def _libraries(connection: Any) -> dict[str, str] | None:
    try:
        found = rows(connection, "SELECT name, dl FROM mysql.func WHERE LEFT(name, %s) = %s", (len(PREFIX), PREFIX))
    except pymysql.MySQLError as error:
        if error.args and error.args[0] in _NOT_CONNECTED:
            raise
        return None
    return dict(found)


def _callers(connection: Any) -> tuple[tuple[str, str], ...]:
    sql = (
        "SELECT DISTINCT event_object_schema, event_object_table FROM information_schema.triggers "
        "WHERE LOCATE(%s, LOWER(action_statement)) > 0 ORDER BY 1, 2"
    )
    return tuple((str(db), str(table)) for db, table in rows(connection, sql, (PREFIX,)))


def table_name(db: str, table: str) -> str:
    """Quoted."""
    return f"{quote(db)}.{quote(table)}"
