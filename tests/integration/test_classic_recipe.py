"""Hand-written triggers that call gman_do_background: in front of our worker, and of any Gearman worker."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import Pipeline
from tests.servers import Redis, SqlServer, eventually
from tests.servers.job_server import Peer
from tests.servers.service import Service
from tests.servers.udf import install, point_to

MAPPING = {"function": "syncToRedis", "key": "order:{id}", "type": "json", "delete_when": "_op = 'delete'"}
ROW = "JSON_OBJECT('id', {0}.id, 'status', {0}.status, 'total', {0}.total, 'note', {0}.note, '_op', '{1}')"


def shop(server: SqlServer) -> SqlServer:
    """A table with the triggers of the recipe."""
    install(server)
    server.execute("SELECT gman_option_set('reply_timeout', 10000)")
    server.execute("CREATE DATABASE shop")
    server.database = "shop"
    server.execute("CREATE TABLE orders (id INT PRIMARY KEY, status VARCHAR(20), total DECIMAL(20,2), note TEXT)")
    for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        server.execute(
            f"CREATE TRIGGER orders_{event} AFTER {event} ON orders FOR EACH ROW"
            f" SET @ret = gman_do_background('syncToRedis', {ROW.format(row, event.lower())})"
        )
    return server


@pytest.fixture
def sql(new_source: Callable[..., SqlServer], udf_library: Path) -> SqlServer:
    return shop(new_source(plugin_dir=str(udf_library)))


def functions_only(folder: Path, sql: SqlServer, redis: Redis, *mappings: dict[str, Any], **more: Any) -> Pipeline:
    pipeline = Pipeline(folder, sql, redis, mappings or [MAPPING], **more)
    del pipeline.settings["source"]
    pipeline.write_config()
    return pipeline


def differences(sql: SqlServer, redis: Redis) -> list[str]:
    wanted = {}
    for number, status, total, note in sql.execute("SELECT id, status, total, note FROM shop.orders"):
        wanted[f"order:{number}"] = {"id": number, "status": status, "total": float(total), "note": note}
    with redis.client() as client:
        names = list(client.scan_iter("order:*", count=5000))
        values = client.mget(names) if names else []
    found = {name.decode(): json.loads(value) for name, value in zip(names, values, strict=True) if value is not None}
    every = wanted.keys() | found.keys()
    return [f"{name}: {wanted.get(name)}, {found.get(name)}" for name in every if wanted.get(name) != found.get(name)]


def wait_same(sql: SqlServer, redis: Redis, timeout: float = 60) -> None:
    def same() -> bool:
        found = differences(sql, redis)
        assert not found, f"{len(found)} differences, for example: {found[:3]}"
        return True

    eventually(same, timeout=timeout, interval=0.1, message="Redis shows the table")


def test_killed_workers_lose_nothing_and_change_no_order(sql: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    pipeline = functions_only(tmp_path, sql, redis_server, sink={"workers": 2})
    kills = 0

    def write(start: int, end: int) -> None:
        for number in range(start, end):
            cursor.execute(f"REPLACE INTO orders VALUES ({number % 40}, 's{number}', {number}.10, 'tab\\tü\"{number}')")
            if number % 7 == 0:
                cursor.execute(f"DELETE FROM orders WHERE id = {number // 7 % 40}")

    def kill() -> None:
        nonlocal kills
        for worker in pipeline.stages("worker"):
            worker.kill()
            kills += 1

    with (
        pipeline.running(),
        redis_server.client() as client,
        sql.connect() as connection,
        connection.cursor() as cursor,
    ):
        point_to(sql, pipeline.queue_port)
        for start in (0, 150):
            write(start, start + 150)
            kill()
        eventually(lambda: in_hand(pipeline) == (0, 0), timeout=30, message=pipeline.log)
        client.client_pause(20_000, all=False)  # no writes: what a worker takes now stays in its hands
        write(300, 380)
        eventually(lambda: in_hand(pipeline)[1] > 10, timeout=20)
        kill()
        client.client_unpause()
        write(380, 410)
        wait_same(sql, redis_server)
        print(f"{sql.flavor}: 410 writes, {kills} kills")
        assert kills >= 6
        wait_done(pipeline)
        wait_same(sql, redis_server)
        # The last kill took the gauge along; the next worker brings it back.
        eventually(lambda: pipeline.metric("syncbridge_dead_letters") == 0, message=pipeline.log)


def in_hand(pipeline: Pipeline) -> tuple[int, int]:
    """Jobs of the function in the queue, and how many of them a worker has."""
    with Peer(pipeline.queue_port) as peer:
        lines = [line.split("\t") for line in peer.text("status", end=".\n").splitlines()]
    return next(((int(line[1]), int(line[2])) for line in lines if line[0] == "syncToRedis"), (0, 0))


def wait_done(pipeline: Pipeline) -> None:
    def done() -> bool:
        (function,) = json.loads(pipeline.command("status", "--json").stdout)["functions"]
        return function == {"name": "syncToRedis", "jobs": 0, "running": 0, "workers": 1}

    eventually(done, timeout=20)


def _look_around(pipeline: Pipeline) -> None:
    """What the other commands say of such a pipeline."""
    status = pipeline.command("status")
    assert status.returncode == 0
    assert "syncToRedis" in status.stdout
    assert "lag" not in status.stdout + pipeline.log().splitlines()[-1]
    check = pipeline.command("check")
    assert "0 errors" in check.stdout, check.stdout
    row = '{"id": 12, "status": "a", "total": 1.00, "note": null}'
    explained = pipeline.command("explain", "function:syncToRedis", "--object", row)
    assert explained.returncode == 0, explained
    assert "order:12" in explained.stdout
    gone = pipeline.command("explain", "function:syncToRedis", "--object", row[:-1] + ',"_op":"delete"}')
    assert gone.returncode == 1
    assert "should be gone" in gone.stdout
    for command, word in (
        (("explain", "function:other", "--object", "{}"), "syncToRedis"),
        (("explain", "function:syncToRedis", "--object", "{"), "not JSON"),
        (("explain", "function:syncToRedis", "--key", "id=1"), "--object"),
        (("verify",), "nothing to compare"),
        (("snapshot",), "nothing to read"),
        (("capture",), "nothing to capture"),
        (("triggers", "status"), "source"),
    ):
        refused = pipeline.command(*command)
        assert refused.returncode == 2, (command, refused)
        assert word in refused.stderr, (command, refused)


@pytest.fixture
def mariadb_sql(new_mariadb: Callable[..., SqlServer], udf_library: Path) -> SqlServer:
    return shop(new_mariadb(plugin_dir=str(udf_library)))


def test_poison_jobs_reload_and_dead_letters(mariadb_sql: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    sql, retry = mariadb_sql, {"max_attempts": 2, "backoff": "100ms"}
    pipeline = functions_only(tmp_path, sql, redis_server, retry=retry)
    with pipeline.running(), redis_server.client() as client:
        point_to(sql, pipeline.queue_port)
        client.lpush("order:13", "not ours")
        for workload in ("'no json'", "NULL", "x'ff'", "'[1]'", """'{"id": 99, "n": NaN, "t": "a\tb"}'"""):
            assert sql.value(f"SELECT gman_do_background('syncToRedis', {workload})")
        sql.execute("INSERT INTO orders VALUES (12, 'a', 1, NULL), (13, 'b', 2, NULL), (14, 'c', 3, NULL)")
        eventually(lambda: client.exists("order:12", "order:14") == 2, timeout=20)
        assert client.get("order:99") == b'{"id":99,"n":null,"t":"a\\tb"}'
        eventually(lambda: pipeline.metric("syncbridge_dead_letters") == 5, timeout=30)
        listed = json.loads(pipeline.command("dead-letter", "list", "--json", "--table", "function:syncToRedis").stdout)
        assert sorted(row["error"] for row in listed["rows"]) == ["PermanentError"] * 4 + ["WRONGTYPE"]
        (blocked,) = (row for row in listed["rows"] if row["error"] == "WRONGTYPE")
        assert (blocked["table"], blocked["key"], blocked["payload"]["status"]) == (
            "function:syncToRedis", {"id": 13}, "b",
        )  # fmt: skip
        client.delete("order:13")
        assert pipeline.command("dead-letter", "retry", str(blocked["id"])).returncode == 0
        eventually(lambda: client.exists("order:13"), timeout=20)
        discarded = pipeline.command("dead-letter", "discard", "--all", "--table", "function:syncToRedis")
        assert "4 dead letters discarded, 0 left" in discarded.stdout
        _look_around(pipeline)

        assert sql.value("SELECT gman_do_background('mail', '{\"id\": 1}')")
        pipeline.settings["mappings"].append({"function": "mail", "key": "mail:{id}"})
        pipeline.write_config()
        assert pipeline.process is not None
        pipeline.process.send_signal(signal.SIGHUP)
        eventually(lambda: client.hgetall("mail:1") == {b"id": b"1"}, timeout=20, message=pipeline.log)
        assert "policies are taken up" in pipeline.log()
        assert pipeline.metric("syncbridge_stage_restarts_total") in (None, 0)


def test_any_gearman_worker_takes_them(mariadb_sql: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    script = tmp_path / "sync.sh"
    script.write_text(
        "#!/bin/sh\njson=$(cat)\n"
        """id=$(printf %s "$json" | sed 's/.*"id": *\\([0-9]*\\).*/\\1/')\n"""
        f'case $json in *\\"delete\\"*) redis-cli -p {redis_server.port} del "order:$id";;\n'
        f'*) printf %s "$json" | redis-cli -p {redis_server.port} -x set "order:$id";; esac\n'
    )
    script.chmod(0o755)
    with Service() as server, redis_server.client() as client:
        point_to(mariadb_sql, server.port)
        mariadb_sql.execute("INSERT INTO orders VALUES (1, 'a', 1.50, NULL), (2, 'b', 2, NULL)")
        mariadb_sql.execute("UPDATE orders SET status = 'paid' WHERE id = 1", "DELETE FROM orders WHERE id = 2")
        command = ["gearman", "-h", "127.0.0.1", "-p", str(server.port), "-w", "-c", "4", "-f", "syncToRedis", script]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        with Peer(server.port) as peer:
            assert "syncToRedis\t0\t0\t0\n" in peer.text("status", end=".\n")
        row = json.loads(client.get("order:1") or "")
        assert (row["status"], row["total"], client.exists("order:2")) == ("paid", 1.5, 0)
