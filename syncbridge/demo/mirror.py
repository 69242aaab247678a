"""What the demo's sync.yaml promises, checked from outside: SELECT as text against what Redis holds.

It shares no code with the pipeline, so that a mistake there cannot excuse itself here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from pymysql.connections import Connection
from pymysql.converters import escape_string

#: One row of SELECT, as the server's text protocol prints it; None is NULL.
Row = dict[str, bytes | None]
#: A key as Redis holds it, comparable with `Mirrored.expected`; None: no such key.
Stored = Mapping[str, Any] | bytes | None


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A mapped table: how sync.yaml maps it, and which keys must follow from its rows."""

    table: str
    #: Columns of the primary key.
    primary_key: tuple[str, ...]
    key: str
    type: str = "hash"
    where: str = ""
    excluded: tuple[str, ...] = ()
    ttl: str = ""
    #: type string: the column that is the value.
    column: str = ""
    #: Columns that hold JSON.
    nested: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        return self.key.partition("{")[0]

    def mapping(self) -> dict[str, Any]:
        """Its entry under `mappings` in sync.yaml."""
        entry: dict[str, Any] = {"table": f"shop.{self.table}", "key": self.key, "type": self.type}
        if self.column:
            entry["value"] = f"{{{self.column}}}"
        if self.where:
            entry["where"] = self.where
        if self.excluded:
            entry["columns"] = {"exclude": list(self.excluded)}
        if self.ttl:
            entry["ttl"] = self.ttl
        return entry

    def select(self, condition: str = "") -> str:
        conditions = [f"({text})" for text in (self.where, condition) if text]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT * FROM shop.{self.table}{where}"  # noqa: S608 - names of our own

    def name(self, row: Row) -> str:
        """The Redis key of a row."""
        return self.key.format(**{column: (row[column] or b"").decode() for column in self.primary_key})

    def expected(self, row: Row) -> Stored:
        """What Redis must hold for a row."""
        if self.column:
            return row[self.column]
        shown = {column: value for column, value in row.items() if column not in self.excluded}
        if self.type == "hash":
            return {column: value for column, value in shown.items() if value is not None}
        return {
            column: None
            if value is None
            else json.loads(value, parse_int=str, parse_float=str)
            if column in self.nested
            else value.decode()
            for column, value in shown.items()
        }

    def command(self, key: str) -> tuple[str, str]:
        """The Redis command that shows a key."""
        return ("HGETALL" if self.type == "hash" else "GET", key)

    def held(self, reply: Any) -> Stored:
        """The reply to `command`, in the form of `expected`. Numbers of JSON are compared as text."""
        if isinstance(reply, Exception):
            return str(reply).encode()
        if not reply:
            return None
        if self.type == "hash":
            return {name.decode(): value for name, value in reply.items() if not name.startswith(b"_")}
        if self.type == "json":
            held = json.loads(reply, parse_int=str, parse_float=str)
            return held if isinstance(held, dict) else bytes(reply)
        return bytes(reply)


TABLES = (
    Mirrored("customers", ("id",), "customer:{id}", "json", excluded=("password_hash",), nested=("preferences",)),
    Mirrored("products", ("sku",), "stock:{sku}", "string", column="stock"),
    Mirrored("orders", ("id",), "order:{id}", where="status <> 'draft'"),
    Mirrored("order_lines", ("order_id", "line"), "order-line:{order_id}:{line}"),
    Mirrored("sessions", ("token",), "session:{token}", ttl="1h"),
)
BY_TABLE = {mirrored.table: mirrored for mirrored in TABLES}


@dataclass(slots=True)
class Comparison:
    """Every row and every key looked at."""

    rows: int = 0
    #: One sentence each.
    differences: list[str] = field(default_factory=list)


