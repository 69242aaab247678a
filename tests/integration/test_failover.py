"""The primary dies and its replica takes over: capture finds its place by GTID, or reads every table again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from syncbridge.capture.schema import TableSchema
from syncbridge.capture.snapshot import scan
from syncbridge.capture.snapshot.rows import RowSource
from tests.integration.test_capture import Pipeline
from tests.servers import SqlServer, eventually


class Pair:
    """A primary and the replica that follows it by GTID."""

    def __init__(self, new: Callable[..., SqlServer]) -> None:
        self.primary, self.replica = new(**OPTIONS), new(**OPTIONS)
        self.mariadb = self.primary.flavor == "mariadb"
        self.words = ("MASTER", "SLAVE") if self.mariadb else ("SOURCE", "REPLICA")
        self.replica.execute(self._follow(), f"START {self.words[1]}", f"SET GLOBAL {self._read_only()}=1")
        self.primary.execute("CREATE DATABASE shop")
        self.primary.database = "shop"
        self.primary.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
        self.caught_up()
        self.replica.database = "shop"

    def _follow(self) -> str:
        if self.mariadb:
            where = f"master_host='127.0.0.1', master_port={self.primary.port}, master_user='root'"
            return f"CHANGE MASTER TO {where}, master_use_gtid=slave_pos"
        where = f"source_host='127.0.0.1', source_port={self.primary.port}, source_user='root'"
        return f"CHANGE REPLICATION SOURCE TO {where}, source_auto_position=1, get_source_public_key=1"

    def _read_only(self) -> str:
        return "read_only" if self.mariadb else "super_read_only"

    def caught_up(self) -> None:
        if self.mariadb:
            gtid = self.primary.value("SELECT @@gtid_binlog_pos")
            assert self.replica.value(f"SELECT MASTER_GTID_WAIT('{gtid}', 20)") == 0
        else:
            gtid = self.primary.value("SELECT @@global.gtid_executed")
            assert self.replica.value(f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{gtid}', 20)") == 0

    def kill_in_step(self) -> None:
        """Kill the primary when the replica has everything."""
        connection = self.primary.connect()
        with connection.cursor() as cursor:
            cursor.execute("FLUSH TABLES WITH READ LOCK")
        self.caught_up()
        self.primary.kill9()
        connection._force_close()

    def stop_replication(self) -> None:
        self.replica.execute(f"STOP {self.words[1]}")

    def promote(self) -> None:
        self.stop_replication()
        self.replica.execute(f"RESET {self.words[1]} ALL", "SET GLOBAL read_only=0")

    def pipeline(self, folder: Path, **source: object) -> Pipeline:
        return Pipeline(self.primary, folder, url=[self.primary.url(), self.replica.url()], **source)


OPTIONS = {"log_slave_updates": True}


@pytest.fixture
def pair(new_source: Callable[..., SqlServer]) -> Pair:
    return Pair(new_source)


def snapshots_done(one: Pipeline) -> None:
    eventually(lambda: {row.status for row in one.state.snapshots.all()} == {"done"}, timeout=20)


def epoch(one: Pipeline) -> int:
    checkpoint = one.state.checkpoints.load()
    assert checkpoint is not None
    return checkpoint.epoch


def test_capture_finds_its_place_in_the_new_primary_by_gtid(pair: Pair, tmp_path: Path) -> None:
    pair.primary.execute("INSERT INTO t VALUES " + ",".join(f"({n}, 0)" for n in range(500)))
    one = pair.pipeline(tmp_path)
    with one.running():
        snapshots_done(one)
        pair.primary.execute("UPDATE t SET v = 1 WHERE id < 10", "DELETE FROM t WHERE id = 20")
        one.agrees()
        pair.kill_in_step()
        read = sum(event["op"] == "r" for event in one.queue.events)
        pair.promote()
        pair.replica.execute("UPDATE t SET v = 2 WHERE id < 5", "DELETE FROM t WHERE id = 30")
        pair.replica.execute("INSERT INTO t VALUES (1000, 3)", "ALTER TABLE t ADD w INT", "UPDATE t SET w=1 WHERE id=7")
        one.server = pair.replica
        one.agrees()
        snapshots_done(one)
        eventually(lambda: epoch(one) == 2, timeout=10)
    reread = [event for event in one.queue.events if event["op"] == "r"][read:]
    print(f"{len(one.queue.events)} events, {len(reread)} read again by the ALTER, {len(one.mirrored())} rows")
    assert len(one.mirrored()) == 499
    assert all("w" in event["after"] for event in reread)  # by the ALTER, not by the switch


def test_a_new_primary_that_lacks_captured_transactions_is_read_anew(pair: Pair, tmp_path: Path) -> None:
    pair.primary.execute("INSERT INTO t VALUES " + ",".join(f"({n}, 0)" for n in range(100)))
    one = pair.pipeline(tmp_path)
    with one.running():
        snapshots_done(one)
        pair.caught_up()
        pair.stop_replication()
        pair.primary.execute(
            "INSERT INTO t VALUES (5000, 1)", "DELETE FROM t WHERE id < 3", "UPDATE t SET v=9 WHERE id=50"
        )
        one.agrees()
        assert '{"id":5000}' in one.mirrored()
        pair.primary.kill9()
        # As many transactions as the lost ones, and more: MariaDB's sequence numbers alone would not tell.
        pair.promote()
        pair.replica.execute(*(f"INSERT INTO t VALUES ({6000 + number}, 2)" for number in range(200)))
        one.server = pair.replica
        one.agrees()
        snapshots_done(one)
        eventually(lambda: epoch(one) == 2, timeout=10)
    assert '{"id":5000}' not in one.mirrored()
    assert len(one.mirrored()) == 300


def test_a_replica_that_is_not_promoted_is_not_mistaken_for_the_primary(
    pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    pair.primary.execute("INSERT INTO t VALUES (1, 1)")
    one = pair.pipeline(tmp_path)
    with one.running():
        snapshots_done(one)
        pair.caught_up()
        pair.stop_replication()
        pair.primary.execute("INSERT INTO t VALUES (2, 2)")
        one.agrees()
        pair.primary.kill9()
        eventually(lambda: "is read-only" in caplog.text, timeout=20)
        pair.primary.start()
        pair.primary.execute("INSERT INTO t VALUES (3, 3)")
        one.agrees()
    assert epoch(one) == 1


@pytest.mark.parametrize("new_source", ["mariadb"], indirect=True)
def test_a_lost_queue_is_no_reason_to_leave_the_source(pair: Pair, tmp_path: Path) -> None:
    pair.replica.execute("SET GLOBAL read_only=0")  # as ready to take over as can be
    one = pair.pipeline(tmp_path)
    with one.running():
        snapshots_done(one)
        for number in range(2):
            one.queue.fail.set()
            eventually(lambda: not one.queue.fail.is_set(), timeout=20)
            pair.primary.execute(f"INSERT INTO t VALUES ({number}, 1)")
            one.agrees()
    assert epoch(one) == 1


@pytest.mark.parametrize(
    ("new_source", "table"), [("mariadb", "t"), ("mysql", "t"), ("mariadb", "blind")], indirect=["new_source"]
)
def test_a_snapshot_under_way_starts_again_on_the_new_primary(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(scan, "MAX_ROWS", 20)
    killed = threading.Event()
    read = RowSource.rows_in

    def read_until_the_kill(
        source: RowSource, schema: TableSchema, key: tuple[str, ...], piece: scan.Piece, limit: int
    ) -> object:
        if piece.after is not None and piece.after[0] >= 300:
            killed.wait(30)  # so the snapshot is under way then, however fast the machine
        return read(source, schema, key, piece, limit)

    monkeypatch.setattr(RowSource, "rows_in", read_until_the_kill)
    pair.primary.execute("INSERT INTO t VALUES " + ",".join(f"({n}, 0)" for n in range(1500)))
    if table == "blind":
        pair.primary.execute("CREATE TABLE blind SELECT * FROM t LIMIT 0", "ALTER TABLE blind ADD PRIMARY KEY (id)")
    one = Pipeline(pair.primary, tmp_path, table, url=[pair.primary.url(), pair.replica.url()])
    with one.running():
        if table == "blind":  # capture never saw its shape: CREATE … SELECT under its name
            snapshots_done(one)
            pair.primary.execute("DROP TABLE blind", "CREATE TABLE blind LIKE t", "INSERT INTO blind SELECT * FROM t")
            pair.primary.execute("ALTER TABLE blind ADD w INT AS (v * 2) VIRTUAL, ADD CONSTRAINT c CHECK (v < 1000)")
            one.state.requests.file("snapshot", payload={"reason": "test"})
        eventually(lambda: sum(event["op"] == "r" for event in one.queue.events) > 200, timeout=20)
        one.state.requests.file("reread", "shop", table, {"key": {"id": 1}})
        pair.kill_in_step()
        assert any(row.status != "done" for row in one.state.snapshots.all())
        killed.set()
        pair.promote()
        pair.replica.execute(f"UPDATE {table} SET v = 7 WHERE id % 100 = 0", f"INSERT INTO {table} (id) VALUES (9999)")
        one.server = pair.replica
        one.agrees()
        snapshots_done(one)
        eventually(lambda: not one.state.requests.pending(), timeout=20)
    assert len(one.mirrored()) == 1501


def test_a_replica_that_is_promoted_late_is_found(pair: Pair, tmp_path: Path) -> None:
    """Between a primary that steps down and a replica that takes over, there is none: whoever is read is read only."""
    one = pair.pipeline(tmp_path)
    with one.running() as capture:
        snapshots_done(one)
        pair.primary.execute(f"SET GLOBAL {pair._read_only()}=1")
        eventually(lambda: capture._source.reads_replica, timeout=20)
        pair.caught_up()
        pair.promote()
        pair.replica.execute("INSERT INTO t VALUES (1, 1)")
        one.server = pair.replica
        one.agrees()


def test_a_primary_that_steps_down_and_lives_on_is_left(pair: Pair, tmp_path: Path) -> None:
    one = pair.pipeline(tmp_path)
    with one.running():
        snapshots_done(one)
        pair.caught_up()
        pair.primary.execute(f"SET GLOBAL {pair._read_only()}=1")
        pair.caught_up()
        pair.promote()
        pair.replica.execute("INSERT INTO t VALUES (1, 1)")
        one.server = pair.replica
        one.agrees()
        eventually(lambda: epoch(one) == 2, timeout=20)
        before = pair.replica.value("SELECT MAX(written_us) FROM syncbridge.heartbeat")
        eventually(lambda: pair.replica.value("SELECT MAX(written_us) FROM syncbridge.heartbeat") > before, timeout=10)
