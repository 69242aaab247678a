"""Commands beside a running pipeline: status, snapshot --wait, explain, and a dead letter brought back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.pipeline import Pipeline
from tests.servers import Redis, SqlServer, eventually


def asked(pipeline: Pipeline, *arguments: str, code: int = 0) -> Any:
    done = pipeline.command(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_commands_beside_a_running_pipeline(mariadb: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    table = f"{mariadb.database}.orders"
    mariadb.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, status VARCHAR(20), photo VARBINARY(9))",
        "INSERT INTO orders VALUES (1, 'paid', x'ff00'), (2, 'draft', NULL), (3, 'paid', NULL)",
    )
    mappings: list[dict[str, Any]] = [
        {"table": table, "key": "order:{id}", "where": "status <> 'draft'"},
        {"table": table, "key": "status:{id}", "type": "string", "value": "{status}"},
    ]
    retry = {"max_attempts": 1, "backoff": "10ms", "max_backoff": "20ms"}
    pipeline = Pipeline(tmp_path, mariadb, redis_server, mappings, retry=retry, sink={"workers": 2})
    with pipeline.running(), redis_server.client() as client:
        eventually(lambda: client.exists("order:1", "order:3", "status:2") == 3, 30)

        # status: every part answers, and says what it knows.
        def caught_up() -> bool:
            seen = asked(pipeline, "status")
            return bool(seen["snapshots"]) and all(row["status"] == "done" for row in seen["snapshots"])

        eventually(caught_up, 30)
        found = asked(pipeline, "status")
        assert found["unreachable"] == {}
        assert 0 <= found["lag"] < 30
        assert len(found["queue_id"]) > 8
        assert [lane["workers"] for lane in found["lanes"]].count(2) >= 8
        assert found["checkpoint"]["queue_id"] == found["queue_id"]
        assert set(found["stages"].values()) == {True}
        assert [(row["table"], row["rows_done"]) for row in found["snapshots"]] == [(table, 3)]
        human = pipeline.command("status").stdout
        assert "4 running" in human
        assert "lag" in human
        assert "not reachable" not in human

        # snapshot --wait: rows that were lost in Redis are back when it returns.
        client.delete("order:1")
        done = asked(pipeline, "snapshot", "--table", table, "--wait", "--timeout", "60")
        assert [(row["table"], row["rows_done"], row["status"]) for row in done["done"]] == [(table, 3, "done")]
        assert client.hget("order:1", "photo") == b"\xff\x00"
        assert "3 rows in" in pipeline.command("snapshot", "--wait").stdout

        # explain: what the row yields and what is stored.
        told = asked(pipeline, "explain", table, "--key", "id=1")
        assert [(one["key"], one["agrees"]) for one in told["mappings"]] == [("order:1", True), ("status:1", True)]
        assert told["mappings"][0]["expected"] == {"id": "1", "status": "paid", "photo": "\\xff\x00"}
        assert "photo = \\xff\\x00" in pipeline.command("explain", table, "--key", "id=1").stdout
        hidden = asked(pipeline, "explain", table, "--key", "id=2")["mappings"][0]
        assert (hidden["key"], hidden["agrees"]) == (None, True)
        assert "where does not match" in hidden["what"][0]
        assert "no such row" in pipeline.command("explain", table, "--key", "id=99").stdout
        client.hset("order:3", "status", "wrong")
        wrong = asked(pipeline, "explain", table, "--key", "id=3", code=1)
        assert wrong["mappings"][0]["what"] == ["field status differs"]
        human = pipeline.command("explain", table, "--key", "id=3").stdout
        assert "stored   status = wrong" in human
        assert pipeline.command("explain", table, "--key", "nr=3").returncode == 2
        assert pipeline.command("explain", table, "--key", "id=x").returncode == 2

        # dead-letter retry: the row as it is now, not as it was when it failed.
        client.delete("order:3")
        client.rpush("order:3", "in the way")
        mariadb.execute("UPDATE orders SET status = 'sent' WHERE id = 3")
        eventually(lambda: asked(pipeline, "dead-letter", "list")["total"] == 1, 30)
        (row,) = asked(pipeline, "dead-letter", "list")["rows"]
        assert (row["table"], row["key"], row["error"]) == (table, {"id": 3}, "WRONGTYPE")
        client.delete("order:3")
        mariadb.execute("UPDATE orders SET photo = 'x' WHERE id = 3")
        eventually(lambda: client.hget("order:3", "photo") == b"x", 30)
        assert asked(pipeline, "dead-letter", "retry", "--all") == {"done": 1, "left": 0}
        eventually(lambda: asked(pipeline, "status")["retries"] == 0, 30)
        assert client.hget("order:3", "photo") == b"x"
        assert client.hget("order:3", "status") == b"sent"
        assert asked(pipeline, "verify", "--settle", "1")["differences"] == 0
