"""What a statement in the binlog did to tables that matter: the answers of `syncbridge.capture.ddl.follow`.

Effects of one statement are applied in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

from syncbridge.capture.schema import TableSchema


@dataclass(frozen=True, slots=True)
class SchemaChanged:
    """The table looks like `schema` from here on."""

    db: str
    table: str
    schema: TableSchema
    resnapshot: bool  # rows that exist already may show other values, or some are gone without row events
    statement: str
    reshaped: bool = False  # whole-row documents of existing rows differ though no value does: new NULLs, other order


@dataclass(frozen=True, slots=True)
class TableCreated:
    """A new, empty table; schema None: the statement does not say it all, read information_schema."""

    db: str
    table: str
    schema: TableSchema | None
    statement: str


@dataclass(frozen=True, slots=True)
class TableDropped:
    db: str
    table: str


@dataclass(frozen=True, slots=True)
class TableTruncated:
    db: str
    table: str


@dataclass(frozen=True, slots=True)
class TableRenamed:
    """The rows of one table are now another's, without row events; schema None: read information_schema."""

    db: str
    table: str
    new_db: str
    new_table: str
    schema: TableSchema | None


@dataclass(frozen=True, slots=True)
class SchemaUnsure:
    """We cannot tell what the table looks like now: read information_schema, compare with the TABLE_MAP (DESIGN P4)."""

    db: str
    table: str
    statement: str


@dataclass(frozen=True, slots=True)
class RowsInStatement:
    """Rows changed by a statement in the binlog instead of row events: capture cannot go on (DESIGN P4)."""

    db: str
    table: str
    statement: str


Effect = SchemaChanged | TableCreated | TableDropped | TableTruncated | TableRenamed | SchemaUnsure | RowsInStatement
