"""The mapped tables and what each looks like at the position being read (schema history, DESIGN section 5).

A table is *blind* while its shape is in doubt: its row events are passed over, because a snapshot is on its way that
reads shape and rows anew, and everything before that snapshot's first watermark is contained in it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from syncbridge.capture.schema import TableSchema, load_tables
from syncbridge.config import Config, Mapping
from syncbridge.errors import ConfigError
from syncbridge.expression import columns as columns_of
from syncbridge.state import State
from syncbridge.template import Template

#: Our own schema on the source, see sql/heartbeat.sql.
OWN_SCHEMA = "syncbridge"
HEARTBEAT, WATERMARK = (OWN_SCHEMA, "heartbeat"), (OWN_SCHEMA, "watermark")

Name = tuple[str, str]


log = logging.getLogger(__name__)


class Tables:
    """Schemas by (db, table), as of the position being read."""

    def __init__(self, config: Config, state: State | None) -> None:
        """`state` None: for commands that only ask which tables are mapped, and by which key."""
        self._config = config
        self._recorded = state
        self._schemas: dict[Name, TableSchema] = {}
        self._blind: set[Name] = set()
        self._formerly: dict[str, set[str]] = {}  # field names of older renames, by mapping id
        self._seen: dict[Name, set[str]] = {}  # every column that the table ever had
        self._mapped: dict[Name, bool] = {}

    @property
    def _state(self) -> State:
        assert self._recorded is not None, "these tables have no history"
        return self._recorded

    def mapped(self, db: str, table: str) -> bool:
        """Whether any mapping covers the table, and nothing forbids it."""
        name = (db, table)
        if name not in self._mapped:
            self._mapped[name] = bool(self._config.mappings_of(db, table)) and db != OWN_SCHEMA
        return self._mapped[name]

    def refuse(self, db: str, table: str, reason: ConfigError) -> None:
        """The table cannot be mirrored. One that only a `db.*` covers is left out, loudly; else `reason` is raised."""
        if not all(mapping.wildcard for mapping in self._config.mappings_of(db, table)):
            raise reason
        log.error("%s.%s is left out: %s (%s)", db, table, reason, reason.hint)
        self._mapped[(db, table)] = False
        self._blind.discard((db, table))

    def usable(self, schema: TableSchema) -> bool:
        """Whether rows of the table have a key. Raises ConfigError where a mapping names a table that has none."""
        try:
            self.key_columns(schema)
        except ConfigError as error:
            self.refuse(schema.db, schema.table, error)
            return False
        return True

    def get(self, db: str, table: str) -> TableSchema | None:
        """The schema to decode row events with; None: pass them over."""
        return self._schemas.get((db, table)) if db == OWN_SCHEMA or self.mapped(db, table) else None

    def known(self, db: str, table: str) -> TableSchema | None:
        """The schema to follow DDL with: of mapped tables, and of copies that a tool will swap in for one."""
        return self._schemas.get((db, table))

    def known_in(self, db: str) -> list[str]:
        """The tables of a database that `known` knows."""
        return [table for known_db, table in {*self._schemas, *self._blind} if known_db == db]

    def wanted(self, db: str, table: str) -> bool:
        """Whether rows of this table matter to us although we hold no schema of it: it was never read."""
        name = (db, table)
        return name not in self._schemas and name not in self._blind and self.mapped(db, table)

    def is_blind(self, db: str, table: str) -> bool:
        return (db, table) in self._blind

    def names(self) -> list[Name]:
        """Mapped tables that exist at this position, our own left out."""
        return sorted(name for name in {*self._schemas, *self._blind} if self.mapped(*name))

    def restore(self, version: str) -> None:
        """Take up the schema history as of `version`."""
        stored = self._state.schemas.at(version)
        self._schemas = {name: TableSchema.from_json(definition) for name, definition in stored.items()}
        self._blind = {name for name in self._blind if name not in self._schemas}
        self._seen = {}
        for definition in self._state.schemas.all_until(version):
            self._see(TableSchema.from_json(definition))

    def put(self, schema: TableSchema, version: str) -> None:
        """The table looks like this from `version` on; durable before the checkpoint can pass it."""
        name = (schema.db, schema.table)
        self._blind.discard(name)
        if self._schemas.get(name) != schema:
            self._schemas[name] = schema
            self._see(schema)
            self._state.schemas.put(schema.db, schema.table, version, schema.to_json())

    def _see(self, schema: TableSchema) -> None:
        self._seen.setdefault((schema.db, schema.table), set()).update(column.name for column in schema.columns)

    def show_formerly(self, mapping: Mapping, fields: Iterable[str]) -> None:
        """Field names that this mapping gave before: what they left goes with the next write, as dropped columns do."""
        self._formerly[mapping.id] = set(fields) - set(mapping.columns.rename.values())

    def gone_columns(self, schema: TableSchema) -> tuple[str, ...]:
        """Columns that the table had once and has no longer: fields of theirs may still be in Redis."""
        now = {column.name for column in schema.columns}
        gone = self._seen.get((schema.db, schema.table), set()) - now
        for mapping in self._config.mappings_of(schema.db, schema.table):
            gone |= self._formerly.get(mapping.id, set()) - now
        return tuple(sorted(gone))

    def remove(self, db: str, table: str, version: str) -> None:
        """The table is gone from `version` on."""
        self._blind.discard((db, table))
        if self._schemas.pop((db, table), None) is not None:
            self._state.schemas.put(db, table, version, None)

    def blind(self, db: str, table: str, version: str) -> None:
        """The table's shape is in doubt from `version` on."""
        self.remove(db, table, version)
        self._blind.add((db, table))

    def told_by(self, schema: TableSchema) -> frozenset[str]:
        """See told_by() below. Raises ConfigError."""
        columns = [column.name for column in schema.columns]
        return told_by(self._config, (schema.db, schema.table), self.key_columns(schema), columns)

    def looked_at(self, schema: TableSchema) -> frozenset[str] | None:
        """See looked_at() below; None: all columns. Raises ConfigError."""
        if schema.db == OWN_SCHEMA:
            return None
        return looked_at(self._config, schema, self.key_columns(schema))

    def key_columns(self, schema: TableSchema) -> tuple[str, ...]:
        """The columns that name a row: the primary key, else what a mapping says is unique. Raises ConfigError."""
        if schema.primary_key:
            return schema.primary_key
        for mapping in self._config.mappings_of(schema.db, schema.table):
            if mapping.unique:
                return mapping.unique
        raise ConfigError(
            f"table {schema.db}.{schema.table} has no primary key",
            hint="add one, or name unique NOT NULL columns in the mapping: unique: [column]",
        )