def compare(source: Connection[Any], sink: redis.Redis) -> Comparison:
    """Compare all tables. The connection must be made with `conv={}, use_unicode=False` and a UTC session."""
    done = Comparison()
    foreign = {name.decode() for name in sink.scan_iter(count=5000) if not name.startswith(b"syncbridge:")}
    for mirrored in TABLES:
        rows = {mirrored.name(row): row for row in select(source, mirrored.select())}
        for key, stored, expires in _read(sink, mirrored, list(rows)):
            done.rows += 1
            foreign.discard(key)
            expected = mirrored.expected(rows[key])
            if stored != expected:
                done.differences.append(f"{key}: SELECT shows {expected!r}, Redis holds {stored!r}")
            elif bool(mirrored.ttl) != expires:
                done.differences.append(f"{key}: it {'has no' if mirrored.ttl else 'has a'} time to live")
    done.differences += [f"{key}: in Redis, but no row has it" for key in sorted(foreign)]
    return done


def _read(sink: redis.Redis, mirrored: Mirrored, keys: list[str]) -> Iterator[tuple[str, Stored, bool]]:
    """(key, what it holds, whether it expires) of every key."""
    for start in range(0, len(keys), 500):
        chunk = keys[start : start + 500]
        pipe = sink.pipeline(transaction=False)
        for key in chunk:
            pipe.execute_command(*mirrored.command(key))  # type: ignore[no-untyped-call]
            pipe.ttl(key)
        replies = pipe.execute(raise_on_error=False)
        for key, reply, ttl in zip(chunk, replies[::2], replies[1::2], strict=True):
            yield key, mirrored.held(reply), ttl >= 0


def select(source: Connection[Any], sql: str) -> list[Row]:
    """Rows as the text protocol prints them."""
    with source.cursor() as cursor:
        cursor.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def counts(source: Connection[Any], sink: redis.Redis) -> dict[str, tuple[int, int]]:
    """Table -> (rows that are to be mirrored, keys), counted now."""
    keys = dict.fromkeys((mirrored.prefix for mirrored in TABLES), 0)
    for name in set(sink.scan_iter(count=5000)):  # SCAN may name a key twice
        prefix = name.partition(b":")[0].decode() + ":"
        if prefix in keys:
            keys[prefix] += 1
    found = {}
    for mirrored in TABLES:
        row = select(source, mirrored.select().replace("SELECT *", "SELECT COUNT(*) AS n"))[0]
        found[mirrored.table] = int(row["n"] or 0), keys[mirrored.prefix]
    return found


@dataclass(frozen=True, slots=True)
class TwoSides:
    """One row as SELECT shows it, None when it is gone, and its key in Redis: as it must be, and as it is."""

    select: str
    row: Row | None
    command: str
    expected: Stored
    held: Stored

    @property
    def verdict(self) -> str:
        if self.held != self.expected:
            return "the change is on its way"
        if self.row is None:
            return "the row is deleted, so is its key"
        if self.expected is None:
            return "the mapping's where leaves this row out, so it has no key"
        return "this is what SELECT shows"


def two_sides(
    source: Connection[Any], sink: redis.Redis, table: str, key: tuple[object, ...], patience: float = 0.5
) -> TwoSides:
    """Read a row by its primary key, and its Redis key; gives a change `patience` seconds to come through."""
    mirrored = BY_TABLE[table]
    texts = dict(zip(mirrored.primary_key, map(str, key), strict=True))
    condition = " AND ".join(f"{column} = '{escape_string(text)}'" for column, text in texts.items())
    found = select(source, f"SELECT * FROM shop.{table} WHERE {condition}")  # noqa: S608 - names and keys of our own
    mapped = select(source, mirrored.select(condition))
    expected = mirrored.expected(mapped[0]) if mapped else None
    command = mirrored.command(mirrored.key.format(**texts))
    deadline = time.monotonic() + patience
    while True:
        reply = sink.execute_command(*command)  # type: ignore[no-untyped-call]
        held = mirrored.held(reply)
        if held == expected or time.monotonic() > deadline:
            sql = f"SELECT * FROM {table} WHERE {condition}"  # noqa: S608 - to be read by people
            return TwoSides(sql, found[0] if found else None, " ".join(command), expected, held)
        time.sleep(0.005)
