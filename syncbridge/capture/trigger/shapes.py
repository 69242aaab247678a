"""The mapped tables in trigger capture: how each looks now, whether its triggers fit, and whether it was emptied.

There is no binlog to tell of DDL, so the catalogue is looked at every few seconds. IO at the edge: one connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import pymysql

from syncbridge.capture.changes import Shape
from syncbridge.capture.connection import MARIADB, Server
from syncbridge.capture.schema import TableSchema, load_tables
from syncbridge.capture.sql import statements
from syncbridge.capture.tables import Name, Tables, existing_tables
from syncbridge.capture.trigger.columns import reader
from syncbridge.capture.trigger.install import installed
from syncbridge.capture.trigger.render import Trigger, table_triggers
from syncbridge.capture.trigger.reported import Json, Reported
from syncbridge.config import Config
from syncbridge.event import Row

#: What names of files have escapes for.
_ODD = re.compile(r"[^A-Za-z0-9_]")
_NO_PROCESS = 1227


@dataclass(frozen=True, slots=True)
class TableShape:
    """What turns outbox rows of one table into events."""

    schema: TableSchema
    shape: Shape
    read: Callable[[Json], Row]
    #: Columns that tell which Redis keys a row has, and whether it is shown; those of the row's own key among them.
    told_by: frozenset[str]
    #: Columns whose change the source may have refused although a trigger reported it, see constrained().
    refusable: frozenset[str] = frozenset()
    #: Its triggers are those of this schema, so what they write can be read by it.
    current: bool = True

    @classmethod
    def of(cls, schema: TableSchema, tables: Tables, refusable: frozenset[str], *, current: bool) -> TableShape:
        key = tables.key_columns(schema)
        shape = Shape(schema.db, schema.table, key, schema.types(), tables.gone_columns(schema))
        return cls(schema, shape, reader(schema), tables.told_by(schema), refusable, current)

    def may_be_refused(self, old: Row, new: Row) -> bool:
        """Whether this update may never have happened."""
        return any(old[name] != new[name] for name in self.refusable)

    def telling(self, row: Row) -> Row:
        """What of a row's former self still matters: rows that agree in this have the same keys."""
        return {name: value for name, value in row.items() if name in self.told_by}

    def whole(self, written: Json | None) -> Row | None:
        """The row, or None when it must be read from the table: too large for JSON, or of an older trigger."""
        row = self._read(written) if self.current else None
        if row is None or len(row) < len(self.schema.columns):
            return None
        return {column.name: row[column.name] for column in self.schema.columns}

    def _read(self, written: Json | None) -> Row | None:
        """None, too, where it was written when a column had another type."""
        try:
            return None if written is None else self.read(written)
        except (ValueError, TypeError, AttributeError, OverflowError):
            return None

    def names_rows(self, change: Reported) -> bool:
        """Whether the change tells by today's key which rows it is about."""
        keys = [self._read(key) for key in (change.old_key, change.new_key) if key is not None]
        return all(key is not None and key.keys() >= set(self.shape.key_columns) for key in keys)

    def sides(self, change: Reported) -> list[tuple[Row, list[Row]]]:
        """The rows that a change names, each by its key, and what is known of how it looked, as telling() has it.

        Only for one that names_rows().
        """
        named: dict[bytes, tuple[Row, list[Row]]] = {}
        for key, written in ((change.old_key, change.old_row), (change.new_key, change.new_row)):
            if key is None:
                continue
            values = self.read(key)
            _, images = named.setdefault(orjson.dumps(values), (values, []))
            if (image := self.whole(written)) is not None:
                images.append(self.telling(image))
        return list(named.values())


def load(connection: Any, config: Config, tables: Tables) -> dict[Name, TableSchema]:
    """Every mapped table that has a key, as it is now. Raises ConfigError."""
    found = load_tables(connection, existing_tables(connection, config))
    return {name: schema for name, schema in found.items() if tables.mapped(*name) and tables.usable(schema)}


