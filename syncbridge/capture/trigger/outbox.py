"""The outbox table as capture sees it: rows read once each, deleted when they are durable in the queue. IO; one thread.

Ids are taken before the commit, so a row may appear behind rows with higher ids. Each poll looks where that can happen
(gaps.py) and behind the highest id in one read view, and takes the lowest ids first: so of two changes to one row the
older is never read after the newer, in whatever epoch.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql

from syncbridge.capture.trigger.gaps import Gaps
from syncbridge.capture.trigger.render import outbox_table
from syncbridge.capture.trigger.reported import Reported
from syncbridge.errors import ConfigError, PositionLost

log = logging.getLogger(__name__)

#: Rows read in one go, and about how many characters of JSON.
MAX_ROWS = 1000
MAX_SIZE = 16 * 1024 * 1024
#: Seconds between two looks at what is in the table without having been read, and how many ids one look goes on for.
LOOK_BEHIND = 1.0
_LOOK_IDS = 20_000
#: What was slow rests for so many times as long as it took: a look, and a poll that left nothing behind.
_REST = 4
_SLOW = 0.02
#: An id that is nowhere in the table is given up after so many seconds. Between an id and its row lies no wait: this
#: is for a server that holds its breath. Whatever comes later still is found by looking behind.
_GRACE = 5.0
#: Rows deleted by one statement, gaps looked at by one SELECT (both servers limit what they optimise).
_DELETE = 1000
_GAPS = 2000
#: Seconds that a DELETE waits for somebody's lock, and until it is tried again.
_LOCK_WAIT = 1
_DELETE_AGAIN = 10.0

#: The row that is never deleted. Triggers cannot write it: their ids begin at 1.
_MARK = 0
_COLUMNS = "id, written_us, op, db, name, old_key, new_key, old_row, new_row"
#: Unknown database, unknown table.
_NO_TABLE = (1049, 1146)
#: Lock wait time-out, deadlock, read-only server (two numbers): time mends them, and reading can go on.
_NOT_NOW = (1205, 1213, 1290, 1836)
_COUNTER = re.compile(r"AUTO_INCREMENT=(\d+)")


class Outbox:
    """`connect` opens connections to the source. Raises ConfigError when the table does not exist."""

    def __init__(self, pipeline: str, connect: Callable[[], Any]) -> None:
        #: The highest id ever read.
        self.last = 0
        # The optimizer's idea of how many rows there are is always an old one: it must not choose to read them all.
        self._name = outbox_table(pipeline)
        self._table = f"{self._name} FORCE INDEX (PRIMARY)"
        #: Tells this table from a later one of its name.
        self.made = 0
        #: Up to here every id was read or is a gap; None before the first poll.
        self._place: int | None = None
        self._gaps = Gaps()
        #: Rows that were read; those of them that are to be deleted, in this order.
        self._taken: set[int] = set()
        self._durable: deque[list[int]] = deque()
        #: Behind which id the next look goes on.
        self._looked = _MARK
        self._next_poll = self._next_look = self._next_delete = 0.0
        self._connection = connect()
        try:
            with self._there():
                self._step = self._prepare()
                self.made = self._mark()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _there(self) -> Iterator[None]:
        """Raises ConfigError where the table is not, any more or not yet."""
        try:
            yield
        except pymysql.MySQLError as error:
            if error.args[0] not in _NO_TABLE:
                raise
            table = self._name.replace("`", "")
            raise ConfigError(f"the source has no outbox {table}", hint="syncbridge triggers install") from error

    def _prepare(self) -> int:
        """Set the session up; the distance of the ids that the server gives out."""
        with self._connection.cursor() as cursor:
            # Under READ COMMITTED InnoDB takes no DELETE where the binlog has statements.
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute(
                "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO',"
                f" innodb_lock_wait_timeout = {_LOCK_WAIT}, lock_wait_timeout = {_LOCK_WAIT}"
            )
            cursor.execute("USE syncbridge")  # DELETE with an alias needs one
            cursor.execute("SELECT @@global.auto_increment_increment")
            return int(cursor.fetchone()[0])

    def close(self) -> None:
        self._connection._force_close()

    # -- reading -------------------------------------------------------------------------------------------------------

    def poll(self) -> list[Reported]:
        """The next rows, ascending, late ones among them. Raises ConfigError when the table was dropped."""
        now = time.monotonic()
        if now < self._next_poll:
            return []
        with self._there():
            return self._poll(now)

    def _poll(self, now: float) -> list[Reported]:
        if self._place is None:
            self._place = self._begin()
        if now >= self._next_look:
            self._look_behind(now)
        self._delete_durable(now)
        began = time.monotonic()
        ids, more = self._visible()
        took = time.monotonic() - began
        if took > _SLOW and not more:  # it went past what others have not committed
            self._next_poll = now + _REST * took
        if not ids:
            return []
        late = [number for number in ids if number <= self._place]
        self._gaps.filled(late)
        for number in ids[len(late) :]:
            if number - self._place > self._step:
                self._gaps.passed(self._place + 1, number - 1, now)
            self._place = number
        self.last = max(self.last, self._place)
        self._taken.update(ids)
        return self._select(ids)

    def _begin(self) -> int:
        """Where reading begins: before the lowest id that is there, committed or not."""
        with self._connection.cursor() as cursor:
            self._dirty(cursor, f"SELECT MIN(id) FROM {self._table} WHERE id > {_MARK}")  # noqa: S608 - our own names
            (lowest,) = cursor.fetchone()
        return self.last if lowest is None else int(lowest) - 1

    def _visible(self) -> tuple[list[int], bool]:
        """The lowest ids that are there and not read, as many as fit into memory, and whether there are more.

        A row alone always fits. One statement, hence one read view: no change is seen without its predecessors.
        """
        conditions = [*self._in_gaps(), f"id > {self._place}"]
        size = "COALESCE(LENGTH(old_row), 0) + COALESCE(LENGTH(new_row), 0)"
        sql = " UNION ALL ".join(
            f"(SELECT id, {size} FROM {self._table} WHERE {condition} ORDER BY id LIMIT {MAX_ROWS})"  # noqa: S608
            for condition in conditions
        )
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            found = sorted(cursor.fetchall())[:MAX_ROWS]
        total = 0
        ids: list[int] = []
        for number, length in found:
            total += length
            if total > MAX_SIZE and ids:
                return ids, True
            ids.append(number)
        return ids, len(ids) == MAX_ROWS

    def _in_gaps(self) -> Iterator[str]:
        gaps = list(self._gaps)
        for start in range(0, len(gaps), _GAPS):
            yield " OR ".join(f"id BETWEEN {gap.first} AND {gap.last}" for gap in gaps[start : start + _GAPS])

    def _look_behind(self, now: float) -> None:
        """Which gaps are still alive: a dirty read shows what others have inserted and not committed."""
        assert self._place is not None
        with self._connection.cursor() as cursor:
            where = f"id > {self._looked} AND id <= {self._place}"
            sql = f"SELECT id FROM {self._table} WHERE {where} ORDER BY id LIMIT {_LOOK_IDS}"  # noqa: S608 - numbers
            self._dirty(cursor, sql)
            there = [number for (number,) in cursor.fetchall()]
        last = there[-1] if len(there) == _LOOK_IDS else self._place
        pending = [number for number in there if number not in self._taken]
        self._gaps.renew(self._looked + 1, last, pending, now, now - _GRACE)
        self._looked = last if last < self._place else _MARK
        self._next_look = now + max(LOOK_BEHIND, _REST * (time.monotonic() - now))

    def _dirty(self, cursor: Any, sql: str) -> None:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")  # for one statement
        cursor.execute(sql)

    def _select(self, ids: Sequence[int]) -> list[Reported]:
        sql = f"SELECT {_COLUMNS} FROM {self._table} WHERE id IN ({_list(ids)}) ORDER BY id"  # noqa: S608 - numbers
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return [Reported(*row) for row in cursor.fetchall()]

    # -- deleting ------------------------------------------------------------------------------------------------------

    def delete(self, ids: Iterable[int]) -> None:
        """These rows are durable in the queue. What somebody has locked is deleted later, and what came behind it.

        In the order of reading: a row that is read again after a crash may get a higher epoch, and must not beat a
        change to the same row that was deleted.
        """
        ordered = sorted(ids)
        self._durable += (ordered[start : start + _DELETE] for start in range(0, len(ordered), _DELETE))
        with self._there():
            self._delete_durable(time.monotonic())

    def _delete_durable(self, now: float) -> None:
        while self._durable and now >= self._next_delete:
            if self._delete(self._durable[0]):
                self._durable.popleft()
            else:
                self._next_delete = now + _DELETE_AGAIN

    def _delete(self, ids: Sequence[int]) -> bool:
        # Each id is looked up by itself: a scan, and even the end of a range, would lock rows of transactions that are
        # open, and wait for them. IN and FORCE INDEX are no help: where the table is small, servers scan it.
        ids_table = f"JSON_TABLE('[{_list(ids)}]', '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) AS durable"
        sql = f"DELETE box FROM {ids_table} STRAIGHT_JOIN {self._name} AS box ON box.id = durable.id"
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
        except pymysql.MySQLError as error:
            if error.args[0] not in _NOT_NOW:
                raise
            log.warning("rows of the outbox cannot be deleted now: %s (trying again)", error.args[1])
            return False
        self._taken.difference_update(ids)
        return True

    # -- the table itself ----------------------------------------------------------------------------------------------

    def _mark(self) -> int:
        """The number in the table's mark, a row that is never deleted: a table that was emptied has lost it."""
        row = self._read_mark()
        if row is None:
            sql = f"INSERT IGNORE INTO {self._name} (id, written_us, op, db, name, new_key)"
            with self._connection.cursor() as cursor:
                cursor.execute(f"{sql} VALUES ({_MARK}, 0, 's', '', '', %s)", (str(random.getrandbits(62)),))
            row = self._read_mark()
        return int(row[0])

    def _read_mark(self) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT new_key, old_key FROM {self._table} WHERE id = {_MARK}")  # noqa: S608 - our own names
            return cursor.fetchone()

    def claim(self, queue: str) -> None:
        """From here on rows go to the queue of this id. Where those of before went to another one, the table counts as
        made anew: what that one took and has not delivered, nobody here would know."""
        number, owner = self._read_mark()
        if owner == queue or not queue:
            return
        self.made = random.getrandbits(62) if owner else int(number)
        sql = f"REPLACE INTO {self._name} (id, written_us, op, db, name, new_key, old_key)"
        with self._connection.cursor() as cursor:
            cursor.execute(f"{sql} VALUES ({_MARK}, 0, 's', '', '', %s, %s)", (str(self.made), queue))

    def check(self) -> None:
        """Raises PositionLost when ids began anew: somebody emptied the table, with changes nobody had read."""
        with self._there(), self._connection.cursor() as cursor:
            cursor.execute(f"SHOW CREATE TABLE {self._name}")
            found = _COUNTER.search(cursor.fetchone()[1])
        if (int(found[1]) if found else 1) <= self.last or self._mark() != self.made:
            raise PositionLost(
                f"the outbox {self._name.replace('`', '')} was emptied by somebody else",
                hint="read every table again: syncbridge snapshot",
            )


def heartbeat_row(pipeline: str) -> Callable[[Any, int], None]:
    """Writes a heartbeat into the outbox, for HeartbeatWriter."""
    sql = f"INSERT INTO {outbox_table(pipeline)} (written_us, op, db, name, new_key) VALUES (%s, 'h', '', '', %s)"  # noqa: S608
    return lambda cursor, token: cursor.execute(sql, (time.time_ns() // 1000, str(token)))


def _list(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))
