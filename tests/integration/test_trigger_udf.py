"""Trigger capture over the UDF and the confirm stage: whole pipelines on real servers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncbridge.seams import hints_function
from tests.integration.trigger_tools import ORDERS, Sessions, end_in_part, insert, installed, triggered
from tests.pipeline import Pipeline, mirrored_hashes, wait_same
from tests.servers import Redis, SqlServer, eventually
from tests.servers.job_server import Peer
from tests.servers.udf import install as install_library
from tests.servers.udf import run_file

BY_CUSTOMER = {"key": "by-customer:{customer}:{id}", "where": "total > 5"}


@pytest.fixture
def source(new_source: Callable[..., SqlServer], udf_library: Path) -> SqlServer:
    server = new_source(plugin_dir=str(udf_library))
    install_library(server)
    server.execute("CREATE DATABASE shop")
    server.database = "shop"
    server.execute(ORDERS)
    return server


@pytest.fixture
def pipeline(source: SqlServer, redis_server: Redis, tmp_path: Path) -> Pipeline:
    mappings: list[dict[str, Any]] = [
        {"table": "shop.orders", "key": "order:{id}"}, {"table": "shop.orders", **BY_CUSTOMER}
    ]  # fmt: skip
    return triggered(tmp_path, source, redis_server, mappings, transport="udf")


def stats(source: SqlServer) -> dict[str, int]:
    found: dict[str, int] = json.loads(source.value("SELECT CONVERT(gman_stats() USING utf8mb4)"))
    return found


def agrees(pipeline: Pipeline) -> int:
    """The rows compared: both mappings show what the table holds, and nothing else."""
    rows = wait_same(pipeline, "orders", "order:")

    def same() -> bool:
        shown = pipeline.source.execute("SELECT customer, id FROM orders WHERE total > 5 AND customer IS NOT NULL")
        wanted = {f"by-customer:{customer}:{number}" for customer, number in shown}
        assert set(mirrored_hashes(pipeline.redis, "by-customer:*")) == wanted
        return True

    eventually(same)
    return rows


def test_every_change_arrives_and_no_rollback_does(pipeline: Pipeline, source: SqlServer) -> None:
    insert(source, *range(300))
    installed(pipeline)
    with pipeline.running():
        assert agrees(pipeline) == 300
        before = stats(source)["jobs"]
        insert(source, *range(300, 400))
        source.execute(
            "UPDATE orders SET total = total + 1, note = NULL WHERE id % 3 = 0",
            "UPDATE orders SET customer = customer + 1 WHERE id % 5 = 0",
            "UPDATE orders SET id = id + 10000 WHERE id % 10 = 7",
            "DELETE FROM orders WHERE id % 10 = 3",
        )
        with source.connect(autocommit=False) as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")  # no gap locks, for the insert
            cursor.execute("UPDATE orders SET note = 'rolled back'")
            cursor.execute("INSERT INTO orders (id, note) VALUES (5000, 'never')")
            cursor.execute("DELETE FROM orders WHERE id = 6")
            # What the rest of the world changes meanwhile does not wait for this transaction.
            insert(source, 777)
            eventually(lambda: pipeline.redis.client().exists("order:777"))
            assert not pipeline.redis.client().exists("order:5000")
            end_in_part(connection, cursor)
        assert agrees(pipeline) == 361
        done = pipeline.command("verify")
        assert done.returncode == 0, done.stdout + done.stderr
        now = stats(source)
        assert now["jobs"] - before > 500
        assert now["failures"] == 0
        assert pipeline.metric("syncbridge_lag_seconds") is not None


def test_eight_sessions_with_rollbacks_while_tables_are_read_again(pipeline: Pipeline, source: SqlServer) -> None:
    insert(source, *range(300))
    installed(pipeline)
    sessions = Sessions(source)
    with pipeline.running():
        agrees(pipeline)
        with sessions.at_work():
            for _ in range(3):
                assert pipeline.command("snapshot", "--wait", "--timeout", "60").returncode == 0
        rows = agrees(pipeline)
        print(f"{sessions.done} transactions of {sessions.COUNT} sessions, {rows} rows compared")
        assert pipeline.command("verify").returncode == 0
        assert pipeline.metric("syncbridge_dead_letters") == 0


def test_without_library_or_job_server_changes_go_through_the_outbox(pipeline: Pipeline, source: SqlServer) -> None:
    installed(pipeline)
    insert(source, *range(10))
    with pipeline.running():
        assert agrees(pipeline) == 10
        (server,) = pipeline.stages("server")
        server.suspend()
        try:
            insert(source, *range(10, 20))
            source.execute("UPDATE orders SET customer = 9 WHERE id < 5")
        finally:
            server.resume()
        assert agrees(pipeline) == 20
        run_file(source, "remove.sql")
        insert(source, *range(20, 30))
        source.execute("DELETE FROM orders WHERE id = 3")
        assert agrees(pipeline) == 29
        eventually(lambda: "udf install" in pipeline.log())
        install_library(source)
        eventually(lambda: insert_one(source) and stats(source)["jobs"] > 0)
        agrees(pipeline)


@pytest.mark.parametrize("new_source", ["mariadb"], indirect=True)
def test_without_confirm_the_payload_is_mirrored_as_it_came(pipeline: Pipeline, source: SqlServer) -> None:
    insert(source, *range(20))
    pipeline.settings["source"]["trigger"]["confirm"] = False
    pipeline.write_config()
    installed(pipeline)
    with pipeline.running(), pipeline.redis.client() as redis:
        insert(source, *range(20, 40))
        source.execute("UPDATE orders SET customer = 50 WHERE id = 3", "DELETE FROM orders WHERE id = 4")
        assert agrees(pipeline) == 39
        with source.connect(autocommit=False) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE orders SET note = 'rolled back' WHERE id = 5")
            connection.rollback()
        eventually(lambda: redis.hget("order:5", "note") == b"rolled back")  # as docs say
        assert pipeline.command("verify").returncode == 1


@pytest.mark.parametrize("new_source", ["mariadb"], indirect=True)
def test_poison_becomes_dead_letters_and_the_rest_goes_on(pipeline: Pipeline, source: SqlServer) -> None:
    installed(pipeline)
    with pipeline.running(), pipeline.redis.client() as redis:
        source.execute("SELECT gman_do_background('syncbridge.hints:shop', 'no job of a trigger')")
        eventually(lambda: pipeline.metric("syncbridge_dead_letters") == 1)
        redis.lpush("order:2", "not a hash")
        insert(source, 1, 2, 3)
        eventually(lambda: redis.exists("order:1", "order:3") == 2)
        eventually(lambda: pipeline.metric("syncbridge_retries_pending") == 1)
        redis.delete("order:2")
        source.execute("UPDATE orders SET note = 'mended' WHERE id = 2")
        assert agrees(pipeline) == 3
        eventually(lambda: pipeline.metric("syncbridge_retries_pending") == 0)
        assert agrees(pipeline) == 3


@pytest.mark.parametrize("new_source", ["mariadb"], indirect=True)
def test_hints_that_are_left_when_the_transport_changes_leave_the_queue(pipeline: Pipeline, source: SqlServer) -> None:
    def waiting() -> int:
        try:
            with Peer(pipeline.queue_port) as peer:
                lines = peer.text("status", ".\n").splitlines()
        except ConnectionError:  # not there yet
            return 0
        return sum(int(line.split("\t")[1]) for line in lines if line.startswith(hints_function("shop")))

    installed(pipeline)
    with pipeline.running():
        insert(source, *range(20))
        assert agrees(pipeline) == 20
    with pipeline.stage("server"):
        numbers = itertools.count(20)
        eventually(lambda: insert(source, next(numbers)) or waiting())
        left, rows = waiting(), next(numbers)
    pipeline.settings["source"]["trigger"]["transport"] = "outbox"
    pipeline.write_config()
    installed(pipeline)
    source.execute("UPDATE orders SET note = 'new' WHERE id = 5")
    with pipeline.running():
        assert agrees(pipeline) == rows
        assert waiting() == 0
        assert f"{left} hints were left" in pipeline.log()


def insert_one(source: SqlServer) -> bool:
    source.execute("REPLACE INTO orders (id) VALUES (999)")
    return True