def wanted_triggers(config: Config, server: Server, schemas: dict[Name, TableSchema], tables: Tables) -> list[Trigger]:
    """The triggers that these tables must have."""
    made: list[Trigger] = []
    for schema in schemas.values():
        key = tables.key_columns(schema)
        transport = config.source.trigger.transport
        made += table_triggers(config.name, schema, key, mariadb=server.flavor == MARIADB, transport=transport)
    return made


class Lacking(NamedTuple):
    """Tables by what their triggers lack."""

    #: Some are not there at all.
    missing: list[Name]
    #: Those that are there are older than the table, or than syncbridge.
    older: list[Name]


def lacking(connection: Any, config: Config, wanted: list[Trigger]) -> Lacking:
    """Tables whose triggers are not as they should be."""
    there = installed(connection, config.name)
    places = {(db, table, name.rpartition("_")[0]) for db, table, name in there}
    missing = {(trigger.db, trigger.table) for trigger in wanted if (*trigger.where[:2], trigger.place) not in places}
    older = {(trigger.db, trigger.table) for trigger in wanted if trigger.where not in there}
    return Lacking(sorted(missing), sorted(older - missing))


def constrained(connection: Any, server: Server, names: list[Name]) -> dict[Name, frozenset[str]]:
    """The columns of each table that are part of a key, unique or foreign, from either side. Empty on MySQL.

    MariaDB fires the triggers of an UPDATE IGNORE for rows that it then refuses, too: what they report of such columns
    must be looked up.
    """
    if server.flavor != MARIADB or not names:
        return {}
    sql = (
        "SELECT table_schema, table_name, column_name FROM information_schema.key_column_usage "
        "WHERE (table_schema, table_name) IN %s UNION "
        "SELECT referenced_table_schema, referenced_table_name, referenced_column_name "
        "FROM information_schema.key_column_usage WHERE (referenced_table_schema, referenced_table_name) IN %s"
    )
    columns: dict[Name, set[str]] = {name: set() for name in names}
    with connection.cursor() as cursor:
        cursor.execute(sql, (names, names))
        for db, table, column in cursor.fetchall():
            columns.setdefault((db, table), set()).add(column)
    return {name: frozenset(found) for name, found in columns.items()}


def numbers(connection: Any, server: Server, names: list[Name]) -> dict[Name, frozenset[int]]:
    """InnoDB's numbers of each table, one for each of its partitions: what fires no trigger gives new ones.

    That is TRUNCATE, and what DDL does to partitions; one more number may be rows, too: CONVERT TABLE TO PARTITION.
    Empty where the account lacks PROCESS: then nothing tells of them. Tables whose names differ in odd characters only
    have each other's numbers as well, and are read again together.
    """
    plain = {name: "/".join(_ODD.sub("@", part) for part in name) for name in names}
    if not plain:
        return {}
    sql = statements("innodb")["table-ids"]
    if server.flavor == MARIADB:
        sql = sql.replace("innodb_tables", "innodb_sys_tables")
    found: dict[str, set[int]] = {}
    with connection.cursor() as cursor:
        try:
            cursor.execute(sql, (list(plain.values()),))
        except pymysql.err.OperationalError as error:
            if error.args[0] != _NO_PROCESS:
                raise
            return {}
        for shown, number in cursor.fetchall():
            found.setdefault(shown, set()).add(int(number))
    return {name: frozenset(found[shown]) for name, shown in plain.items() if shown in found}


def look(number: frozenset[int] | None, *, current: bool) -> str:
    """What to remember of a table, for passed_by()."""
    return orjson.dumps({"current": current, "numbers": sorted(number or ())}).decode()


def passed_by(before: str, now: str) -> bool:
    """Whether changes of a table may have gone past its triggers, or were told by others, between two looks at it."""
    old, new = orjson.loads(before), orjson.loads(now)
    if old["current"] != new["current"]:
        return True
    return bool(old["numbers"] and new["numbers"]) and old["numbers"] != new["numbers"]
