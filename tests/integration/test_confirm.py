"""The confirm stage against real locks: what is locked stays in doubt, nothing waits, and what is read is the truth."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from syncbridge.capture.changes import Shape
from syncbridge.capture.connection import ConnectionSettings, connect, identify
from syncbridge.capture.schema import load_tables
from syncbridge.capture.trigger.columns import reader
from syncbridge.capture.trigger.confirm import Confirm, Confirmed, Source
from syncbridge.capture.trigger.epoch import Epoch
from syncbridge.capture.trigger.hint_feed import PUT_BACK_BYTES, HintFeed
from syncbridge.capture.trigger.intake import Intake
from syncbridge.capture.trigger.reported import Reported
from syncbridge.capture.trigger.shapes import TableShape
from syncbridge.event import Event
from syncbridge.seams import Hint
from tests.servers import SqlServer, eventually

#: Long enough for any lock wait of InnoDB, by default 50 s, to be told from none.
SOON = 10.0


class Rows:
    """A table, and what is in doubt of it. The account may SELECT, and no more."""

    def __init__(self, source: SqlServer, definition: str, told_by: Iterable[str] = ()) -> None:
        source.execute(f"CREATE TABLE t ({definition})")
        user = f"only_{source.database}"[:32]
        source.create_user(user, "", f"SELECT ON {source.database}.*")
        settings = ConnectionSettings(port=source.port, user=user)
        self._opened: list[Any] = []
        self.name = (source.database, "t")
        plain = self.open(settings)
        schema = load_tables(plain, [self.name])[self.name]
        shape = Shape(*self.name, schema.primary_key, schema.types())
        self.shape = TableShape(schema, shape, reader(schema), frozenset((*schema.primary_key, *told_by)))
        self.confirm = Confirm(identify(plain), lambda raw=False: self.open(settings, raw=raw))

    def open(self, settings: ConnectionSettings, *, raw: bool = False) -> Any:
        self._opened.append(connect(settings, raw=raw))
        return self._opened[-1]

    def close(self) -> None:
        for connection in self._opened:
            connection._force_close()

    def doubt(self, *keys: Any) -> list[Source]:
        sources = [Source(Hint(orjson.dumps(key), b"x" * 100)) for key in keys]
        for key, source in zip(keys, sources, strict=True):
            named = key if isinstance(key, dict) else {"id": key}
            self.confirm.add(Reported(0, 1, "u", *self.name, None, named, None, named), self.shape, source)
        return sources

    def look(self) -> list[Confirmed]:
        """Read everything that is due."""
        found: list[Confirmed] = []
        started = time.monotonic()
        while more := self.confirm.read(self.name, self.shape, time.monotonic()):
            found += more
        assert time.monotonic() - started < SOON, "it waited for a lock"
        return found

    def ids(self, found: Iterable[Confirmed]) -> dict[int, bool]:
        """Whether each row is there."""
        return {one.key["id"]: one.row is not None for one in found}


@pytest.fixture
def new_rows(source: SqlServer) -> Iterator[Callable[..., Rows]]:
    made: list[Rows] = []

    def new(*arguments: Any) -> Rows:
        made.append(Rows(source, *arguments))
        return made[-1]

    yield new
    for rows in made:
        rows.close()


@contextmanager
def transaction(source: SqlServer, *statements: str) -> Iterator[Any]:
    with source.connect(autocommit=False) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        yield connection


def test_a_locked_row_is_neither_taken_for_gone_nor_waited_for(
    new_rows: Callable[..., Rows], source: SqlServer
) -> None:
    rows = new_rows("id INT PRIMARY KEY, v INT")
    source.execute("INSERT INTO t VALUES " + ",".join(f"({n}, 0)" for n in range(1200)))
    changes = (
        "UPDATE t SET v = 1 WHERE id IN (3, 700)",
        "DELETE FROM t WHERE id = 5",
        "INSERT INTO t VALUES (5000, 1)",
        "UPDATE t SET id = 6000 WHERE id = 8",
    )
    open_ones = {3, 700, 5, 5000, 8, 6000}
    with transaction(source, *changes) as connection:
        sources = rows.doubt(*range(1200), 5000, 6000, 9000)
        found = rows.look()
        assert rows.ids(found) == {n: n != 9000 for n in {*range(1200), 9000} - open_ones}
        assert len(rows.confirm) == len(open_ones)
        assert {one.row["v"] for one in found if one.row} == {0}
        assert sum(source.left for source in sources) == len(open_ones)
        connection.rollback()
    again: dict[int, bool] = {}
    eventually(lambda: again.update(rows.ids(rows.look())) or not len(rows.confirm))
    assert again == {3: True, 700: True, 5: True, 5000: False, 8: True, 6000: False}


def test_what_is_read_after_the_commit_is_what_was_committed(new_rows: Callable[..., Rows], source: SqlServer) -> None:
    rows = new_rows("id INT PRIMARY KEY, v VARCHAR(20), k INT", ("k",))
    source.execute("INSERT INTO t VALUES (1, 'old', 7), (2, 'old', 7)")
    with transaction(source, "UPDATE t SET v = 'new', k = 8 WHERE id = 1", "DELETE FROM t WHERE id = 2") as connection:
        for key in (1, 2):
            image = {"id": key, "v": "old", "k": 7}
            change = Reported(0, 1, "u", *rows.name, {"id": key}, {"id": key}, image, image | {"k": 8})
            rows.confirm.add(change, rows.shape, Source(key))
        assert rows.look() == []
        connection.commit()
    found: list[Confirmed] = []
    eventually(lambda: found.extend(rows.look()) or len(found) == 2)
    updated, deleted = sorted(found, key=lambda one: one.key["id"])
    assert updated.row == {"id": 1, "v": "new", "k": 8}
    assert updated.images == [{"id": 1, "k": 7}]  # the key it had; the one it has needs no word
    assert deleted.row is None
    assert deleted.images == [{"id": 2, "k": 7}, {"id": 2, "k": 8}]


def test_keys_of_every_kind_find_their_row(new_rows: Callable[..., Rows], source: SqlServer) -> None:
    rows = new_rows(
        "b VARBINARY(8), e ENUM('x','y%s'), d DECIMAL(10,2), t DATETIME(3), c VARCHAR(9), PRIMARY KEY (b, e, d, t, c)"
    )
    source.execute("INSERT INTO t VALUES (0x00FF, 'y%s', 1.50, '2026-01-02 03:04:05.678', 'Ü''%d')")
    key = {"b": "AP8=", "e": "y%s", "d": "1.50", "t": "2026-01-02 03:04:05.678", "c": "Ü'%d"}
    rows.doubt(key, key | {"c": "ü'%d"}, key | {"d": "1.51"})
    found = {orjson.dumps(one.key): one.row for one in rows.look()}
    assert found == {
        orjson.dumps(key): key,
        orjson.dumps(key | {"c": "ü'%d"}): None,  # equal to the server, another key to Redis
        orjson.dumps(key | {"d": "1.51"}): None,
    }


@pytest.mark.parametrize("source", ["mariadb"], indirect=True)
def test_a_table_that_is_being_altered_holds_nothing_up(new_rows: Callable[..., Rows], source: SqlServer) -> None:
    rows = new_rows("id INT PRIMARY KEY")
    source.execute("INSERT INTO t VALUES (1)")
    with transaction(source, "SELECT * FROM t") as connection:
        alter = threading.Thread(target=source.execute, args=("ALTER TABLE t ADD v INT",))
        alter.start()
        eventually(lambda: "metadata lock" in str(source.execute("SHOW PROCESSLIST")))
        rows.doubt(1)
        assert rows.look() == []
        connection.rollback()
    alter.join()
    eventually(lambda: rows.ids(rows.look()) == {1: True})


class FullQueue:
    """A HintQueue that has given all it can."""

    full = True

    def __init__(self, hints: list[Hint]) -> None:
        self.coming = hints
        self.returned: list[Hint] = []

    def take(self) -> list[Hint]:
        taken, self.coming = self.coming, []
        return taken

    def put_back(self, hint: Hint) -> None:
        self.returned.append(hint)


class Recorded:
    """Stands for Delivery, Outbox and State."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.actions: list[Callable[[], None]] = []

    def emit(self, one: Event, size: int) -> None:
        self.events.append(one)

    def captured(self, shape: Shape, op: str) -> None:
        """Counted elsewhere."""

    def when_durable(self, action: Callable[[], None]) -> None:
        self.actions.append(action)

    def poll(self) -> list[Reported]:
        return []


