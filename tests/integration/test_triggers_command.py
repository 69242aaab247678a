"""`syncbridge triggers` where the source is not as install left it: tables swapped, rights and accounts gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.trigger_tools import ORDERS, insert, installed, triggered
from tests.pipeline import Pipeline, wait_same
from tests.servers import Redis, SqlServer, eventually


@pytest.fixture
def pipeline(source: SqlServer, redis_server: Redis, tmp_path: Path) -> Pipeline:
    source.execute(ORDERS)
    mappings: list[dict[str, Any]] = [{"table": f"{source.database}.orders", "key": "order:{id}"}]
    one = triggered(tmp_path, source, redis_server, mappings)
    source.execute("DROP DATABASE IF EXISTS syncbridge")
    return one


def test_a_table_put_in_place_of_another_gets_triggers_of_its_own(pipeline: Pipeline, source: SqlServer) -> None:
    """RENAME takes the triggers along, under the names that the new table's triggers must have."""
    insert(source, *range(20))
    installed(pipeline)
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
        source.execute(
            "CREATE TABLE orders_new LIKE orders",
            "INSERT INTO orders_new SELECT * FROM orders",
            "RENAME TABLE orders TO orders_old, orders_new TO orders",
        )
        eventually(lambda: f"the triggers of {source.database}.orders are missing" in pipeline.log(), timeout=20)
        status = pipeline.command("triggers", "status", "--json")
        assert status.returncode == 1
        assert '"missing": 3' in status.stdout
        assert '"stale": 3' in status.stdout
        assert "orders_old" in status.stdout
        assert "triggers are missing" in pipeline.command("check").stdout
        source.execute("UPDATE orders SET note = 'before install' WHERE id = 1", "DELETE FROM orders_old WHERE id = 2")
        assert "3 triggers made, 3 stale removed" in pipeline.command("triggers", "install").stdout
        assert pipeline.command("triggers", "status").returncode == 0
        source.execute("UPDATE orders SET note = 'new' WHERE id = 3", "DELETE FROM orders WHERE id = 4")
        source.execute("DELETE FROM orders_old WHERE id IN (5, 6)")
        insert(source, 100)
        assert wait_same(pipeline, "orders", "order:") == 20
        done = pipeline.command("verify")
        assert done.returncode == 0, done.stdout + done.stderr
