"""A source that takes no rows of ours: chunks are placed by positions, heartbeats are off, and nothing is missed."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from syncbridge.capture.snapshot import scan
from syncbridge.errors import ConfigError
from tests.integration.test_capture import Pipeline
from tests.integration.test_failover import Pair, snapshots_done
from tests.servers import SqlServer, eventually

READER = "SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.*"


class Writers:
    """Threads that change `rows` rows of the table all the time."""

    def __init__(
        self, server: SqlServer, table: str = "t", threads: int = 4, pause: float = 0, rows: int = 16000
    ) -> None:
        self._server, self._table, self._rows = server, table, rows
        self._pause = pause  # seconds between two writes of a thread
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(threads)]
        self.count = 0

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        dice = random.Random(number)
        with self._server.connect() as connection, connection.cursor() as cursor:
            while not self._stop.is_set():
                key = dice.randrange(self._rows // 4) * 4 + number  # no two threads wait for each other's rows
                cursor.execute(f"INSERT INTO {self._table} (id, v) VALUES ({key}, 0) ON DUPLICATE KEY UPDATE v = v + 1")
                if dice.random() < 0.3:
                    cursor.execute(f"DELETE FROM {self._table} WHERE id = {key}")
                self.count += 1
                self._stop.wait(self._pause)


def reader_of(server: SqlServer) -> str:
    server.create_user("reader", "secret", READER)
    return server.url("reader", "secret")


def private(new_source: Callable[..., SqlServer], **options: object) -> SqlServer:
    server = new_source(**options)
    server.execute("CREATE DATABASE shop")
    server.database = "shop"
    server.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    return server


def test_a_snapshot_under_concurrent_writes_agrees_without_writing(
    new_source: Callable[..., SqlServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(scan, "MAX_ROWS", 100)
    server = private(new_source, sync_binlog=0, innodb_flush_log_at_trx_commit=2)
    server.execute("INSERT INTO t VALUES " + ",".join(f"({n}, 0)" for n in range(6000)))
    one = Pipeline(server, tmp_path, url=reader_of(server))
    with Writers(server, rows=6000) as writers, one.running():
        snapshots_done(one)
        one.state.requests.file("snapshot", payload={"reason": "again"})
        one.state.requests.file("reread", "shop", "t", {"key": {"id": 5}})
        eventually(lambda: any(row.reason == "again" for row in one.state.snapshots.all()), timeout=10)
        snapshots_done(one)
        eventually(lambda: not one.state.requests.pending(), timeout=20)
        writers.__exit__()
        one.agrees()
    print(f"{writers.count} writes beside {sum(event['op'] == 'r' for event in one.queue.events)} rows read")
    assert writers.count > 100
    assert not server.execute("SHOW DATABASES LIKE 'syncbridge'")
    assert caplog.text.count("lag cannot be proved") == 1


def test_an_idle_read_only_source_is_mirrored(new_source: Callable[..., SqlServer], tmp_path: Path) -> None:
    server = private(new_source)
    server.execute("INSERT INTO t VALUES (1, 1), (2, 2)", "FLUSH BINARY LOGS")
    one = Pipeline(server, tmp_path, url=reader_of(server))
    with one.running():
        one.agrees()
        snapshots_done(one)
        one.state.requests.file("reread", "shop", "t", {"key": {"id": 1}})
        eventually(lambda: not one.state.requests.pending(), timeout=20)
    assert len(one.mirrored()) == 2


def test_a_table_whose_shape_is_in_doubt_loses_no_row(
    new_source: Callable[..., SqlServer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = private(new_source)
    server.execute("CREATE TABLE other LIKE t", "INSERT INTO other VALUES (1, 1)")
    one = Pipeline(server, tmp_path, url=reader_of(server))
    with one.running() as capture:
        snapshots_done(one)
        with Writers(server) as writers:
            for number in range(5):
                # In doubt from here on, as after a statement that cannot be followed.
                capture._tables.blind("shop", "t", capture._transaction.version(0))
                one.state.requests.file("snapshot", "shop", "t", {"reason": f"doubt {number}"})
                eventually(lambda: not one.state.requests.pending("snapshot"), timeout=10)  # taken, and waits in turn
                snapshots_done(one)
            writers.__exit__()
        one.agrees()
    print(f"{writers.count} writes, {caplog.text.count('its shape is known now')} times read again")


def test_mysql_without_gtids_is_refused(new_mysql: Callable[..., SqlServer], tmp_path: Path) -> None:
    server = private(new_mysql, gtid=False)
    one = Pipeline(server, tmp_path, url=reader_of(server))
    with one.running():
        eventually(lambda: one.error is not None, timeout=10)
    assert isinstance(one.error, ConfigError)
    assert "gtid_mode" in one.error.hint


@pytest.mark.parametrize(
    ("new_source", "write_url"), [("mariadb", True), ("mariadb", False), ("mysql", False)], indirect=["new_source"]
)
def test_a_read_only_replica_is_mirrored(
    new_source: Callable[..., SqlServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, write_url: bool
) -> None:
    monkeypatch.setattr(scan, "MAX_ROWS", 300)
    pair = Pair(new_source)
    pair.primary.execute("INSERT INTO t VALUES " + ",".join(f"({n}, 0)" for n in range(3000)))
    more = {"write_url": pair.primary.url()} if write_url else {}
    one = Pipeline(pair.replica, tmp_path, snapshot_rate=3000, **more)
    pair.caught_up()
    with Writers(pair.primary, threads=2, pause=0.02) as writers, one.running():
        eventually(lambda: writers.count > 20, timeout=20)
        snapshots_done(one)
        writers.__exit__()
        pair.caught_up()
        one.agrees()
    databases = pair.replica.execute("SHOW DATABASES LIKE 'syncbridge'")
    assert len(databases) == write_url
