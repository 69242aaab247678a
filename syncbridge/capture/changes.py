"""From decoded rows to change events (DESIGN section 3). Pure.

An update that changes a row's key becomes two events, d of the old row and c of the new one: each belongs to the lane
of its own key, and versions keep them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from syncbridge.event import CREATE, DELETE, FORMAT, READ, TRUNCATE, UPDATE, Event, Row, place
from syncbridge.version import transaction_prefix


@dataclass(slots=True, kw_only=True)
class Transaction:
    """The transaction being read: what its events have in common, and how many rows it had so far."""

    pipeline: str
    epoch: int
    server_id: int
    gtid: str
    file: str
    file_number: int
    #: Position of its first event.
    pos: int
    #: When the source wrote it, microseconds.
    ts_us: int
    rows: int = 0
    version_prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self.version_prefix = transaction_prefix(self.epoch, self.file_number, self.pos)

    def version(self, row: int) -> str:
        return f"{self.version_prefix}{row:08x}"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the events of one table have in common."""

    db: str
    table: str
    key_columns: tuple[str, ...]
    types: dict[str, str]
    #: Columns that the table had before: what they left in hashes goes with the next write.
    gone: tuple[str, ...] = ()
    #: The key of a row.
    key_of: Callable[[Row], dict[str, Any]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_of", _key_getter(self.key_columns))

    @property
    def place(self) -> str:
        """`db.table`."""
        return place(self.db, self.table)


def _key_getter(columns: tuple[str, ...]) -> Callable[[Row], dict[str, Any]]:
    if len(columns) == 1:
        (name,) = columns
        return lambda row: {name: row[name]}
    return lambda row: {name: row[name] for name in columns}


def event(
    transaction: Transaction, shape: Shape, op: str, key: Row, before: Row | None, after: Row | None, now_us: int,
    version: str,
) -> Event:  # fmt: skip
    """One event; its fields are described in syncbridge.event."""
    one = {
        "op": op,
        "ts_us": now_us,
        "source": {**_source(transaction, shape), "row": int(version[32:], 16)},
        "key": key,
        "before": before,
        "after": after,
        "types": shape.types,
        "version": version,
        "id": version,
        "format": FORMAT,
    }
    if shape.gone:
        one["gone"] = shape.gone
    return one


def _source(transaction: Transaction, shape: Shape) -> dict[str, Any]:
    return {
        "name": transaction.pipeline,
        "db": shape.db,
        "table": shape.table,
        "ts_us": transaction.ts_us,
        "server_id": transaction.server_id,
        "gtid": transaction.gtid,
        "file": transaction.file,
        "pos": transaction.pos,
    }


def row_events(transaction: Transaction, shape: Shape, op: str, rows: Iterable[Any], now_us: int) -> Iterator[Event]:
    """The events of one ROWS event. `rows`: dicts for c and d, (before, after) pairs for u.

    Hot: what the rows share is computed once, and one closure builds each event.
    """
    name, db, table, prefix = transaction.pipeline, shape.db, shape.table, transaction.version_prefix
    ts_us, server_id, gtid = transaction.ts_us, transaction.server_id, transaction.gtid
    file, pos = transaction.file, transaction.pos
    types, gone, key_of = shape.types, shape.gone, shape.key_of

    def build(op: str, key: Row, before: Row | None, after: Row | None) -> Event:
        number = transaction.rows
        transaction.rows = number + 1
        version = f"{prefix}{number:08x}"
        one = {
            "op": op, "ts_us": now_us,
            "source": {"name": name, "db": db, "table": table, "ts_us": ts_us, "server_id": server_id, "gtid": gtid,
                       "file": file, "pos": pos, "row": number},
            "key": key, "before": before, "after": after, "types": types, "version": version, "id": version,
            "format": FORMAT,
        }  # fmt: skip
        if gone:
            one["gone"] = gone
        return one

    if op == CREATE:
        for row in rows:
            yield build(CREATE, key_of(row), None, row)
    elif op == DELETE:
        for row in rows:
            yield build(DELETE, key_of(row), row, None)
    else:
        for before, after in rows:
            key, old_key = key_of(after), key_of(before)
            if key == old_key:
                yield build(UPDATE, key, before, after)
            else:
                yield build(DELETE, old_key, before, None)
                yield build(CREATE, key, None, after)


def reread_events(row: Row | None, images: list[Row]) -> list[tuple[str, Row | None, Row | None]]:
    """(op, before, after) for one row read again. Pure.

    `images`: what the row looked like in what said that it changed; keys that only they yield must go.
    A row that is gone and has no image is known by its key alone: before and after are None.
    """
    if row is not None:
        return [(READ, None, row), *((UPDATE, image, row) for image in images)]
    return [(DELETE, image, None) for image in images] or [(DELETE, None, None)]


def sweep_event(
    transaction: Transaction, db: str, table: str, version: str, now_us: int, mappings: Iterable[str] = ()
) -> Event:
    """Everything of the table older than `version` is gone. `mappings`: definitions no longer configured, swept too."""
    swept = event(transaction, Shape(db, table, (), {}), TRUNCATE, {}, None, None, now_us, version)
    if gone := list(mappings):
        swept["mappings"] = gone
    return swept
