"""Trigger capture over an outbox, whole pipelines on real servers: `syncbridge run` with capture: trigger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncbridge.capture.connection import identify
from syncbridge.capture.sql import quote
from syncbridge.capture.trigger import install
from syncbridge.capture.trigger.shapes import numbers
from syncbridge.state import State
from tests.integration.trigger_tools import Sessions, end_in_part, insert, installed, orders_pipeline, triggered
from tests.pipeline import Pipeline, mirrored_hashes, wait_same
from tests.servers import Redis, SqlServer, eventually


@pytest.fixture
def pipeline(source: SqlServer, redis_server: Redis, tmp_path: Path) -> Pipeline:
    return orders_pipeline(tmp_path, source, redis_server)


def test_rows_from_before_and_every_change_after_reach_redis(pipeline: Pipeline, source: SqlServer) -> None:
    insert(source, *range(500))
    installed(pipeline)
    with pipeline.running():
        assert wait_same(pipeline, "orders", "order:") == 500
        insert(source, *range(500, 600))
        source.execute(
            "UPDATE orders SET total = total + 1, note = NULL WHERE id % 3 = 0",
            "UPDATE orders SET id = id + 10000 WHERE id % 10 = 7",
            "DELETE FROM orders WHERE id % 10 = 3",
            "UPDATE IGNORE orders SET id = 1 WHERE id = 2",
        )
        with source.connect(autocommit=False) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE orders SET note = 'rolled back'")
            end_in_part(connection, cursor)
        assert wait_same(pipeline, "orders", "order:") == 540
        eventually(lambda: source.value("SELECT COUNT(*) FROM syncbridge.outbox_shop WHERE op IN ('c', 'u', 'd')") == 0)
        done = pipeline.command("verify")
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("source", ["mariadb"], indirect=True)
def test_without_triggers_it_says_what_to_run(pipeline: Pipeline, source: SqlServer) -> None:
    pipeline.start()
    eventually(lambda: "syncbridge triggers install" in pipeline.log(), timeout=20)
    assert pipeline.process is not None
    assert pipeline.process.wait(20) == 2
    assert pipeline.command("triggers", "status").returncode == 1
    assert "triggers install" in pipeline.command("check").stdout
    installed(pipeline)
    assert pipeline.command("triggers", "status").returncode == 0


def test_triggers_come_and_go_without_trace(pipeline: Pipeline, source: SqlServer) -> None:
    source.execute("CREATE TRIGGER theirs AFTER INSERT ON orders FOR EACH ROW SET @x = 1")
    installed(pipeline)
    again = pipeline.command("triggers", "install", "--json")
    assert '"missing": 0' in again.stdout
    assert '"installed": 3' in again.stdout
    source.execute("ALTER TABLE orders ADD extra INT DEFAULT 5")
    stale = pipeline.command("triggers", "status", "--json")
    assert stale.returncode == 1
    assert '"stale": 3' in stale.stdout
    upgraded = pipeline.command("triggers", "install", "--json")
    assert '"missing": 3' in upgraded.stdout
    assert pipeline.command("triggers", "status").returncode == 0
    rendered = pipeline.command("triggers", "render").stdout
    assert rendered.count("CREATE TRIGGER") == 3
    removed = pipeline.command("triggers", "remove")
    assert removed.returncode == 0, removed.stderr
    left = source.execute("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()")
    assert left == [("theirs",)]
    assert source.execute("SHOW DATABASES LIKE 'syncbridge'") == []


def test_triggers_are_upgraded_and_removed_while_everybody_writes(pipeline: Pipeline, source: SqlServer) -> None:
    insert(source, *range(300))
    installed(pipeline)
    sessions = Sessions(source)
    pipeline.start()
    pipeline.wait_ready()
    with sessions.at_work():
        source.execute("ALTER TABLE orders ADD extra INT DEFAULT 5")
        assert pipeline.command("triggers", "install").returncode == 0
    wait_same(pipeline, "orders", "order:")
    again = Sessions(source)
    with again.at_work():
        removed = pipeline.command("triggers", "remove")
        assert removed.returncode == 0, removed.stderr
        assert pipeline.process is not None
        assert pipeline.process.wait(60) == 2, "capture cannot go on, and says so"
        before = again.done
        eventually(lambda: again.done > before + 50)
        assert pipeline.command("triggers", "install").returncode == 0
    assert "has no outbox syncbridge.outbox_shop" in pipeline.log()
    assert not sessions.failures + again.failures, "no statement of anybody failed by us"
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")


def test_a_long_transaction_keeps_neither_us_nor_others_waiting(
    pipeline: Pipeline, source: SqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_ATTEMPTS", 2)
    with source.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM orders")
        done = pipeline.command("triggers", "install")
        assert done.returncode == 1
        assert "a transaction uses the table" in done.stderr
        insert(source, 1)
    installed(pipeline)


@pytest.mark.parametrize("source", ["mariadb"], indirect=True)
def test_columns_added_and_a_table_emptied_are_followed(pipeline: Pipeline, source: SqlServer) -> None:
    insert(source, *range(50))
    installed(pipeline)
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
        source.execute("ALTER TABLE orders ADD extra INT DEFAULT 5")
        source.execute("INSERT INTO orders (id, extra) VALUES (1000, 7)", "UPDATE orders SET extra = 8 WHERE id = 3")
        assert wait_same(pipeline, "orders", "order:") == 51
        assert pipeline.command("triggers", "install").returncode == 0
        source.execute("UPDATE orders SET extra = 9 WHERE id = 4")
        assert wait_same(pipeline, "orders", "order:") == 51
        source.execute("TRUNCATE orders")
        insert(source, 1, 2)
        assert wait_same(pipeline, "orders", "order:") == 2


def test_what_happens_to_tables_while_nobody_captures_is_noticed(
    source: SqlServer, redis_server: Redis, tmp_path: Path
) -> None:
    source.execute(*(f"CREATE TABLE {name} (id INT PRIMARY KEY, v INT)" for name in ("a", "b", "c", "d")))
    mappings: list[dict[str, Any]] = [{"table": f"{source.database}.*", "key": "{_table}:{id}"}]
    pipeline = triggered(tmp_path, source, redis_server, mappings)
    source.execute("DROP DATABASE IF EXISTS syncbridge")
    assert pipeline.command("triggers", "install").returncode == 0
    with pipeline.running():
        for name in ("a", "b", "c", "d"):
            source.execute(f"INSERT INTO {name} VALUES (1, 1), (2, 2)")
            assert wait_same(pipeline, name, f"{name}:") == 2
    source.execute(
        "TRUNCATE a",
        "INSERT INTO a VALUES (2, 5)",
        "DROP TABLE b",
        "ALTER TABLE c ADD w INT DEFAULT 7",
        "CREATE TABLE e (id INT PRIMARY KEY, v INT)",
        "INSERT INTO e VALUES (1, 1)",
    )
    assert pipeline.command("triggers", "install").returncode == 0
    with pipeline.running():
        for name, rows in {"a": 1, "c": 2, "d": 2, "e": 1}.items():
            assert wait_same(pipeline, name, f"{name}:") == rows
        eventually(lambda: not mirrored_hashes(pipeline.redis, "b:*"), timeout=30, message=pipeline.log)


def test_columns_that_change_their_types_are_followed(pipeline: Pipeline, source: SqlServer) -> None:
    one = ["TIMESTAMP(3) NULL", "DATETIME(3)", "VARBINARY(40)", "VARCHAR(40)", "INT", "DOUBLE", "VARCHAR(40)"]
    other = ["DATETIME(3)", "TIMESTAMP(3) NULL", "VARCHAR(40)", "VARBINARY(40)", "VARBINARY(40)", "INT", "BLOB"]

    def columns(types: list[str], verb: str = "") -> str:
        return ", ".join(f"{verb} c{number} {type_}" for number, type_ in enumerate(types))

    def write(*ids: int) -> None:
        for number in ids:
            moment = "'2026-03-01 10:00:00.250'"
            source.execute(
                f"REPLACE INTO orders VALUES ({number}, {moment}, {moment}, 'four', 'not base64!', {number}, 3, 'text')"
            )

    source.execute("DROP TABLE orders", f"CREATE TABLE orders (id INT PRIMARY KEY, {columns(one)})")
    installed(pipeline)
    with pipeline.running():
        write(1, 2, 3)
        assert wait_same(pipeline, "orders", "order:") == 3
        source.execute(f"ALTER TABLE orders {columns(other, 'MODIFY')}")
        write(2, 4)
        assert wait_same(pipeline, "orders", "order:") == 4
        write(3, 5)
        source.execute("DELETE FROM orders WHERE id = 1")
        assert wait_same(pipeline, "orders", "order:") == 4, "their triggers are older than the table"
    pipeline.start()
    pipeline.wait_ready()
    write(6)
    assert wait_same(pipeline, "orders", "order:") == 5, "they are no reason not to start, either"
    assert pipeline.command("triggers", "install").returncode == 0
    write(7)
    assert wait_same(pipeline, "orders", "order:") == 6
    pipeline.stop()
    write(8)
    source.execute(f"ALTER TABLE orders {columns(one, 'MODIFY')}")
    assert pipeline.command("triggers", "install").returncode == 0
    with pipeline.running():
        write(9)
        assert wait_same(pipeline, "orders", "order:") == 8
        assert pipeline.metric("syncbridge_dead_letters") == 0


@pytest.fixture
def odd_database(source: SqlServer) -> Iterator[str]:
    """Its name is not what its folder is called."""
    name = f"{source.database}-ö $"
    source.execute(f"CREATE DATABASE {quote(name)}")
    yield name
    source.execute(f"DROP DATABASE {quote(name)}")


def test_rows_that_go_and_come_past_the_triggers_are_noticed(
    source: SqlServer, odd_database: str, redis_server: Redis, tmp_path: Path
) -> None:
    """TRUNCATE of a table with an odd name, and what DDL does to partitions; `aux` is no name for a file, either."""
    odd, parted, other = (f"{quote(odd_database)}.{quote(name)}" for name in ("a.b`ü€", "aux", "other"))
    ranges = ", ".join(f"PARTITION p{n} VALUES LESS THAN ({n}0)" for n in range(1, 5))
    rows = ", ".join(f"({n}, 'first')" for n in range(1, 40))
    source.execute(
        f"CREATE TABLE {odd} (id INT PRIMARY KEY, v VARCHAR(9))",
        f"CREATE TABLE {other} (id INT PRIMARY KEY, v VARCHAR(9))",
        f"CREATE TABLE {parted} (id INT PRIMARY KEY, v VARCHAR(9)) PARTITION BY RANGE (id) ({ranges})",
        f"INSERT INTO {odd} VALUES {rows}",
        f"INSERT INTO {parted} VALUES {rows}",
        f"INSERT INTO {other} VALUES (22, 'other')",
    )
    mappings = [
        {"table": f"{odd_database}.a.b`ü€", "key": "odd:{id}"}, {"table": f"{odd_database}.aux", "key": "part:{id}"}
    ]  # fmt: skip
    pipeline = triggered(tmp_path, source, redis_server, mappings)
    assert pipeline.command("triggers", "install").returncode == 0
    with pipeline.running():
        assert wait_same(pipeline, odd, "odd:") == wait_same(pipeline, parted, "part:") == 39
        source.execute(f"TRUNCATE {odd}", f"ALTER TABLE {parted} DROP PARTITION p1")
        assert wait_same(pipeline, odd, "odd:") == 0
        assert wait_same(pipeline, parted, "part:") == 30
        for change, left in (
            (f"ALTER TABLE {parted} TRUNCATE PARTITION p2", 20),
            (f"ALTER TABLE {parted} EXCHANGE PARTITION p3 WITH TABLE {other}", 11),
            (f"TRUNCATE {parted}", 0),
        ):
            source.execute(change)
            assert wait_same(pipeline, parted, "part:") == left


def test_every_name_is_found_as_innodb_writes_it(source: SqlServer, odd_database: str) -> None:
    names = ["a$b", "a-b", "a b", "A", "a", "b`'\"%s{x}\\?*/#p#", "b@0040@", "b@@@", "Ää", "ж日€Ａⓐ", "con", "clock$"]
    tables = [(odd_database, name) for name in names]
    with source.connect(database=odd_database) as connection, connection.cursor() as cursor:
        for name in names:
            cursor.execute(f"CREATE TABLE {quote(name)} (id INT PRIMARY KEY)")
        server = identify(connection)
        before = numbers(connection, server, tables)
        for table in tables:
            cursor.execute(f"TRUNCATE {quote(table[1])}")
            after = numbers(connection, server, tables)
            differing = [one[1] for one in tables if before.get(one) != after.get(one)]
            alike = ["a$b", "a-b", "a b"]  # but for odd characters
            assert differing == (alike if table[1] in alike else [table[1]])
            before = after


@contextmanager
def small_packets(source: SqlServer, redis_server: Redis, folder: Path, columns: str) -> Iterator[Pipeline]:
    """A pipeline at work, of a table `orders` with these columns."""
    source.execute("CREATE DATABASE big")
    source.database = "big"
    source.execute(f"CREATE TABLE orders ({columns})")
    pipeline = triggered(folder, source, redis_server, [{"table": "big.orders", "key": "order:{id}"}])
    installed(pipeline)
    with pipeline.running():
        yield pipeline


def test_a_row_too_large_for_json_is_read_from_its_table(
    new_source: Callable[..., SqlServer], redis_server: Redis, tmp_path: Path
) -> None:
    source = new_source(max_allowed_packet="1M")
    with small_packets(source, redis_server, tmp_path, "id INT PRIMARY KEY, a LONGTEXT, b LONGTEXT") as pipeline:
        source.execute(
            "INSERT INTO orders VALUES (1, REPEAT('x', 700000), REPEAT('y', 700000)), (2, 'small', NULL)",
            "UPDATE orders SET a = REPEAT('z', 600000) WHERE id = 1",
        )
        assert wait_same(pipeline, "orders", "order:") == 2
        source.execute("DELETE FROM orders WHERE id = 1")
        assert wait_same(pipeline, "orders", "order:") == 1


def test_a_value_that_fits_into_a_packet_but_not_as_text_is_no_null(
    new_source: Callable[..., SqlServer], redis_server: Redis, tmp_path: Path
) -> None:
    source = new_source(max_allowed_packet="1M")
    with small_packets(
        source, redis_server, tmp_path, "id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT CHARACTER SET latin1, g GEOMETRY"
    ) as pipeline:
        source.execute(
            "INSERT INTO orders (id, b) VALUES (1, REPEAT('x', 800000))",
            "INSERT INTO orders (id, t) VALUES (2, REPEAT(_latin1 0xe9, 600000))",
            "INSERT INTO orders (id, b, t) VALUES (3, 'small', 'small'), (4, NULL, NULL)",
            "UPDATE orders SET b = REPEAT('y', 790000) WHERE id = 3",
        )
        assert wait_same(pipeline, "orders", "order:") == 4


def test_eight_sessions_with_rollbacks_while_tables_are_read_again(pipeline: Pipeline, source: SqlServer) -> None:
    insert(source, *range(300))
    installed(pipeline)
    sessions = Sessions(source)
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
        with sessions.at_work():
            for _ in range(3):
                assert pipeline.command("snapshot", "--wait", "--timeout", "60").returncode == 0
        rows = wait_same(pipeline, "orders", "order:")
        print(f"{sessions.done} transactions of {sessions.COUNT} sessions, {rows} rows compared")
        assert pipeline.command("verify").returncode == 0
        assert pipeline.metric("syncbridge_dead_letters") == 0


@pytest.mark.parametrize("source", ["mariadb"], indirect=True)
def test_an_emptied_outbox_and_a_lost_state_read_everything_again(pipeline: Pipeline, source: SqlServer) -> None:
    insert(source, *range(100))
    installed(pipeline)
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
    source.execute(
        "UPDATE orders SET total = 99", "TRUNCATE syncbridge.outbox_shop", "DELETE FROM orders WHERE id < 10"
    )
    with pipeline.running():
        assert wait_same(pipeline, "orders", "order:") == 90
        assert "emptied or captured by somebody else" in pipeline.log()
    (pipeline.folder / "state.db").unlink()
    source.execute("UPDATE orders SET total = 98")
    with pipeline.running():
        assert wait_same(pipeline, "orders", "order:") == 90
    assert len(mirrored_hashes(pipeline.redis, "order:*")) == 90


@pytest.mark.parametrize("source", ["mariadb"], indirect=True)
def test_a_redis_that_lost_data_while_nobody_captured_is_filled_again(pipeline: Pipeline, source: SqlServer) -> None:
    """What a worker files when it finds Redis restarted (sinks/marks.py)."""
    insert(source, *range(100))
    installed(pipeline)
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
    with pipeline.redis.client() as client:
        client.delete("order:1", "order:2")
    state = State.open(f"sqlite:///{pipeline.folder}/state.db", "shop")
    state.requests.file("rewind", payload={"version": "0" * 40})
    with pipeline.running():
        assert wait_same(pipeline, "orders", "order:") == 100
        assert state.requests.pending() == []
    state.close()


@pytest.mark.parametrize("source", ["mariadb"], indirect=True)
def test_what_update_ignore_refused_is_not_mirrored(pipeline: Pipeline, source: SqlServer) -> None:
    """MariaDB fires the triggers of rows that it then refuses, too."""
    source.execute(
        "ALTER TABLE orders ADD UNIQUE (customer), ADD INDEX (total)",
        "CREATE TABLE parts (id INT PRIMARY KEY, total DECIMAL(10,2), FOREIGN KEY (total) REFERENCES orders (total))",
        "INSERT INTO orders (id, customer, total) VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)",
        "INSERT INTO parts VALUES (1, 2)",
    )
    installed(pipeline)
    with pipeline.running():
        assert wait_same(pipeline, "orders", "order:") == 3
        source.execute(
            "UPDATE IGNORE orders SET id = 1, note = 'no' WHERE id = 2",
            "UPDATE IGNORE orders SET customer = 1, note = 'no' WHERE id = 2",
            "UPDATE IGNORE orders SET total = 9, note = 'no' WHERE id = 2",
            "UPDATE IGNORE orders SET customer = 4, note = 'yes' WHERE id = 3",
        )
        eventually(lambda: mirrored_hashes(pipeline.redis, "order:3")["order:3"].get("note") == b"yes")
        eventually(lambda: source.value("SELECT COUNT(*) FROM syncbridge.outbox_shop WHERE op = 'u'") == 0)
        assert wait_same(pipeline, "orders", "order:") == 3
