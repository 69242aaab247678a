"""What a lane job carries: change events, and blocks of rows that share their description (DESIGN section 3). Pure.

Format 1, an array of events or a single one, is for what comes one by one:

    [event, …] | event

Format 2 is for rows as the binlog and snapshots have them, many at a time. What the rows of a table have in common, the
names of its columns above all, is said once in a job; so is what the rows of a transaction have in common:

    {"format": 2, "name": pipeline,
     "tables": [{"db", "table", "columns": […], "key": […], "types": {…}, "gone": […]}, …],
     "transactions": [[version, captured_us, ts_us, server_id, gtid, file, pos], …],
     "items": [[table, op, [transaction, …], [row, …], [values, …]] | event, …]}

`table` and `transaction` are places in the lists above them. `version` is the first 32 digits of a row's version, `row`
its ordinal, the last 8. `captured_us` is when capture read the transaction's first row in this job, an event's `ts_us`;
the other members are what `source` says. `values` are in the order of the columns: the row after a c or r, before a d,
and [before, after] of a u. A block stands for as many events, and `decode_job` makes them of it; with rows of sysbench,
writing and reading a block costs a tenth of writing and reading its events.
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


#: version, captured_us, ts_us, server_id, gtid, file, pos
Described: TypeAlias = Sequence[Any]


@dataclass(slots=True)
class Block:
    """Rows of one table, changed in one way one after the other."""

    #: The pipeline's name.
    name: str
    table: Table
    op: str
    #: Every transaction of the job; `places` says which is each row's own.
    transactions: list[Described]
    places: list[int]
    numbers: list[int]
    rows: list[Any]

    def events(self) -> Iterator[Event]:
        """Each row as the event it stands for."""
        return (self.event(index) for index in range(len(self.rows)))

    def version(self, index: int) -> str:
        return f"{self.transactions[self.places[index]][0]}{self.numbers[index]:08x}"

    def event(self, index: int) -> Event:
        """One row as an event, see event.py."""
        table, row, number = self.table, self.rows[index], self.numbers[index]
        version, captured_us, ts_us, server_id, gtid, file, pos = self.transactions[self.places[index]]
        before, after = row if self.op == UPDATE else (row, None) if self.op == DELETE else (None, row)
        old = None if before is None else dict(zip(table.columns, before, strict=True))
        new = None if after is None else dict(zip(table.columns, after, strict=True))
        image: Row = (new if new is not None else old) or {}
        one = {
            "op": self.op,
            "ts_us": captured_us,
            "source": {
                "name": self.name,
                "db": table.db,
                "table": table.table,
                "ts_us": ts_us,
                "server_id": server_id,
                "gtid": gtid,
                "file": file,
                "pos": pos,
                "row": number,
            },
            "key": {name: image[name] for name in table.key},
            "before": old,
            "after": new,
            "types": table.types,
            "version": f"{version}{number:08x}",
            "id": f"{version}{number:08x}",
            "format": FORMAT,
        }
        if table.gone:
            one["gone"] = list(table.gone)
        return one


Item: TypeAlias = Event | Block


# -- writing -----------------------------------------------------------------------------------------------------------


class DescribedTable(Protocol):
    """A table as capture knows it; compared by identity."""

    @property
    def description(self) -> Any:
        """Its element of `tables`."""


class DescribedTransaction(Protocol):
    """A transaction as capture knows it; compared by identity."""

    @property
    def pipeline(self) -> str: ...

    def describe(self, captured_us: int) -> Described:
        """Its element of `transactions`."""


class Draft:
    """A job that is being filled. Rows of one table with one op that follow each other become one block."""

    __slots__ = ("_items", "_numbers", "_op", "_place", "_places", "_rows", "_table", "_tables", "_transaction", "_transactions", "count")  # fmt: skip # noqa: E501

    def __init__(self) -> None:
        #: Events that it stands for.
        self.count = 0
        self._items: list[Any] = []
        self._tables: dict[int, tuple[int, DescribedTable]] = {}  # by id(); held here, so that no other gets the same
        self._transactions: list[Described] = []
        self._transaction: DescribedTransaction | None = None
        self._place = -1
        # The block that is open.
        self._table: DescribedTable | None = None
        self._op = ""
        self._places: list[int] = []
        self._numbers: list[int] = []
        self._rows: list[Any] = []

    def add(self, event: Event) -> None:
        self._items.append(event)
        self._table = None
        self.count += 1

    def add_row(
        self, table: DescribedTable, transaction: DescribedTransaction, op: str, now_us: int, number: int, row: Any
    ) -> None:
        """A row as a tuple in the order of the table's columns, or a pair of them of a u."""
        if transaction is not self._transaction:
            self._begin_transaction(transaction, now_us)
        if table is not self._table or op != self._op:
            self._begin_block(table, op)
        self._places.append(self._place)
        self._numbers.append(number)
        self._rows.append(row)
        self.count += 1

    def add_rows(
        self,
        table: DescribedTable,
        transaction: DescribedTransaction,
        op: str,
        now_us: int,
        numbers: Sequence[int],
        rows: Sequence[Any],
    ) -> None:
        """The same for many: of one block all as values, or all as the JSON of their values."""
        if transaction is not self._transaction:
            self._begin_transaction(transaction, now_us)
        if table is not self._table or op != self._op:
            self._begin_block(table, op)
        self._places += [self._place] * len(rows)
        self._numbers += numbers
        self._rows += rows
        self.count += len(rows)

    def _begin_transaction(self, transaction: DescribedTransaction, now_us: int) -> None:
        self._transaction, self._place = transaction, len(self._transactions)
        self._transactions.append(transaction.describe(now_us))

    def _begin_block(self, table: DescribedTable, op: str) -> None:
        self._table, self._op = table, op
        self._places, self._numbers, self._rows = [], [], []
        place, _ = self._tables.setdefault(id(table), (len(self._tables), table))
        self._items.append((place, op, self._places, self._numbers, self._rows))

    def dump(self) -> bytes:
        """The workload."""
        if self._transaction is None:
            return encode_job(self._items)
        items = [(*item[:4], _as_json(item[4])) if type(item) is tuple else item for item in self._items]
        return orjson.dumps(
            {
                "format": BLOCKS,
                "name": self._transaction.pipeline,
                "tables": [table.description for _, table in self._tables.values()],
                "transactions": self._transactions,
                "items": items,
            }
        )


def _as_json(rows: list[Any]) -> Any:
    """Rows of a block: values, or their JSON."""
    return orjson.Fragment(b"[" + b",".join(rows) + b"]") if type(rows[0]) is bytes else rows


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
    name, transactions = job["name"], job["transactions"]
    if set(map(len, transactions)) - {7}:
        raise ValueError("a transaction has seven members")
    out: list[Item] = []
    for item in job["items"]:
        if type(item) is dict:
            out += check([item])
            continue
        table, op, places, numbers, rows = item
        block = Block(name, tables[table], op, transactions, places, numbers, rows)
        images: Iterable[list[Any]] = rows if op != UPDATE else (image for pair in rows for image in pair)
        if op not in (CREATE, UPDATE, DELETE, READ) or not len(places) == len(numbers) == len(rows) > 0:
            raise ValueError(f"a block of {op!r} with {len(places)}, {len(numbers)} and {len(rows)} members")
        if set(map(len, images)) != {len(block.table.columns)} or not 0 <= max(places) < len(transactions):
            raise ValueError("a row has not as many values as its table has columns, or no transaction")
        out.append(block)
    return out
