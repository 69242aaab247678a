"""What BinlogReader yields: one small item per thing that happened, in binlog order.

Events without meaning for us (BEGIN, annotations, rows of unmapped tables, purge notices…) yield none. Positions are
64-bit offsets in `file`. `ts` is the event header's time, whole seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from syncbridge.capture.schema import TableSchema

#: Values in the order of the item's `columns`.
Row: TypeAlias = tuple[Any, ...]


@dataclass(slots=True)
class FormatDescription:
    """Head of a binlog file. `created` is not 0 only where the server itself started: temporary state ends there."""

    created: int
    server_version: str
    checksum: bool
    #: When the file was begun; names it together with its number, since a RESET starts the numbers over.
    written: int


@dataclass(slots=True)
class Rotate:
    """What follows is in `file`, from `pos`."""

    file: str
    pos: int


@dataclass(slots=True)
class Gtid:
    """A transaction starts at `pos` (the checkpoint before it). `gtid` is None where MySQL runs without GTIDs."""

    gtid: str | None
    file: str
    pos: int
    ts: int
    commit_ts_us: int | None  # microseconds; MySQL only


@dataclass(slots=True)
class Rows:
    """Changed rows of one table: op "c" and "d" with rows, "u" with (before, after) pairs."""

    schema: TableSchema
    columns: tuple[str, ...]
    op: str
    rows: list[Row] | list[tuple[Row, Row]]
    pos: int  # end of the event
    size: int  # its bytes, unpacked

    def dicts(self) -> list[Any]:
        """`rows` with every row as a dict of its columns."""
        names = self.columns
        if self.op == "u":
            return [tuple(dict(zip(names, image, strict=True)) for image in pair) for pair in self.rows]
        return [dict(zip(names, row, strict=True)) for row in self.rows]


@dataclass(slots=True)
class TransactionEnd:
    """The transaction is complete; `pos` is a checkpoint."""

    file: str
    pos: int


@dataclass(slots=True)
class Single(Rows):
    """A whole transaction that changes rows of one table in one event: Gtid, Rows and TransactionEnd in one."""

    gtid: str | None
    file: str
    start: int
    ts: int
    commit_ts_us: int | None
    end: int  # a checkpoint

    def parts(self) -> tuple[Gtid, Rows, TransactionEnd]:
        """The same as one item for each of the three."""
        return (
            Gtid(self.gtid, self.file, self.start, self.ts, self.commit_ts_us),
            Rows(self.schema, self.columns, self.op, self.rows, self.pos, self.size),
            TransactionEnd(self.file, self.end),
        )


@dataclass(slots=True)
class Statement:
    """Any other statement: DDL, statement-format DML, XA COMMIT… `pos` (its end) is a checkpoint unless
    `in_transaction`."""

    db: str
    sql: str
    sql_mode: int
    file: str
    pos: int
    ts: int
    in_transaction: bool


@dataclass(slots=True)
class Heartbeat:
    """The server has nothing new; it stands at file and pos."""

    file: str
    pos: int


Item: TypeAlias = FormatDescription | Rotate | Gtid | Rows | TransactionEnd | Single | Statement | Heartbeat
