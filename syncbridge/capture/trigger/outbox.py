"""The outbox table as capture sees it: rows in order of their ids, deleted once they are durable in the queue.

Ids are taken before the commit, so a row with a lower id may appear behind one with a higher id: poll() looks behind,
too. Rows that were read and not deleted yet are remembered, so that each is returned once. IO only; one thread.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pymysql

from syncbridge.capture.trigger.render import outbox_table
from syncbridge.errors import ConfigError, PositionLost

#: Rows read in one go, and about how many characters of JSON.
MAX_ROWS = 1000
MAX_SIZE = 16 * 1024 * 1024
#: Seconds between two looks for rows that committed behind others with higher ids.
LOOK_BEHIND = 0.1
#: Late rows read in one go: they are few.
_LATE_ROWS = 20
#: Rows deleted by one statement.
_DELETE = 1000

_COLUMNS = "id, written_us, op, db, name, old_key, new_key, old_row, new_row"
#: Unknown database, unknown table.
_NO_TABLE = (1049, 1146)
_COUNTER = re.compile(r"AUTO_INCREMENT=(\d+)")


class OutboxRow(NamedTuple):
    """One change as a trigger wrote it; keys and rows are JSON, None where the side does not exist or was too large."""

    id: int
    written_us: int
    #: c, u, d; h for a heartbeat.
    op: str
    db: str
    table: str
    old_key: str | None
    new_key: str | None
    old_row: str | None
    new_row: str | None


class Outbox:
    """`connect` opens connections to the source. Raises ConfigError when the table does not exist."""

    def __init__(self, pipeline: str, connect: Callable[[], Any]) -> None:
        #: The highest id ever read.
        self.last = 0
        self._table = outbox_table(pipeline)
        #: Tells this table from a later one of its name.
        self.made = 0
        self._taken: set[int] = set()
        self._looked = 0.0
        self._connection = connect()
        try:
            with self._connection.cursor() as cursor:
                # Deleting must not lock the gaps into which users insert.
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            self.made = self._mark()
        except pymysql.MySQLError as error:
            self.close()
            if error.args[0] not in _NO_TABLE:
                raise
            table = self._table.replace("`", "")
            raise ConfigError(f"the source has no outbox {table}", hint="syncbridge triggers install") from error

    def close(self) -> None:
        self._connection._force_close()

    def poll(self) -> list[OutboxRow]:
        """The next rows, ascending except for late ones, which come first."""
        rows: list[OutboxRow] = []
        now = time.monotonic()
        if now - self._looked >= LOOK_BEHIND:
            self._looked = now
            rows = self._late()
        if (end := self._end_of_batch()) > self.last:
            rows += self._select(f"id > {self.last} AND id <= {end} ORDER BY id")
            self.last = end
        rows = [row for row in rows if row.op != "s"]
        self._taken.update(row.id for row in rows)
        return rows

    def _end_of_batch(self) -> int:
        """The id up to which rows fit into memory together; a row alone always does."""
        size, end = 0, self.last
        with self._connection.cursor() as cursor:
            cursor.execute(
                f"SELECT id, COALESCE(LENGTH(old_row), 0) + COALESCE(LENGTH(new_row), 0) FROM {self._table} "  # noqa: S608
                f"WHERE id > {self.last} ORDER BY id LIMIT {MAX_ROWS}"
            )
            for number, length in cursor.fetchall():
                size += length
                if size > MAX_SIZE and end > self.last:
                    break
                end = number
        return end

    def _late(self) -> list[OutboxRow]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {self._table} WHERE id <= {self.last} AND op <> 's'")  # noqa: S608
            found = sorted(number for (number,) in cursor.fetchall() if number not in self._taken)[:_LATE_ROWS]
        return self._select(f"id IN ({','.join(map(str, found))}) ORDER BY id") if found else []

    def _select(self, condition: str) -> list[OutboxRow]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT {_COLUMNS} FROM {self._table} WHERE {condition}")  # noqa: S608 - our own names
            return [OutboxRow(*row) for row in cursor.fetchall()]

    def delete(self, ids: Iterable[int]) -> None:
        """These rows are durable in the queue."""
        ordered = sorted(ids)
        with self._connection.cursor() as cursor:
            for start in range(0, len(ordered), _DELETE):
                some = ordered[start : start + _DELETE]
                # Never a range over ids that were not read: a row may commit into it at any time.
                ranges = " OR ".join(f"id BETWEEN {first} AND {last}" for first, last in _runs(some))
                cursor.execute(f"DELETE FROM {self._table} WHERE {ranges}")  # noqa: S608 - numbers
        self._taken.difference_update(ordered)

    def _mark(self) -> int:
        """The number in the table's mark, a row that is never deleted: a table that was emptied has lost it."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT new_key FROM {self._table} WHERE op = 's' ORDER BY id LIMIT 1")  # noqa: S608
            row = cursor.fetchone()
            if row is None:
                row = (str(random.getrandbits(62)),)
                sql = f"INSERT INTO {self._table} (written_us, op, db, name, new_key) VALUES (0, 's', '', '', %s)"  # noqa: S608
                cursor.execute(sql, row)
        return int(row[0])

    def check(self) -> None:
        """Raises PositionLost when ids began anew: somebody emptied the table, with changes nobody had read."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"SHOW CREATE TABLE {self._table}")
            found = _COUNTER.search(cursor.fetchone()[1])
        if (int(found[1]) if found else 1) <= self.last or self._mark() != self.made:
            raise PositionLost(
                f"the outbox {self._table.replace('`', '')} was emptied by somebody else",
                hint="read every table again: syncbridge snapshot",
            )


def heartbeat_row(pipeline: str) -> Callable[[Any, int], None]:
    """Writes a heartbeat into the outbox, for HeartbeatWriter."""
    sql = f"INSERT INTO {outbox_table(pipeline)} (written_us, op, db, name, new_key) VALUES (%s, 'h', '', '', %s)"  # noqa: S608
    return lambda cursor, token: cursor.execute(sql, (time.time_ns() // 1000, str(token)))


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of consecutive numbers."""
    start = previous = numbers[0]
    for number in numbers[1:]:
        if number != previous + 1:
            yield start, previous
            start = number
        previous = number
    yield start, previous
