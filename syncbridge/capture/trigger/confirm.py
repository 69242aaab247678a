"""The confirm stage: rows that may have changed are read from the source, never waiting for anybody's lock.

A job of the UDF is sent before its transaction commits, and a rollback does not call it back (DESIGN section 5,
Triggers). So it only says where to look. The caller takes a version first; a row read after that belongs under it,
because whoever changes the row later reports it later. A row that is locked has a change under way: it stays in doubt
and is read again, under a version of then, until its transaction has ended.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson
import pymysql

from syncbridge.capture.connection import MARIADB, Server
from syncbridge.capture.snapshot.keyset import among
from syncbridge.capture.snapshot.select import row_values, select_list
from syncbridge.capture.sql import quote
from syncbridge.capture.tables import Name
from syncbridge.capture.trigger.reported import Reported
from syncbridge.capture.trigger.shapes import TableShape
from syncbridge.event import Row
from syncbridge.seams import Hint

#: Rows read by one statement.
MAX_KEYS = 500
#: Pause before a locked row is looked at again, doubled each time up to the maximum, seconds.
_PAUSE, _MAX_PAUSE = 0.001, 1.0
#: Lock wait time-out, MySQL's and MariaDB's NOWAIT.
_LOCKED = (1205, 3572)
#: The table or one of its columns is there no more: the catalogue will be looked at.
CHANGED = (1054, 1146, 1049)


class Source:
    """One report: a hint, or the id of an outbox row. `left`: its rows that are still in doubt."""

    __slots__ = ("left", "reference")

    def __init__(self, reference: Hint | int) -> None:
        self.reference = reference
        self.left = 0


class _Doubt:
    """A row that may have changed."""

    __slots__ = ("due", "images", "key", "sources", "tries", "weight", "written_us")

    def __init__(self, key: Row) -> None:
        self.key = key
        self.images: dict[bytes, Row] = {}
        self.sources: list[Source] = []
        self.tries = 0
        self.due = 0.0
        self.weight = 0
        self.written_us = 0


class Confirmed(NamedTuple):
    """One row as it is: `row` None where there is none. `images`: how it looked in what was reported."""

    table: TableShape
    key: Row
    row: Row | None
    images: list[Row]
    written_us: int
    #: About how many bytes row and images have.
    weight: int
    sources: list[Source]


class Confirm:
    """`connect(raw=True)` opens a connection to the source. One thread. Raises what PyMySQL raises."""

    def __init__(self, server: Server, connect: Callable[..., Any]) -> None:
        share = "LOCK IN SHARE MODE" if server.flavor == MARIADB else "FOR SHARE"
        self._skip, self._nowait = f"{share} SKIP LOCKED", f"{share} NOWAIT"
        self._doubts: dict[Name, dict[bytes, _Doubt]] = {}
        self._connection = connect(raw=True)
        # For arguments: the raw connection converts none.
        self._plain = connect()
        with self._connection.cursor() as cursor:
            # Gaps are not locked, so nobody's INSERT waits; NOWAIT is all that ever waits for a lock.
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")

    def close(self) -> None:
        self._connection._force_close()
        self._plain._force_close()

    def __len__(self) -> int:
        """Rows in doubt."""
        return sum(map(len, self._doubts.values()))

    def add(self, change: Reported, table: TableShape, source: Source, now: float) -> None:
        """The rows that `change` names are in doubt. Several reports of one row are one doubt."""
        doubts = self._doubts.setdefault((change.db, change.table), {})
        for key, images in table.sides(change):
            named = {name: key.get(name) for name in table.shape.key_columns}
            text = orjson.dumps(list(named.values()))
            doubt = doubts.get(text)
            if doubt is None:
                doubt = doubts[text] = _Doubt(named)
                doubt.due = now
            for image in images:
                packed = orjson.dumps(image)
                if packed not in doubt.images:
                    doubt.images[packed] = image
                    doubt.weight += len(packed)
            doubt.written_us = max(doubt.written_us, change.written_us)
            doubt.sources.append(source)
            source.left += 1

    def forget(self, name: Name) -> list[Source]:
        """The table is mapped no more; what only it kept waiting."""
        return [source for doubt in self._doubts.pop(name, {}).values() for source in _settle(doubt)]

    def due(self) -> float:
        """When the next row is to be looked at (monotonic seconds); infinity for never."""
        return min((doubt.due for doubts in self._doubts.values() for doubt in doubts.values()), default=float("inf"))

    @property
    def names(self) -> list[Name]:
        """Tables that have rows in doubt."""
        return [name for name, doubts in self._doubts.items() if doubts]

    def give_up(self, count: int) -> list[Hint]:
        """Of the rows found locked most often, about `count` are in doubt no more: the hints to be put back for it."""
        tried = (
            (doubt.tries, name, text)
            for name, doubts in self._doubts.items()
            for text, doubt in doubts.items()
            if doubt.tries and all(isinstance(source.reference, Hint) for source in doubt.sources)
        )
        hints: dict[Hint, None] = {}
        for _, name, text in heapq.nlargest(count, tried):
            for source in self._doubts[name].pop(text).sources:
                if isinstance(source.reference, Hint):
                    hints[source.reference] = None
        return list(hints)

    def read(self, name: Name, table: TableShape, now: float) -> list[Confirmed]:
        """Look at the rows of one table that are due, at most MAX_KEYS; those not locked are in doubt no more."""
        doubts = self._doubts.get(name, {})
        chosen = [text for text, doubt in doubts.items() if doubt.due <= now][:MAX_KEYS]
        if not chosen:
            return []
        keys = {text: list(doubts[text].key.values()) for text in chosen}
        found = self._select(table, keys, self._skip)
        missing = {text: key for text, key in keys.items() if text not in found}
        locked = set(self._missing(table, missing, found)) if missing else set()
        confirmed: list[Confirmed] = []
        for text in chosen:
            if text in locked:
                doubt = doubts[text]
                doubt.due = now + min(_PAUSE * 2**doubt.tries, _MAX_PAUSE)
                doubt.tries += 1
            else:
                confirmed.append(_confirmed(table, doubts.pop(text), found.get(text)))
        return confirmed

    def _missing(
        self, table: TableShape, keys: dict[bytes, list[Any]], found: dict[bytes, tuple[Row, int]]
    ) -> Iterator[bytes]:
        """Of rows that SKIP LOCKED did not show, those that are locked; the others are gone, or go into `found`."""
        try:
            found |= self._select(table, keys, self._nowait)
        except pymysql.MySQLError as error:
            if error.args[0] not in _LOCKED:
                raise
            if len(keys) == 1:
                yield from keys
                return
            texts = list(keys)
            for half in (texts[: len(texts) // 2], texts[len(texts) // 2 :]):
                yield from self._missing(table, {text: keys[text] for text in half}, found)

    def _select(self, table: TableShape, keys: dict[bytes, list[Any]], locking: str) -> dict[bytes, tuple[Row, int]]:
        """(row, bytes of it) by the text of its key."""
        schema, columns = table.schema, table.shape.key_columns
        condition, arguments = among(schema, columns, list(keys.values()))
        with self._plain.cursor() as cursor:
            where = cursor.mogrify(condition, arguments)
        sql = f"SELECT {select_list(schema)} FROM {quote(schema.db)}.{quote(schema.table)} WHERE {where} {locking}"  # noqa: S608
        decode = row_values(schema)
        found: dict[bytes, tuple[Row, int]] = {}
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            for raw in cursor.fetchall():
                row = decode(raw)
                weight = sum(len(value) for value in raw if value is not None)
                found[orjson.dumps([row[name] for name in columns])] = row, weight
        return found


def _confirmed(table: TableShape, doubt: _Doubt, found: tuple[Row, int] | None) -> Confirmed:
    row, weight = found or (None, 0)
    images = [image for image in doubt.images.values() if image != row]
    return Confirmed(table, doubt.key, row, images, doubt.written_us, weight + doubt.weight, _settle(doubt))


def _settle(doubt: _Doubt) -> list[Source]:
    """The sources for which this was the last row in doubt."""
    settled = []
    for source in doubt.sources:
        source.left -= 1
        if not source.left:
            settled.append(source)
    return settled
