"""What a lane job carries: change events, and blocks of rows that share their description (DESIGN section 3). Pure.

Format 1, an array of events or a single one, is for what comes one by one:

    [event, …] | event

Format 2 is for rows as the binlog and snapshots have them, many at a time. What rows of one table in one transaction
have in common is said once; so are the names of columns:

    {"format": 2,
     "tables": [{"db", "table", "columns": […], "key": […], "types": {…}, "gone": […]}, …],
     "transactions": [{"name", "server_id", "gtid", "file", "pos", "ts_us", "version"}, …],
     "items": [[table, transaction, op, ts_us, [row, …], [values, …]] | event, …]}

`table` and `transaction` are places in the lists above them, `ts_us` when capture read the rows. `row` is the row's
ordinal in its transaction: the last 8 digits of its version, whose first 32 the transaction has. `values` are in the
order of the columns: the row after a c or r, before a d, and [before, after] of a u. A block stands for as many events,
and `decode_job` makes them of it; measured with sbtest rows, a block costs a tenth of them to write and to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import orjson

from syncbridge.errors import PermanentError
from syncbridge.event import CREATE, DELETE, FORMAT, READ, UPDATE, Event, Row, check

#: Format number of jobs that hold blocks.
BLOCKS = 2


@dataclass(slots=True)
class Table:
    """What the rows of a table have in common."""

    db: str
    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    types: dict[str, str]
    gone: tuple[str, ...] = ()


@dataclass(slots=True)
class Block:
    """Rows of one table, changed in one way by one transaction, in order."""

    table: Table
    #: name, server_id, gtid, file, pos, ts_us, version: what `source` says of each event, and the version's beginning.
    transaction: dict[str, Any]
    op: str
    ts_us: int
    numbers: list[int]
    rows: list[Any]

    def events(self) -> Iterator[Event]:
        """Each row as the event it stands for."""
        return (self.event(index) for index in range(len(self.rows)))

    def version(self, index: int) -> str:
        return f"{self.transaction['version']}{self.numbers[index]:08x}"

    def event(self, index: int) -> Event:
        """One row as an event, see event.py."""
        table, row, version = self.table, self.rows[index], self.version(index)
        before, after = row if self.op == UPDATE else (row, None) if self.op == DELETE else (None, row)
        old = None if before is None else dict(zip(table.columns, before, strict=True))
        new = None if after is None else dict(zip(table.columns, after, strict=True))
        image: Row = (new if new is not None else old) or {}
        one = {
            "op": self.op,
            "ts_us": self.ts_us,
            "source": self._source(index),
            "key": {name: image[name] for name in table.key},
            "before": old,
            "after": new,
            "types": table.types,
            "version": version,
            "id": version,
            "format": FORMAT,
        }
        if table.gone:
            one["gone"] = list(table.gone)
        return one

    def _source(self, index: int) -> dict[str, Any]:
        its, table = self.transaction, self.table
        shared = {name: its[name] for name in ("ts_us", "server_id", "gtid", "file", "pos")}
        return {"name": its["name"], "db": table.db, "table": table.table, **shared, "row": self.numbers[index]}


Item: TypeAlias = Event | Block


# -- writing -----------------------------------------------------------------------------------------------------------


class Described(Protocol):
    """A table or a transaction as capture knows it; compared by identity."""

    @property
    def description(self) -> Any:
        """What stands for it under `tables` or `transactions`."""


class Draft:
    """A job that is being filled. Rows of one table, transaction and op that follow each other become one block."""

    __slots__ = ("_items", "_last", "_tables", "_transactions", "count")

    def __init__(self) -> None:
        #: Events that it stands for.
        self.count = 0
        self._items: list[Any] = []
        self._tables: dict[int, tuple[int, Described]] = {}  # by id(); held here, so that no other gets the same
        self._transactions: dict[int, tuple[int, Described]] = {}
        self._last: tuple[Described, Described, str] | None = None

    def add(self, event: Event) -> None:
        self._items.append(event)
        self._last = None
        self.count += 1

    def add_rows(
        self, table: Described, transaction: Described, op: str, ts_us: int, numbers: list[int], rows: list[Any]
    ) -> None:
        """Rows as tuples in the order of the table's columns, pairs of them for a u. Takes the lists over."""
        self.count += len(rows)
        last = self._last
        if last is not None and last[0] is table and last[1] is transaction and last[2] == op:
            item = self._items[-1]
            item[4] += numbers
            item[5] += rows
            return
        self._last = (table, transaction, op)
        known = self._tables.setdefault(id(table), (len(self._tables), table))
        its = self._transactions.setdefault(id(transaction), (len(self._transactions), transaction))
        self._items.append([known[0], its[0], op, ts_us, numbers, rows])

    def dump(self) -> bytes:
        """The workload."""
        if not self._tables:
            return encode_job(self._items)
        return orjson.dumps(
            {
                "format": BLOCKS,
                "tables": [table.description for _, table in self._tables.values()],
                "transactions": [transaction.description for _, transaction in self._transactions.values()],
                "items": self._items,
            }
        )


def encode_job(events: Sequence[Event]) -> bytes:
    """The workload of a job of events."""
    return orjson.dumps(events)


# -- reading -----------------------------------------------------------------------------------------------------------


def decode_job(workload: bytes) -> list[Event]:
    """Every event of a job, those of its blocks too. Raises PermanentError, see `items`."""
    events: list[Event] = []
    for item in items(workload):
        if isinstance(item, Block):
            events += item.events()
        else:
            events.append(item)
    return events


def items(workload: bytes) -> list[Item]:
    """Events and blocks of a job, in order.

    Raises PermanentError when the bytes are not a job this version understands.
    """
    try:
        decoded = orjson.loads(workload)
    except orjson.JSONDecodeError as error:
        raise PermanentError(f"job is not JSON: {error}") from error
    if isinstance(decoded, dict) and "items" in decoded and decoded.get("format") == BLOCKS:
        try:
            return _unfold(decoded)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise PermanentError(f"job does not fit its description: {error!r}") from error
    return [*check(decoded if isinstance(decoded, list) else [decoded])]


def _unfold(job: dict[str, Any]) -> list[Item]:
    tables = [
        Table(one["db"], one["table"], tuple(one["columns"]), tuple(one["key"]), one["types"], tuple(one["gone"]))
        for one in job["tables"]
    ]
    transactions = job["transactions"]
    out: list[Item] = []
    for item in job["items"]:
        if type(item) is dict:
            out += check([item])
            continue
        table, transaction, op, ts_us, numbers, rows = item
        block = Block(tables[table], transactions[transaction], op, ts_us, numbers, rows)
        images: Iterable[list[Any]] = rows if op != UPDATE else (image for pair in rows for image in pair)
        if op not in (CREATE, UPDATE, DELETE, READ) or len(numbers) != len(rows):
            raise ValueError(f"a block of {op!r}, {len(numbers)} numbers and {len(rows)} rows")
        if rows and set(map(len, images)) != {len(block.table.columns)}:
            raise ValueError("a row has not as many values as its table has columns")
        out.append(block)
    return out
