"""Capture against real servers, with a queue and a mirror in memory: what is captured, once it is all applied in
order of version, is what SELECT shows; and nothing depends on where capture was interrupted."""

from __future__ import annotations

import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
import pytest

from syncbridge.capture.capture import Capture
from syncbridge.capture.connection import ConnectionSettings, connect
from syncbridge.capture.delivery import Delivery
from syncbridge.capture.schema import load_tables
from syncbridge.capture.snapshot import packets, rows, scan, snapshots
from syncbridge.capture.snapshot.select import row_values, select_list
from syncbridge.config import parse_config
from syncbridge.errors import ConfigError, PermanentError, PositionLost, TransientError
from syncbridge.event import Event
from syncbridge.state import State
from syncbridge.version import parse
from syncbridge.workload import decode_job
from tests.marks import on_mariadb
from tests.servers import SqlServer, eventually


class MemoryQueue:
    """A LaneQueue whose jobs are done at once; `events` is everything that was ever accepted, in order."""

    def __init__(self) -> None:
        self.id = "queue-1"
        self.events: list[Event] = []
        self.accepted = 0
        self.backlog = self.backlog_bytes = 0
        self.fail = threading.Event()
        self._done: list[tuple[int, int]] = []
        self._sockets: tuple[socket.socket, ...] = ()

    def connect(self) -> str:
        self.close()
        self._sockets = socket.socketpair()
        return self.id

    def submit(self, lane: int, workload: bytes) -> int:
        self.events += decode_job(workload)
        self.accepted += 1
        return self.accepted

    def probe(self, lane: int, workload: bytes, token: int) -> None:
        self._done.append((lane, token))

    def poll(self, timeout: float) -> None:
        if self.fail.is_set():
            self.fail.clear()
            raise TransientError("the queue went away")

    def answered(self) -> list[tuple[int, int]]:
        done, self._done = self._done, []
        return done

    def pending(self) -> int:
        return 0

    def fileno(self) -> int:
        return self._sockets[0].fileno()

    def close(self) -> None:
        for one in self._sockets:
            one.close()


class MemoryMirror:
    """A Mirror that only remembers."""

    def __init__(self) -> None:
        self.known_epoch = 0
        self.known_marks: dict[int, str] = {}

    def epoch(self) -> int:
        return self.known_epoch

    def raise_epoch(self, epoch: int) -> None:
        self.known_epoch = max(self.known_epoch, epoch)

    def marks(self) -> dict[int, str]:
        return self.known_marks


class Pipeline:
    """A capture on a server, with its memory beside it."""

    def __init__(
        self,
        server: SqlServer,
        folder: Path,
        table: str = "t",
        key: str = "t:{id}",
        mapping: dict[str, Any] | None = None,
        **source: Any,
    ) -> None:
        self.server = server
        self.table = table
        self.queue = MemoryQueue()
        self.mirror = MemoryMirror()
        name = f"p{zlib.crc32(str(folder).encode())}"
        text = orjson.dumps(
            {
                "name": name,
                "source": {"url": server.url(), "heartbeat": "200ms", **source},
                "sink": {"url": "redis://127.0.0.1:1"},
                "state": f"sqlite:///{folder}/state.db",
                "mappings": [{"table": f"{server.database}.{table}", "key": key, **(mapping or {})}],
            }
        ).decode()
        self.config = parse_config(text, {"HOME": str(folder)})
        self.state = State.open(self.config.state, name)
        self.error: Exception | None = None

    @contextmanager
    def running(self) -> Iterator[Capture]:
        capture = Capture(self.config, self.state, self.queue, self.mirror)
        thread = threading.Thread(target=self._run, args=(capture,))
        thread.start()
        try:
            yield capture
        finally:
            capture.stop()
            thread.join(20)
            assert not thread.is_alive()

    def _run(self, capture: Capture) -> None:
        try:
            capture.run()
        except Exception as error:
            self.error = error

    def mirrored(self) -> dict[str, Any]:
        """The rows as the events tell them: newest version of each key wins; a sweep removes what is older."""
        newest: dict[tuple[str, str], tuple[str, Any]] = {}
        for event in list(self.queue.events):
            table = event["source"]["table"]
            if event["op"] == "t":
                newest = {k: v for k, v in newest.items() if k[0] != table or v[0] >= event["version"]}
                continue
            key = (table, orjson.dumps(event["key"]).decode())
            if key not in newest or newest[key][0] < event["version"]:
                newest[key] = (event["version"], event["after"])
        return {key: row for (_, key), (_, row) in newest.items() if row is not None}

    def selected(self) -> dict[str, Any]:
        settings = ConnectionSettings(port=self.server.port, user="root")
        name = (self.server.database, self.table)
        with connect(settings, raw=True) as connection:
            schema = load_tables(connection, [name]).get(name)
            if schema is None:
                return {}
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {select_list(schema)} FROM `{name[0]}`.`{name[1]}`")
                decode = row_values(schema)
                rows = [decode(row) for row in cursor.fetchall()]
        return {orjson.dumps({c: row[c] for c in schema.primary_key}).decode(): row for row in rows}

    def agrees_done(self) -> None:
        """The same, and every snapshot has ended."""
        self.agrees() if self.table != "*" else None

        def ended() -> bool:
            if self.error is not None:
                raise self.error
            rows = self.state.snapshots.all()
            return bool(rows) and {row.status for row in rows} == {"done"}

        eventually(ended, timeout=20, message="snapshots are done")

    def agrees(self) -> None:
        """Waits until the mirror shows what SELECT shows."""

        def same() -> bool:
            if self.error is not None:
                raise self.error
            # Without an assert: the difference of large tables takes pytest a minute to tell.
            return self.mirrored() == self.selected()

        def difference() -> str:
            mirrored, selected = self.mirrored(), self.selected()
            keys = [key for key in mirrored | selected if mirrored.get(key) != selected.get(key)]
            shown = [f"{key}: {mirrored.get(key)} in the mirror, {selected.get(key)} selected" for key in keys[:5]]
            return f"{len(keys)} rows differ: {'; '.join(shown)}"

        eventually(same, timeout=20, message=difference)


