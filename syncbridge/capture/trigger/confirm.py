"""The confirm stage: rows that may have changed are read from the source, never waiting for anybody's lock.

A job of the UDF is sent before its transaction commits, and a rollback does not call it back (DESIGN section 5,
Triggers). So it only says where to look. The caller takes a version first; a row read after that belongs under it,
because whoever changes the row later reports it later. A row that is locked has a change under way: it stays in doubt
and is read again, under a version of then, until its transaction has ended.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf
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
#: Pause before a locked row is looked at again, doubled each time up to the maximum, seconds; and how many of a table's
#: locked rows are looked at in a second when there are many.
_PAUSE, _MAX_PAUSE = 0.001, 1.0
LOOKS_PER_SECOND = 5000
#: Lock wait time-out, MySQL's and MariaDB's NOWAIT.
_LOCKED = (1205, 3572)


class Source:
    """One report: a hint, or the id of an outbox row. `left`: its rows that are still in doubt."""

    __slots__ = ("left", "reference")

    def __init__(self, reference: Hint | int) -> None:
        self.reference = reference
        self.left = 0


class _Doubt:
    """A row that may have changed."""

    __slots__ = ("images", "key", "sources", "tries", "written_us")

    def __init__(self, key: Row) -> None:
        self.key = key
        self.images: dict[bytes, Row] = {}
        self.sources: list[Source] = []
        self.tries = 0
        self.written_us = 0


class _Table:
    """The rows of one table that are in doubt, by the text of their keys."""

    __slots__ = ("doubts", "fresh", "waiting")

    def __init__(self) -> None:
        self.doubts: dict[bytes, _Doubt] = {}
        #: Those never looked at; and a heap of the others with the time to look again (monotonic seconds). Both may
        #: name rows that are in doubt no more.
        self.fresh: deque[bytes] = deque()
        self.waiting: list[tuple[float, bytes]] = []

    @property
    def due(self) -> float:
        if self.fresh:
            return 0.0
        return self.waiting[0][0] if self.waiting else inf

    def choose(self, now: float) -> list[bytes]:
        """At most MAX_KEYS rows to look at now."""
        chosen: dict[bytes, None] = {}
        while len(chosen) < MAX_KEYS and self.due <= now:
            text = self.fresh.popleft() if self.fresh else heapq.heappop(self.waiting)[1]
            if text in self.doubts:
                chosen[text] = None
        return list(chosen)

    def found_locked(self, texts: Iterable[bytes], now: float) -> None:
        """Look at these again later: each more rarely, and all together at a bounded rate."""
        longest = max(_MAX_PAUSE, len(self.waiting) / LOOKS_PER_SECOND)
        for text in texts:
            doubt = self.doubts[text]
            heapq.heappush(self.waiting, (now + min(_PAUSE * 2**doubt.tries, longest), text))
            doubt.tries = min(doubt.tries + 1, 60)

    def given_up(self) -> Iterator[Hint]:
        """The hints of rows found locked, which are in doubt no more, the oldest first. Rows of the outbox stay."""
        for text in [text for text, doubt in self.doubts.items() if doubt.tries]:
            references = [source.reference for source in self.doubts[text].sources]
            hints = [reference for reference in references if isinstance(reference, Hint)]
            if len(hints) == len(references):
                del self.doubts[text]
                yield from hints


class Confirmed(NamedTuple):
    """One row as it is, `row` None where there is none. `images`: what it was reported to look like, where that may
    have given it other keys (TableShape.telling)."""

    table: TableShape
    key: Row
    row: Row | None
    images: list[Row]
    written_us: int
    #: About how many bytes the row has.
    weight: int
    sources: list[Source]


class Confirm:
    """`connect(raw=True)` opens a connection to the source. One thread. Raises what PyMySQL raises."""

    def __init__(self, server: Server, connect: Callable[..., Any]) -> None:
        share = "LOCK IN SHARE MODE" if server.flavor == MARIADB else "FOR SHARE"
        self._skip, self._nowait = f"{share} SKIP LOCKED", f"{share} NOWAIT"
        self._tables: dict[Name, _Table] = {}
        self._connection = connect(raw=True)
        # For arguments: the raw connection converts none.
        self._plain = connect()
        with self._connection.cursor() as cursor:
            # Gaps are not locked, so nobody's INSERT waits. Behind an ALTER TABLE that waits we would wait, too.
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1")

    def close(self) -> None:
        self._connection._force_close()
        self._plain._force_close()

    def __len__(self) -> int:
        """Rows in doubt."""
        return sum(len(table.doubts) for table in self._tables.values())

    @property
    def names(self) -> list[Name]:
        """Tables that have rows in doubt."""
        return [name for name, table in self._tables.items() if table.doubts]

    def due(self) -> float:
        """When the next row is to be looked at, monotonic seconds; infinity for never."""
        return min((table.due for table in self._tables.values()), default=inf)

    def add(self, change: Reported, shape: TableShape, source: Source) -> None:
        """The rows that `change` names are in doubt. Several reports of one row are one doubt."""
        table = self._tables.setdefault((change.db, change.table), _Table())
        for key, images in shape.sides(change):
            named = {name: key.get(name) for name in shape.shape.key_columns}
            text = orjson.dumps(list(named.values()))
            doubt = table.doubts.get(text)
            if doubt is None:
                doubt = table.doubts[text] = _Doubt(named)
                table.fresh.append(text)
            for image in images:
                doubt.images[orjson.dumps(image)] = image
            doubt.written_us = max(doubt.written_us, change.written_us)
            doubt.sources.append(source)
            source.left += 1

    def forget(self, name: Name) -> list[Source]:
        """The table is mapped no more: what was reported of it only."""
        table = self._tables.pop(name)
        return [source for doubt in table.doubts.values() for source in _settle(doubt)]

    def give_up(self, size: int) -> list[Hint]:
        """Let go of rows found locked, until their hints have `size` bytes: the hints to be put back."""
        hints: dict[Hint, None] = {}
        for table in self._tables.values():
            for hint in table.given_up():
                hints[hint] = None
                size -= len(hint.workload)
                if size <= 0:
                    return list(hints)
        return list(hints)

    def read(self, name: Name, shape: TableShape, now: float) -> list[Confirmed]:
        """Look at the rows of one table that are due, at most MAX_KEYS; those not locked are in doubt no more."""
        table = self._tables[name]
        if not (chosen := table.choose(now)):
            return []
        keys = {text: list(table.doubts[text].key.values()) for text in chosen}
        found: dict[bytes, tuple[Row, int]] = {}
        locked: set[bytes] = set()
        try:
            if (rows := self._select(shape, keys, self._skip)) is None:
                locked.update(keys)  # the table itself is locked
            else:
                found = rows
                missing = {text: key for text, key in keys.items() if text not in found}
                locked.update(self._missing(shape, missing, found))
        except BaseException:
            table.fresh.extend(chosen)
            raise
        table.found_locked(locked, now)
        return [_confirmed(shape, table.doubts.pop(text), found.get(text)) for text in chosen if text not in locked]

    def _missing(
        self, shape: TableShape, keys: dict[bytes, list[Any]], found: dict[bytes, tuple[Row, int]]
    ) -> Iterator[bytes]:
        """Of rows that SKIP LOCKED did not show, those that are locked; the others are gone, or go into `found`."""
        if not keys:
            return
        rows = self._select(shape, keys, self._nowait)
        if rows is not None:
            found |= rows
        elif len(keys) == 1:
            yield from keys
        else:
            texts = list(keys)
            for half in (texts[: len(texts) // 2], texts[len(texts) // 2 :]):
                yield from self._missing(shape, {text: keys[text] for text in half}, found)

    def _select(
        self, shape: TableShape, keys: dict[bytes, list[Any]], locking: str
    ) -> dict[bytes, tuple[Row, int]] | None:
        """(row, bytes of it) by the text of its key; None when something is locked."""
        schema, columns = shape.schema, shape.shape.key_columns
        condition, arguments = among(schema, columns, list(keys.values()))
        with self._plain.cursor() as cursor:
            where = cursor.mogrify(condition, arguments)
        sql = f"SELECT {select_list(schema)} FROM {quote(schema.db)}.{quote(schema.table)} WHERE {where} {locking}"  # noqa: S608
        decode = row_values(schema)
        found: dict[bytes, tuple[Row, int]] = {}
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(sql)
            except pymysql.MySQLError as error:
                if error.args[0] not in _LOCKED:
                    raise
                return None
            for raw in cursor.fetchall():
                row = decode(raw)
                weight = sum(len(value) for value in raw if value is not None)
                found[orjson.dumps([row[name] for name in columns])] = row, weight
        return found


def _confirmed(shape: TableShape, doubt: _Doubt, found: tuple[Row, int] | None) -> Confirmed:
    row, weight = found or (None, 0)
    if row is not None:
        doubt.images.pop(orjson.dumps(shape.telling(row)), None)
    return Confirmed(shape, doubt.key, row, list(doubt.images.values()), doubt.written_us, weight, _settle(doubt))


def _settle(doubt: _Doubt) -> list[Source]:
    """The sources for which this was the last row in doubt."""
    settled = []
    for source in doubt.sources:
        source.left -= 1
        if not source.left:
            settled.append(source)
    return settled
