"""Several captures of one pipeline: one captures, the others stand by behind a lock on the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncbridge.capture.turn import lock_name
from tests.integration.trigger_tools import ORDERS, insert, installed
from tests.pipeline import Pipeline, wait_same
from tests.servers import Redis, SqlServer, eventually


@pytest.mark.parametrize("capture", ["binlog", "trigger"])
def test_another_capture_takes_over_from_one_that_is_killed(
    source: SqlServer, redis_server: Redis, tmp_path: Path, capture: str
) -> None:
    source.execute("DROP DATABASE IF EXISTS syncbridge", ORDERS)
    mapping = {"table": f"{source.database}.orders", "key": "order:{id}"}
    pipeline = Pipeline(tmp_path, source, redis_server, [mapping], http={"listen": "off"})
    pipeline.settings["source"]["capture"] = capture
    pipeline.write_config()
    insert(source, *range(300))
    if capture == "trigger":
        installed(pipeline)
    with pipeline.stage("server"), pipeline.stage("worker"), pipeline.stage("capture") as first:
        assert wait_same(pipeline, "orders", "order:") == 300
        with pipeline.stage("capture"):
            eventually(lambda: pipeline.log().count("standing by") == 1, timeout=20)
            insert(source, *range(300, 400))
            first.kill()
            insert(source, *range(400, 500))
            source.execute("UPDATE orders SET note = 'new' WHERE id % 3 = 0", "DELETE FROM orders WHERE id % 10 = 7")
            assert wait_same(pipeline, "orders", "order:") == 450
        assert "taking over" in pipeline.log()
        assert "every table again" not in pipeline.log()
    eventually(lambda: source.value(f"SELECT IS_FREE_LOCK('{lock_name('shop')}')") == 1)


def test_a_lock_has_a_name_that_servers_take_and_nobody_else_has() -> None:
    assert lock_name("shop").startswith("syncbridge.shop.")
    assert len(lock_name("s" * 64)) <= 64
    assert lock_name("s" * 63 + "a") != lock_name("s" * 63 + "b")
    assert lock_name("shop").lower() != lock_name("Shop").lower()