def looked_at(config: Config, schema: TableSchema, key: Iterable[str]) -> frozenset[str]:
    """The columns of the table that any mapping shows or looks at, its key among them: the others need no decoding."""
    names = set(key)
    for mapping in config.mappings_of(schema.db, schema.table):
        names.update(mapping.unique)
        names.update(Template(mapping.key).columns)
        names.update(Template(mapping.value).columns)
        if mapping.where:
            names.update(columns_of(mapping.where))
        if mapping.ttl is not None and mapping.ttl.column:
            names.add(mapping.ttl.column)
        if mapping.type != "string":  # which shows its value alone
            names.update(column.name for column in schema.columns if mapping.columns.shows(column.name))
    return _named(names, (column.name for column in schema.columns))


def told_by(config: Config, table: Name, key: Iterable[str], columns: Iterable[str]) -> frozenset[str]:
    """Those of the columns of a former image of a row that still matter: its own key, and what says which Redis keys it
    had."""
    names = set(key)
    for mapping in config.mappings_of(*table):
        names.update(Template(mapping.key).columns)
        if mapping.where:
            names.update(columns_of(mapping.where))
    return _named(names, columns)


def _named(names: Iterable[str], columns: Iterable[str]) -> frozenset[str]:
    """The columns that are named, as the table spells them: sync.yaml may do it in another case."""
    folded = {name.lower() for name in names}
    return frozenset(column for column in columns if column.lower() in folded)


def existing_tables(connection: Any, config: Config) -> list[Name]:
    """The mapped tables that the source has now. Raises ConfigError for a mapping whose table does not exist."""
    found: list[Name] = []
    for mapping in config.table_mappings:
        db, _, table = mapping.table.partition(".")
        sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'"
        arguments = [db]
        if not mapping.wildcard:
            sql += " AND table_name = %s"
            arguments.append(table)
        with connection.cursor() as cursor:
            cursor.execute(sql, arguments)
            names = [(db, row[0]) for row in cursor.fetchall()]
        if not names and not mapping.wildcard:
            raise ConfigError(
                f"mapped table {mapping.table} does not exist on the source, or the account may not see it",
                hint=f"create it, correct the mapping, or GRANT SELECT ON {mapping.table} TO the account of source.url",
            )
        found += names
    return sorted(set(found))


def load(connection: Any, config: Config) -> dict[Name, TableSchema]:
    """Every mapped table as it is now, and our own two."""
    return load_tables(connection, [*existing_tables(connection, config), HEARTBEAT, WATERMARK])
