"""Asking the source for the facts that `check` judges. Reads only; one connection for each server."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pymysql

from syncbridge.capture.connection import source_errors
from syncbridge.capture.schema import load_tables
from syncbridge.capture.sql import quote
from syncbridge.capture.trigger.primaries import SEVERAL_PRIMARIES
from syncbridge.commands.checks import locks
from syncbridge.commands.checks.source import ServerFacts
from syncbridge.commands.checks.tables import ForeignKey, TableFacts
from syncbridge.config import Config

_VARIABLES = (
    "log_bin", "binlog_format", "binlog_row_image", "binlog_row_metadata", "binlog_row_value_options",
    "binlog_expire_logs_seconds", "expire_logs_days", "gtid_mode", "binlog_order_commits", "sync_binlog",
    "innodb_flush_log_at_trx_commit", "read_only", "super_read_only", "log_slave_updates", "log_replica_updates",
    "log_bin_trust_function_creators", *SEVERAL_PRIMARIES, *locks.VARIABLES,
)  # fmt: skip


def server_facts(connection: Any, address: str) -> ServerFacts:
    """Facts of the server behind an open connection."""
    with source_errors():
        (version_text, comment, server_id, account), *_ = rows(
            connection, "SELECT VERSION(), @@version_comment, @@server_id, CURRENT_USER()"
        )
        mariadb = "mariadb" in f"{version_text} {comment}".lower()
        names = ", ".join(f"'{name}'" for name in _VARIABLES)
        variables = rows(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
        do, ignore = _binlog_filters(connection)
        return ServerFacts(
            address=address,
            flavor="mariadb" if mariadb else "mysql",
            version_text=version_text,
            server_id=int(server_id),
            variables={name.lower(): value for name, value in variables},
            account=quoted_account(account),
            grants=grants(connection),
            replicas=_replicas(connection),
            binlog_do=do,
            binlog_ignore=ignore,
            is_replica=bool(_any(connection, "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")),
        )


def version_of(facts: ServerFacts) -> tuple[int, ...]:
    """(10, 11, 4) of "5.5.5-10.11.4-MariaDB-log"."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", facts.version_text.removeprefix("5.5.5-"))
    return tuple(int(part or 0) for part in match.groups()) if match else (0,)


def table_facts(connection: Any, config: Config) -> list[TableFacts]:
    """Facts of every mapped table: those that a mapping names, and those that `db.*` finds."""
    with source_errors():
        names = mapped_tables(connection, config)
        schemas = load_tables(connection, names)
        kinds = _kinds(connection, names)
        unique, keys = _unique(connection, names), _foreign_keys(connection, names)
        facts = []
        for name in names:
            kind, engine = kinds.get(name, ("BASE TABLE", "InnoDB"))
            facts.append(
                TableFacts(
                    db=name[0],
                    table=name[1],
                    schema=schemas.get(name),
                    kind=kind,
                    engine=engine or "",
                    unique=tuple(unique[name]),
                    foreign_keys=tuple(keys[name]),
                    select_error=_select_error(connection, name) if name in schemas else "",
                )
            )
    return facts


def mapped_tables(connection: Any, config: Config) -> list[tuple[str, str]]:
    """(db, table) of everything that the mappings cover, whether it exists or not."""
    names: list[tuple[str, str]] = []
    for mapping in config.table_mappings:
        if mapping.wildcard:
            sql = (
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'BASE TABLE'"
            )
            names += [(mapping.db, row[0]) for row in rows(connection, f"{sql} ORDER BY TABLE_NAME", (mapping.db,))]
        else:
            names.append((mapping.db, mapping.table.partition(".")[2]))
    return list(dict.fromkeys(names))