@pytest.fixture
def pipeline(source: SqlServer, tmp_path: Path) -> Iterator[Callable[..., Pipeline]]:
    made: list[Pipeline] = []

    def make(**options: Any) -> Pipeline:
        made.append(Pipeline(source, tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.state.close()


def test_rows_from_before_and_during_capture_arrive(pipeline: Callable[..., Pipeline], source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    source.execute("INSERT INTO t VALUES " + ",".join(f"({n}, 'old')" for n in range(5000)))
    one = pipeline()
    with one.running():
        source.execute("UPDATE t SET v = 'new' WHERE id < 100", "DELETE FROM t WHERE id = 200")
        source.execute("UPDATE t SET id = 10000 WHERE id = 300", "INSERT INTO t VALUES (20000, NULL)")
        one.agrees()
        eventually(lambda: [row.status for row in one.state.snapshots.all()] == ["done"], timeout=10)
    assert len(one.mirrored()) == 5000


def test_a_restart_captures_what_came_meanwhile_under_the_same_versions(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    one = pipeline()
    with one.running():
        source.execute("INSERT INTO t VALUES (1, 1)")
        one.agrees()
    before = one.state.checkpoints.load()
    assert before is not None
    source.execute("INSERT INTO t VALUES (2, 2)", "UPDATE t SET v = 3 WHERE id = 1", "DELETE FROM t WHERE id = 2")
    with one.running():
        one.agrees()
    events = [event["version"] for event in one.queue.events if event["op"] in "cud"]
    one.state.checkpoints.save(before)
    count = len(one.queue.events)
    with one.running():
        eventually(lambda: len([e for e in one.queue.events[count:] if e["op"] in "cud"]) == 3, timeout=10)
    again = [event["version"] for event in one.queue.events[count:] if event["op"] in "cud"]
    assert again == events[-3:]


@on_mariadb
def test_a_column_that_no_mapping_looks_at_is_not_carried_until_one_does(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, photo BLOB, v INT, price DECIMAL(5,2))")
    hidden = pipeline(mapping={"columns": {"exclude": ["photo", "price"]}, "where": "price < 10"})
    with hidden.running():
        eventually(lambda: {row.status for row in hidden.state.snapshots.all()} == {"done"})
        source.execute(
            "INSERT INTO t VALUES (1, 'jpeg', 1, 1.50), (2, NULL, NULL, NULL)", "UPDATE t SET v = 2 WHERE id = 1"
        )
        eventually(lambda: any(event["op"] == "u" for event in hidden.queue.events))
    changes = sorted((event for event in hidden.queue.events if event["op"] in "cu"), key=itemgetter("version"))
    assert [(event["before"], event["after"]) for event in changes] == [
        (None, {"id": 1, "v": 1, "price": "1.50"}),
        (None, {"id": 2, "v": None, "price": None}),
        ({"id": 1, "v": 1, "price": "1.50"}, {"id": 1, "v": 2, "price": "1.50"}),
    ]
    assert {(*event["gone"], *event["types"]) for event in changes} == {("photo", "price")}
    source.execute("UPDATE t SET v = 3 WHERE id = 1")  # read by a capture with other mappings
    shown = pipeline()
    with shown.running():
        shown.agrees()
        source.execute("UPDATE t SET v = 4 WHERE id = 1")
        shown.agrees_done()
    changes = sorted((event for event in shown.queue.events if event["op"] == "u"), key=itemgetter("version"))
    assert [(event["before"]["photo"], event["after"]["v"]) for event in changes] == [("anBlZw==", 3), ("anBlZw==", 4)]
    assert {event["key"]["id"] for event in shown.queue.events if event["op"] == "r"} == {1, 2}, "it was read again"


def test_ddl_is_followed_and_a_changed_table_reads_itself_again(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    one = pipeline()
    with one.running():
        one.agrees()
        for statement in (
            "ALTER TABLE t ADD COLUMN w VARCHAR(10) NOT NULL DEFAULT 'x' AFTER id",
            "INSERT INTO t VALUES (3, 'three', 3)",
            "ALTER TABLE t DROP COLUMN v, ADD INDEX (w)",
            "UPDATE t SET w = 'two' WHERE id = 2",
            "ALTER TABLE t MODIFY w CHAR(5) CHARACTER SET latin1",
            "INSERT INTO t VALUES (4, 'é')",
            "ALTER TABLE t RENAME COLUMN w TO z",
            "UPDATE t SET z = 'zz' WHERE id = 1",
        ):
            source.execute(statement)
        one.agrees()


def test_truncate_drop_and_rename_empty_the_mirror_behind_a_barrier(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    one = pipeline()
    with one.running():
        one.agrees()
        source.execute("TRUNCATE TABLE t", "INSERT INTO t VALUES (2, 22)")
        one.agrees()
        source.execute("RENAME TABLE t TO t_old")
        one.agrees()
        source.execute("CREATE TABLE t_new (id INT PRIMARY KEY, v INT)", "INSERT INTO t_new VALUES (7, 7)")
        source.execute("RENAME TABLE t_new TO t", "INSERT INTO t VALUES (8, 8)")
        one.agrees()
        source.execute("CREATE TABLE t_gho (id INT PRIMARY KEY, v INT, w INT)", "INSERT INTO t_gho VALUES (9, 9, 9)")
        source.execute("RENAME TABLE t TO t_del, t_gho TO t", "UPDATE t SET w = 10")
        one.agrees()
        source.execute("DROP TABLE t")
        one.agrees()
    assert one.mirrored() == {}


def test_a_statement_in_place_of_rows_stops_capture_before_the_checkpoint(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    one = pipeline()
    with one.running():
        source.execute("INSERT INTO t VALUES (1, 1)")
        one.agrees()
        connection = source.connect()
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION binlog_format = STATEMENT")
            cursor.execute("INSERT INTO t VALUES (2, 2)")
        connection.close()
        eventually(lambda: one.error is not None, timeout=10)
    assert isinstance(one.error, PermanentError)
    assert "ROW" in one.error.hint
    file, pos = source.binlog_position()
    checkpoint = one.state.checkpoints.load()
    assert checkpoint is not None
    assert (checkpoint.file, checkpoint.pos) < (file, pos)


@on_mariadb
def test_a_lost_connection_to_the_queue_loses_nothing(pipeline: Callable[..., Pipeline], source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    one = pipeline()
    with one.running():
        for number in range(40):
            source.execute(f"INSERT INTO t VALUES ({number}, {number})")
            if number % 10 == 5:
                one.queue.fail.set()
        one.agrees()


@on_mariadb
def test_a_table_read_in_many_chunks_at_once_under_changes_is_whole(
    pipeline: Callable[..., Pipeline], source: SqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "MAX_ROWS", 50)
    monkeypatch.setattr(rows, "MAX_BYTES", 10_000)  # wide rows: a range takes several chunks
    monkeypatch.setattr(packets, "READ_SIZE", 4000)
    source.execute("CREATE TABLE t (a INT, b VARCHAR(9), v INT, w MEDIUMTEXT, PRIMARY KEY (a, b))")
    filled = ",".join(f"({n // 7}, '{n % 7}%', 0, REPEAT('w', {900 if n % 300 < 60 else 9}))" for n in range(3000))
    source.execute(f"INSERT INTO t VALUES {filled}")
    one = pipeline(key="t:{a}:{b}", snapshot_readers=4)
    with one.running(), source.connect() as connection, connection.cursor() as cursor:
        dice = random.Random(5)
        writes = 0
        while not one.state.snapshots.all() or one.state.snapshots.all()[0].status != "done":
            assert one.error is None
            if writes == 500:  # more would leave no wide rows, where reading is slow
                threading.Event().wait(0.01)
                continue
            a, b = dice.randrange(440), f"{dice.randrange(8)}%"
            cursor.execute("REPLACE INTO t VALUES (%s, %s, 1, 'new')", (a, b))
            cursor.execute("DELETE FROM t WHERE a = %s LIMIT 1", (dice.randrange(440),))
            writes += 1
        one.agrees()
    (row,) = one.state.snapshots.all()
    every = [event["version"] for event in one.queue.events if event["op"] == "r"]
    read = [version for version in every if version >= row.first_version]  # it may have begun again
    print(f"{len(read)} rows in {len(set(read))} chunks, {len(every) - len(read)} read before it began again")
    assert len(set(read)) > 3000 / 50 + 10
    assert row.rows_done == len(read)
    assert row.first_version == min(read)


@on_mariadb
def test_a_snapshot_reads_no_faster_than_it_may(pipeline: Callable[..., Pipeline], source: SqlServer) -> None:
    rate = 400
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    source.execute("INSERT INTO t VALUES " + ",".join(f"({n})" for n in range(1500)))
    one = pipeline(snapshot_rate=rate)
    seen: list[tuple[float, int]] = []
    began = time.monotonic()
    with one.running():
        while not seen or seen[-1][1] < 1500:
            found = sum(event["op"] == "r" for event in list(one.queue.events))
            seen.append((time.monotonic() - began, found))
            assert one.error is None
            threading.Event().wait(0.01)
        one.agrees_done()
    print(f"1500 rows in {seen[-1][0]:.1f} s")
    # Each of two readers may have a chunk of a second's rows that is not paid for yet.
    assert all(found <= rate * seconds + 2 * rate for seconds, found in seen)
    assert seen[-1][0] >= (1500 - 2 * rate) / rate


def test_requests_in_the_state_are_served(pipeline: Callable[..., Pipeline], source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    one = pipeline()
    database = source.database
    with one.running():
        eventually(lambda: [row.status for row in one.state.snapshots.all()] == ["done"], timeout=10)
        count = len(one.queue.events)
        one.state.requests.file("reread", database, "t", {"key": {"id": 1}})
        one.state.requests.file("reread", database, "t", {"key": {"id": 5}, "rows": [{"id": 5, "v": 0}]})
        eventually(lambda: not one.state.requests.pending(), timeout=10)
        assert {e["op"]: e["key"] for e in one.queue.events[count:]} == {"r": {"id": 1}, "d": {"id": 5}}
        one.state.requests.file("snapshot", payload={"reason": "test"})
        eventually(lambda: any(row.reason == "test" for row in one.state.snapshots.all()), timeout=10)
        eventually(lambda: [row.status for row in one.state.snapshots.all()] == ["done"], timeout=10)
        one.agrees()


def test_another_queue_means_capturing_again_from_the_marks(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    one = pipeline()
    with one.running():
        source.execute("INSERT INTO t VALUES (1, 1)")
        one.agrees()
        eventually(lambda: [row.status for row in one.state.snapshots.all()] == ["done"], timeout=10)
    version = max(event["version"] for event in one.queue.events)
    one.mirror.known_marks = dict.fromkeys(range(8), version)
    with one.running():
        source.execute("INSERT INTO t VALUES (2, 2)")
        one.agrees()
    one.queue.events = [event for event in one.queue.events if event["key"] != {"id": 2}]
    one.queue.id = "queue-2"
    with one.running():
        one.agrees()


def test_a_binlog_reset_reads_every_table_again_under_a_new_epoch(
    new_source: Callable[..., SqlServer], tmp_path: Path
) -> None:
    server = new_source()
    server.execute("CREATE DATABASE shop")
    server.database = "shop"
    server.execute("CREATE TABLE shop.t (id INT PRIMARY KEY, v INT)", "INSERT INTO shop.t VALUES (1, 1)")
    one = Pipeline(server, tmp_path)
    with one.running():
        one.agrees()
    server.execute("DELETE FROM shop.t")
    server.execute("RESET MASTER" if server.flavor == "mariadb" else "RESET BINARY LOGS AND GTIDS")
    server.execute("INSERT INTO shop.t VALUES (2, 2)")
    with one.running():
        one.agrees()
    checkpoint = one.state.checkpoints.load()
    assert checkpoint is not None
    assert checkpoint.epoch == 2
    one.state.close()


def test_a_table_that_cannot_be_read_consistently_is_refused(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT) ENGINE=MyISAM", "INSERT INTO t VALUES (1, 1)")
    one = pipeline()
    with one.running():
        eventually(lambda: one.error is not None, timeout=10)
    assert isinstance(one.error, ConfigError)
    assert "ENGINE=InnoDB" in one.error.hint


def test_a_table_created_and_emptied_at_once_is_mirrored_all_the_same(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
    one = pipeline()
    with one.running():
        one.agrees()
        source.execute("DROP TABLE t")
        source.execute(
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9))", "TRUNCATE TABLE t", "INSERT INTO t VALUES (2, 'b')"
        )
        one.agrees()
        source.execute("INSERT INTO t VALUES (3, 'c')")
        one.agrees()


@on_mariadb
def test_a_quiet_table_that_was_mapped_later_can_be_read_again(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id INT PRIMARY KEY, v INT)")
    source.execute("INSERT INTO t VALUES (1, 1)", "INSERT INTO u VALUES (1, 1)")
    one = pipeline()
    with one.running():
        one.agrees()
    two = pipeline(table="u")
    two.config = one.config.model_copy(update={"mappings": (*one.config.mappings, *two.config.mappings)})
    with two.running():
        two.agrees_done()
        two.queue.events.clear()
        two.state.requests.file("snapshot", source.database, "u", {"reason": "again"})
        eventually(lambda: [e["op"] for e in two.queue.events if e["source"]["table"] == "u"][:1] == ["r"], timeout=10)


def test_without_heartbeats_an_idle_source_still_ends_its_snapshots(
    pipeline: Callable[..., Pipeline], source: SqlServer
) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
    one = pipeline(heartbeat="0s")
    with one.running():
        one.agrees_done()
        before = one.state.checkpoints.load()
        source.execute("FLUSH BINARY LOGS")
        eventually(lambda: one.state.checkpoints.load().file != before.file, timeout=10)  # type: ignore[union-attr]


@on_mariadb
def test_a_state_that_fails_once_loses_no_progress(pipeline: Callable[..., Pipeline], source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
    one = pipeline()
    save, failures = one.state.snapshots.save, [TransientError("the state is away")]

    def failing(row: Any) -> None:
        if row.status == "sweeping" and failures:
            raise failures.pop()
        save(row)

    one.state.snapshots.save = failing  # type: ignore[method-assign]
    with one.running():
        one.agrees_done()
    assert not failures


def test_a_rewind_is_done_once(pipeline: Callable[..., Pipeline], source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
    one = pipeline()
    with one.running():
        one.agrees_done()
        source.execute("INSERT INTO t VALUES (2, 2)")
        one.agrees()
        version = max(event["version"] for event in one.queue.events)
        one.state.requests.file("rewind", payload={"version": version})
        eventually(lambda: sum(e["version"] == version for e in one.queue.events) == 2, timeout=10)
        passed = parse(version).pos
        eventually(lambda: one.state.checkpoints.load().pos > passed, timeout=10)  # type: ignore[union-attr]
        one.queue.fail.set()
        source.execute("INSERT INTO t VALUES (3, 3)")
        one.agrees()
        eventually(lambda: one.state.checkpoints.load().gtid_set, timeout=10)  # type: ignore[union-attr]
    assert sum(event["version"] == version for event in one.queue.events) == 2


@on_mariadb
def test_a_row_asked_for_by_an_older_key_reads_the_table(pipeline: Callable[..., Pipeline], source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL)", "INSERT INTO t VALUES (1, 1)")
    one = pipeline()
    with one.running():
        one.agrees_done()
        source.execute("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (id, v)")
        one.agrees_done()
        one.state.requests.file("reread", source.database, "t", {"key": {"id": 1}})
        eventually(lambda: not one.state.requests.pending(), timeout=10)
        eventually(lambda: "older key" in one.state.snapshots.all()[0].reason, timeout=10)
        one.agrees_done()


def test_a_table_dropped_while_the_binlog_was_lost_is_swept(
    new_mariadb: Callable[..., SqlServer], tmp_path: Path
) -> None:
    server = new_mariadb()
    server.execute("CREATE DATABASE shop")
    server.database = "shop"
    server.execute("CREATE TABLE shop.t (id INT PRIMARY KEY)", "INSERT INTO shop.t VALUES (1)")
    server.execute("CREATE TABLE shop.u (id INT PRIMARY KEY)")
    one = Pipeline(server, tmp_path, table="*", key="{_table}:{id}")
    with one.running():
        one.agrees_done()
        eventually(one.mirrored, timeout=10)
    server.execute("DROP TABLE shop.t", "RESET MASTER")
    with one.running():
        eventually(lambda: not one.mirrored(), timeout=20)
    one.state.close()


@on_mariadb
def test_a_lost_state_is_no_first_start(pipeline: Callable[..., Pipeline], source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    one = pipeline(snapshot="never")
    one.mirror.known_epoch = 3
    with one.running():
        eventually(lambda: one.error is not None, timeout=10)
    assert isinstance(one.error, PositionLost)
    assert "syncbridge snapshot" in one.error.hint


@on_mariadb
def test_many_tables_are_swept_together(
    pipeline: Callable[..., Pipeline], source: SqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    barriers: list[int] = []
    barrier = Delivery.barrier

    def counted(delivery: Delivery, sweeps: Iterable[Event], idle: Callable[[float], None]) -> None:
        its = list(sweeps)
        barriers.append(len(its))
        barrier(delivery, its, idle)

    monkeypatch.setattr(Delivery, "barrier", counted)
    monkeypatch.setattr(snapshots, "SWEEP_WAIT", 60.0)
    monkeypatch.setattr(snapshots, "MANY_SWEEPS", 5)
    for number in range(12):
        source.execute(f"CREATE TABLE t{number} (id INT PRIMARY KEY)", f"INSERT INTO t{number} VALUES ({number})")
    one = pipeline(table="*", key="{_table}:{id}")
    with one.running():
        one.agrees_done()
    print(f"12 tables swept at {len(barriers)} barriers: {barriers}")
    assert sum(barriers) == 12
    assert len(barriers) <= 3  # at five or more each, and at the end
    swept = {event["source"]["table"]: event["version"] for event in one.queue.events if event["op"] == "t"}
    read = {event["source"]["table"]: event["version"] for event in one.queue.events if event["op"] == "r"}
    assert swept == read
    assert len(read) == 12


def test_one_table_without_a_key_under_a_wildcard_stops_no_other(
    new_mariadb: Callable[..., SqlServer], tmp_path: Path
) -> None:
    server = new_mariadb()
    server.execute("CREATE DATABASE shop")
    server.database = "shop"
    server.execute("CREATE TABLE shop.t (id INT PRIMARY KEY)", "CREATE TABLE shop.keyless (id INT)")
    one = Pipeline(server, tmp_path, table="*", key="{_table}:{id}")
    with one.running():
        one.agrees_done()
        server.execute("INSERT INTO shop.keyless VALUES (1)", "INSERT INTO shop.t VALUES (1)")
        server.execute("CREATE TABLE shop.later (id INT)", "INSERT INTO shop.later VALUES (1)")
        server.execute("CREATE TABLE shop.myisam (id INT PRIMARY KEY) ENGINE=MyISAM")
        server.execute("INSERT INTO shop.myisam VALUES (1)", "INSERT INTO shop.t VALUES (2)")
        eventually(lambda: one.error is not None or len(one.mirrored()) == 2, timeout=15)
        one.agrees_done()
    assert one.error is None
    assert {event["source"]["table"] for event in one.queue.events if event["op"] in "cur"} == {"t"}
    one.state.close()
