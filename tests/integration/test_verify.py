"""`verify` finds what differs, waits for what is in flight, and `--repair` has the pipeline mend it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.marks import on_mariadb
from tests.pipeline import Pipeline
from tests.servers import Redis, SqlServer, eventually


@pytest.fixture
def pipeline(source: SqlServer, redis_server: Redis, tmp_path: Path) -> Iterator[Pipeline]:
    db = source.database
    source.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, status VARCHAR(20), total DECIMAL(10,2), note TEXT)",
        "CREATE TABLE users (shop INT, nr INT, mail VARCHAR(50) NOT NULL UNIQUE, age INT, PRIMARY KEY (shop, nr))",
        "INSERT INTO orders WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900)"
        " SELECT i, IF(i % 10 = 0, 'draft', 'paid'), i / 7, IF(i % 3, NULL, REPEAT('ä', i % 5)) FROM n",
        "INSERT INTO users VALUES (1, 1, 'ann@x', 30), (1, 2, 'bob@x', 40), (2, 1, 'cid:@x', NULL)",
    )
    mappings = [
        {"table": f"{db}.orders", "key": "order:{id}", "where": "status <> 'draft'"},
        {"table": f"{db}.orders", "key": "total:{id}", "type": "string", "value": "{total}"},
        {"table": f"{db}.users", "key": "mail:{mail}", "type": "json"},
        {"table": f"{db}.users", "key": "user:{_key}", "ttl": "7d"},
    ]
    with Pipeline(tmp_path, source, redis_server, mappings).running() as running:
        with redis_server.client() as client:
            expected = 810 + 900 + 3 + 3
            eventually(lambda: len(client.keys("[otmu]*:*")) == expected, 30, lambda: str(client.dbsize()))
        yield running


def verify(pipeline: Pipeline, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = pipeline.command("verify", "--json", "--settle", "1", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_differences_are_found_and_repaired(pipeline: Pipeline, source: SqlServer, redis_server: Redis) -> None:
    code, found = verify(pipeline)
    assert (code, found["differences"]) == (0, 0)
    assert [(table["rows"], table["keys"]) for table in found["tables"]] == [(900, 1710), (3, 6)]

    with redis_server.client() as client:
        client.hset("order:1", "status", "wrong")
        client.hdel("order:2", "total")
        client.delete("order:3", "total:4", "mail:ann@x")
        client.set("total:5", "0")
        client.persist("user:1:1")
        # Left-overs that no row yields: of a row that never was, and of a row that has another key now.
        client.hset("order:99999", mapping={"id": "99999", "_v": client.hget("order:1", "_v")})
        (guard,) = client.mget("syncbridge:shop:g:{mail:bob@x}")
        client.set("mail:old@x", "{}")
        client.set("syncbridge:shop:g:{mail:old@x}", guard)

    code, found = verify(pipeline)
    kinds = sorted((one["kind"], one["key"]) for one in found["shown"])
    assert code == 1
    assert kinds == [
        ("different", "order:1"), ("different", "order:2"), ("different", "total:5"), ("different", "user:1:1"),
        ("extra", "mail:old@x"), ("extra", "order:99999"),
        ("missing", "mail:ann@x"), ("missing", "order:3"), ("missing", "total:4"),
    ]  # fmt: skip
    human = pipeline.command("verify", "--settle", "1", "--table", f"{source.database}.orders")
    assert human.returncode == 1
    assert "6 differences" in human.stdout
    assert "syncbridge verify --repair" in human.stdout

    code, found = verify(pipeline, "--repair")
    assert (code, found["differences"], found["repaired"]) == (0, 0, 9), found
    with redis_server.client() as client:
        assert client.hget("order:1", "status") == b"paid"
        assert not client.exists("order:99999", "mail:old@x")
    assert verify(pipeline)[0] == 0
    assert pipeline.metric("syncbridge_dead_letters") == 0


@on_mariadb
def test_extra_keys_rows_in_flight_and_a_pipeline_that_does_not_run(
    pipeline: Pipeline, source: SqlServer, redis_server: Redis
) -> None:
    an_extra_key_of_a_row_that_stopped_matching_goes_with_a_snapshot(pipeline, redis_server)
    rows_in_flight_do_not_count(pipeline, source)
    a_pipeline_that_does_not_run_leaves_differences(pipeline, source)


def an_extra_key_of_a_row_that_stopped_matching_goes_with_a_snapshot(pipeline: Pipeline, redis_server: Redis) -> None:
    with redis_server.client() as client:
        client.hset("order:10", mapping={"id": "10", "_v": client.hget("order:1", "_v")})  # its status is draft
    code, found = verify(pipeline)
    assert (code, [one["key"] for one in found["shown"]]) == (1, ["order:10"])
    code, found = verify(pipeline, "--repair")
    assert (code, found["repaired"]) == (0, 1), found
    with redis_server.client() as client:
        assert not client.exists("order:10")


def rows_in_flight_do_not_count(pipeline: Pipeline, source: SqlServer) -> None:
    stop = threading.Event()

    def write() -> None:
        with source.connect() as connection, connection.cursor() as cursor:
            number = 0
            while not stop.wait(0.05):  # no faster than any machine mirrors it, or verify would wait for ever
                number += 1
                cursor.execute("UPDATE orders SET note = %s WHERE id %% 7 = %s", (str(number), number % 7))
                cursor.execute("REPLACE INTO orders VALUES (%s, 'paid', 1, 'x')", (1000 + number % 50,))
                cursor.execute("DELETE FROM orders WHERE id = %s", (1000 + (number + 25) % 50,))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = pipeline.command("verify", "--json", "--settle", "20")  # no machine stands still for so long
    finally:
        stop.set()
        writer.join()
    assert done.returncode == 0, done.stdout + done.stderr


def a_pipeline_that_does_not_run_leaves_differences(pipeline: Pipeline, source: SqlServer) -> None:
    pipeline.stop()
    source.execute("UPDATE orders SET total = 0 WHERE id <= 5", "DELETE FROM users WHERE nr = 2")
    code, found = verify(pipeline)
    assert code == 1
    assert found["differences"] == 5 + 5 + 2
    pipeline.start()
    pipeline.wait_ready()
    assert verify(pipeline)[0] == 0