def rows(connection: Any, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query, bytes decoded."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return [tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in cursor.fetchall()]


def _any(connection: Any, *statements: str) -> list[tuple[Any, ...]]:
    """The rows of the first statement that this server knows and this account may use; none if there is no such."""
    for sql in statements:
        try:
            return rows(connection, sql)
        except (pymysql.err.ProgrammingError, pymysql.err.OperationalError, pymysql.err.InternalError) as error:
            if error.args and error.args[0] in (2006, 2013):
                raise
    return []


def quoted_account(account: str) -> str:
    """`user`@`host` of user@host."""
    user, _, host = account.rpartition("@")
    return f"{quote(user)}@{quote(host)}"


def grants(connection: Any) -> tuple[str, ...]:
    """What SHOW GRANTS says of this account and its active roles."""
    lines = [row[0] for row in _any(connection, "SHOW GRANTS")]
    role = _any(connection, "SELECT CURRENT_ROLE()")
    active = role[0][0] if role else None
    if active and active != "NONE":
        # MySQL lists several, quoted and with hosts; MariaDB one, bare.
        mysql = f"SHOW GRANTS FOR CURRENT_USER() USING {active}"
        lines += [row[0] for row in _any(connection, mysql, f"SHOW GRANTS FOR {quote(active)}")]
    return tuple(lines)


def _replicas(connection: Any) -> tuple[tuple[int, str], ...]:
    found = _any(connection, "SHOW REPLICAS", "SHOW SLAVE HOSTS")
    return tuple((int(row[0]), str(row[1] or "")) for row in found)


def _binlog_filters(connection: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = _any(connection, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
    if not found:
        return (), ()
    do, ignore = (tuple(name for name in str(text or "").split(",") if name) for text in found[0][2:4])
    return do, ignore


def _kinds(connection: Any, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str | None]]:
    found = _about(connection, names, "TABLE_TYPE, ENGINE FROM information_schema.TABLES", "TABLE_SCHEMA, TABLE_NAME")
    return {(db, table): (kind, engine) for db, table, kind, engine in found}


def _unique(connection: Any, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[tuple[str, ...]]]:
    indexes: dict[tuple[str, str], dict[str, list[str | None]]] = defaultdict(lambda: defaultdict(list))
    for db, table, index, column in _about(
        connection,
        names,
        "INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS",
        "TABLE_SCHEMA, TABLE_NAME",
        "AND NON_UNIQUE = 0 ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX",
    ):
        indexes[db, table][index].append(column)
    unique: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
    for name, found in indexes.items():
        # A functional index has parts that are no column.
        unique[name] = [tuple(c for c in columns if c) for columns in found.values() if all(columns)]
    return unique


def _foreign_keys(connection: Any, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[ForeignKey]]:
    parts: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    parents: dict[tuple[str, str, str], str] = {}
    for db, table, name, column, parent_db, parent, parent_column in _about(
        connection,
        names,
        "CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME"
        " FROM information_schema.KEY_COLUMN_USAGE",
        "TABLE_SCHEMA, TABLE_NAME",
        "AND REFERENCED_TABLE_NAME IS NOT NULL ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION",
    ):
        parts[db, table, name].append((column, parent_column))
        parents[db, table, name] = f"{parent_db}.{parent}"
    keys: dict[tuple[str, str], list[ForeignKey]] = defaultdict(list)
    for db, table, name, on_delete, on_update in _about(
        connection,
        names,
        "CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS",
        "CONSTRAINT_SCHEMA, TABLE_NAME",
    ):
        columns = parts[db, table, name]
        keys[db, table].append(
            ForeignKey(
                name=name,
                columns=tuple(child for child, _ in columns),
                parent=parents.get((db, table, name), ""),
                parent_columns=tuple(parent for _, parent in columns),
                on_delete=on_delete,
                on_update=on_update,
            )
        )
    return keys


def _about(
    connection: Any, names: Sequence[tuple[str, str]], what: str, name_columns: str, rest: str = ""
) -> list[tuple[Any, ...]]:
    """Rows of an information_schema table for these tables: their names first, then `what`."""
    if not names:
        return []
    chosen = ",".join(["(%s,%s)"] * len(names))
    return rows(
        connection,
        f"SELECT {name_columns}, {what} WHERE ({name_columns}) IN ({chosen}) {rest}",
        [part for name in names for part in name],
    )


def _select_error(connection: Any, name: tuple[str, str]) -> str:
    try:
        rows(connection, f"SELECT * FROM {quote(name[0])}.{quote(name[1])} LIMIT 0")  # noqa: S608 - quoted
    except (pymysql.err.OperationalError, pymysql.err.ProgrammingError) as error:
        if error.args[0] in (2006, 2013):
            raise
        return str(error.args[1])
    return ""
