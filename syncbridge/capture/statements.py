"""What statements in the binlog mean for the mirror: performs the effects that ddl.py reads out of them (DESIGN P2-P4).

TRUNCATE, DROP and RENAME away from a mapped name empty the mapping behind a barrier; a change of what SELECT shows
reads the table again; a statement we cannot follow makes the table blind until it is read again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from syncbridge.capture.binlog.events import Statement
from syncbridge.capture.ddl.dialect import Dialect
from syncbridge.capture.ddl.effects import (
    Effect,
    RowsInStatement,
    SchemaChanged,
    SchemaUnsure,
    TableCreated,
    TableDropped,
    TableRenamed,
    TableTruncated,
)
from syncbridge.capture.ddl.follow import follow
from syncbridge.capture.schema import TableSchema
from syncbridge.capture.snapshot.snapshots import Snapshots
from syncbridge.capture.tables import Name, Tables
from syncbridge.errors import PermanentError

log = logging.getLogger(__name__)


class Statements:
    """Follows statements; `sweep(db, table, version)` is the barrier. `may_snapshot`: source.snapshot is not never."""

    def __init__(
        self, tables: Tables, snapshots: Snapshots, sweep: Callable[[str, str, str], None], *, may_snapshot: bool
    ) -> None:
        self._tables = tables
        self._snapshots = snapshots
        self._sweep = sweep
        self._may_snapshot = may_snapshot
        #: Set for each connection, before the first statement.
        self.dialect = Dialect(mariadb=False, version=0)

    def perform(self, item: Statement, version: str) -> bool:
        """Do what the statement asks for; answers whether it concerned a mapped table. Raises PermanentError (P4)."""
        effects = follow(
            item.sql,
            item.db,
            self._tables.known,
            self._tables.mapped,
            dialect=self.dialect,
            sql_mode=item.sql_mode,
            tables_of=self._tables.known_in,
        )
        emptied: list[Name] = []
        reread: set[Name] = set()
        for effect in effects:
            log.info("%s.%s: %s", effect.db, effect.table, type(effect).__name__)
            self._perform(effect, version, emptied, reread)
        for name in emptied:
            # A table that came back under the name sweeps when its snapshot ends.
            if name not in reread and self._tables.mapped(*name):
                self._snapshots.emptied(*name, version)
                self._sweep(*name, version)
        return bool(effects)

    def _perform(self, effect: Effect, version: str, emptied: list[Name], reread: set[Name]) -> None:
        name = (effect.db, effect.table)
        match effect:
            case SchemaChanged():
                self._tables.put(effect.schema, version)
                if effect.resnapshot or effect.reshaped:
                    self._read_again(name, effect.statement, reread)
            case TableCreated():
                self._take_up(name, effect.schema, effect.statement, version, reread)
            case TableDropped():
                self._tables.remove(*name, version)
                emptied.append(name)
            case TableTruncated():
                emptied.append(name)
            case TableRenamed():
                self._tables.remove(*name, version)
                if self._tables.mapped(*name):
                    emptied.append(name)
                new = (effect.new_db, effect.new_table)
                if self._tables.mapped(*new):
                    self._take_up(new, effect.schema, "RENAME TABLE", version, reread)
                    self._read_again(new, "RENAME TABLE", reread)
            case SchemaUnsure():
                self._take_up(name, None, effect.statement, version, reread)
            case RowsInStatement():
                raise PermanentError(
                    f"{effect.db}.{effect.table} changed by a statement, not by rows: {_short(effect.statement)}",
                    hint=f"SET GLOBAL binlog_format=ROW; then: syncbridge snapshot --table {effect.db}.{effect.table}",
                )

    def _take_up(self, name: Name, schema: TableSchema | None, statement: str, version: str, reread: set[Name]) -> None:
        if schema is not None:
            self._tables.put(schema, version)
        elif not self._tables.mapped(*name):
            self._tables.remove(*name, version)
        elif self._may_snapshot:
            self._tables.blind(*name, version)
            self._read_again(name, statement, reread)
        else:
            raise PermanentError(
                f"cannot tell what {name[0]}.{name[1]} looks like after: {_short(statement)}",
                hint=f"source.snapshot is never, so ask for it: syncbridge snapshot --table {name[0]}.{name[1]}",
            )

    def _read_again(self, name: Name, statement: str, reread: set[Name]) -> None:
        if not self._tables.mapped(*name):
            return  # a copy that a tool builds: it is read when it takes a mapped name
        reread.add(name)
        if self._may_snapshot:
            self._snapshots.request(*name, _short(statement))
        else:
            log.warning(
                "%s.%s shows other values since: %s. Read it again: syncbridge snapshot --table %s.%s",
                *name, _short(statement), *name,
            )  # fmt: skip


def _short(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= 120 else text[:119] + "…"