@pytest.mark.parametrize("source", ["mariadb"], indirect=True)
def test_a_transaction_larger_than_what_fits_holds_nobody_up(new_rows: Callable[..., Rows], source: SqlServer) -> None:
    rows = new_rows("id INT PRIMARY KEY, v INT")
    source.execute("INSERT INTO t VALUES " + ",".join(f"({n}, 0)" for n in range(400)))

    def hint(number: int) -> Hint:
        key = {"id": number}
        job = {"us": 1, "op": "u", "db": rows.name[0], "name": "t", "old_key": key, "new_key": key, "pad": "x" * 10_000}
        return Hint(b"H:%d" % number, orjson.dumps(job))

    # Otherwise the row behind the range would be locked, too.
    level = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
    with transaction(source, level, "UPDATE t SET v = 1 WHERE id < 399"):
        queue, seen = FullQueue([hint(n) for n in range(400)]), Recorded()
        anything: Any = seen
        intake = Intake("shop", 1, anything, anything)
        intake.shapes[rows.name] = rows.shape
        epoch = Epoch(4, lambda _: None)
        any_queue: Any = queue
        feed = HintFeed(any_queue, anything, rows.confirm, epoch, intake, anything, anything, lambda: None)
        assert feed.poll()
        assert [one["key"] for one in seen.events] == [{"id": 399}]
        assert seen.events[0]["after"] == {"id": 399, "v": 0}
        size = sum(len(one.workload) for one in queue.returned)
        assert PUT_BACK_BYTES <= size < PUT_BACK_BYTES + 11_000
        assert [one.handle for one in queue.returned] == [b"H:%d" % n for n in range(len(queue.returned))]
        eventually(lambda: feed.poll() or len(queue.returned) == 399)
        assert len(rows.confirm) == 0
