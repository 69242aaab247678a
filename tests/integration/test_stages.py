"""The stages alone, the signals, the metrics and the state database by URL."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from syncbridge.state import State
from tests.cli import syncbridge
from tests.pipeline import Pipeline, wait_same
from tests.servers import MariaDB, Redis, eventually


@pytest.fixture
def orders(mariadb: MariaDB, redis_server: Redis, tmp_path: Path) -> Callable[..., Pipeline]:
    mariadb.execute("CREATE TABLE orders (id INT PRIMARY KEY, v VARCHAR(20))")
    mariadb.execute("INSERT INTO orders VALUES " + ",".join(f"({n}, 'v{n}')" for n in range(500)))

    def make(**more: Any) -> Pipeline:
        mapping = {"table": f"{mariadb.database}.orders", "key": "order:{id}"}
        return Pipeline(tmp_path, mariadb, redis_server, [mapping], **more)

    return make


def test_the_stages_run_alone_as_they_would_on_several_hosts(orders: Callable[..., Pipeline]) -> None:
    pipeline = orders(http={"listen": "off"})
    with pipeline.stage("capture"), pipeline.stage("worker"), pipeline.stage("server"), pipeline.stage("worker"):
        pipeline.source.execute("UPDATE orders SET v = 'new' WHERE id < 10", "DELETE FROM orders WHERE id = 20")
        assert wait_same(pipeline, "orders", "order:") == 499


def test_a_stage_alone_serves_its_own_metrics(orders: Callable[..., Pipeline]) -> None:
    pipeline = orders()
    with pipeline.stage("server"):
        eventually(lambda: pipeline.metric("syncbridge_build_info", pipeline="shop") == 1, timeout=20)


def test_a_crashed_stage_is_started_again_and_counted(orders: Callable[..., Pipeline]) -> None:
    pipeline = orders()
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
        (server,) = pipeline.stages("server")
        server.kill()
        eventually(lambda: pipeline.metric("syncbridge_stage_restarts_total", stage="server") == 1, timeout=20)
        pipeline.source.execute("INSERT INTO orders VALUES (1000, 'after')")
        assert wait_same(pipeline, "orders", "order:") == 501


def test_a_second_signal_stops_at_once_and_nothing_is_left(orders: Callable[..., Pipeline]) -> None:
    pipeline = orders(sink={"workers": 2})
    pipeline.start()
    pipeline.wait_ready()
    assert pipeline.process is not None
    children = psutil.Process(pipeline.process.pid).children()
    assert len(children) == 4
    for child in children:
        child.suspend()  # nobody can stop cleanly
    pipeline.process.send_signal(signal.SIGINT)
    eventually(lambda: "stopping: " in pipeline.log(), timeout=5)
    began = time.monotonic()
    pipeline.process.send_signal(signal.SIGINT)
    pipeline.process.wait(10)
    assert time.monotonic() - began < 3
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


def test_a_killed_supervisor_takes_its_stages_with_it(orders: Callable[..., Pipeline]) -> None:
    pipeline = orders()
    pipeline.start()
    pipeline.wait_ready()
    assert pipeline.process is not None
    children = psutil.Process(pipeline.process.pid).children()
    assert syncbridge("run", "--config", pipeline.config_path).returncode == 2  # not a second one beside it
    pipeline.process.kill()
    pipeline.process.wait()
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive


def test_copies_of_the_configuration_are_private_and_do_not_pile_up(orders: Callable[..., Pipeline]) -> None:
    pipeline = orders()
    folder = pipeline.folder / "run-shop"
    for _ in range(2):
        pipeline.start()
        pipeline.wait_ready()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "sync.yaml").stat().st_mode) == 0o600
        assert pipeline.process is not None
        assert not list(Path(tempfile.gettempdir()).glob(f"syncbridge-*/metrics/*_{pipeline.process.pid}.db"))
        (folder / "left behind").touch()
        children = psutil.Process(pipeline.process.pid).children()
        pipeline.process.kill()
        pipeline.process.wait()
        psutil.wait_procs(children, timeout=15)
    pipeline.start()
    pipeline.wait_ready()
    assert sorted(path.name for path in folder.iterdir()) == ["metrics", "sync.yaml"]
    assert pipeline.stop() == 0
    assert not folder.exists()


def test_a_signal_during_a_reload_is_a_reload_behind_it(orders: Callable[..., Pipeline]) -> None:
    pipeline = orders()
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
        assert pipeline.process is not None
        for number, key in enumerate(("a:{id}", "b:{id}"), 1):
            pipeline.settings["mappings"][0]["key"] = key
            pipeline.write_config()
            pipeline.process.send_signal(signal.SIGHUP)
            eventually(lambda n=number: n == 2 or "taking up" in pipeline.log(), timeout=10, interval=0.001)
        wait_same(pipeline, "orders", "b:")
        assert pipeline.log().count("taking up") == 2
        assert "stopping" not in pipeline.log()


def test_a_throw_away_process_ends_with_its_worker(tmp_path: Path) -> None:
    reading, writing = os.pipe()  # ours to keep open: the end of its input is not what ends it
    worker = (
        "import os, subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'syncbridge.sinks.isolate',"
        " str(os.getpid())]); print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", worker], stdin=reading, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        eventually(lambda: child.num_threads() > 1, timeout=10, message="it watches its parent")
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=5)
    for process in alive:
        process.kill()
    os.close(reading)
    os.close(writing)
    assert not alive


def test_health_readiness_and_every_metric_that_is_promised(orders: Callable[..., Pipeline]) -> None:
    pipeline = orders()
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
        assert pipeline.get("/healthz") == (200, "ok\n")
        assert pipeline.get("/readyz") == (200, "ready\n")
        eventually(lambda: pipeline.metric("syncbridge_lag_bytes") is not None, timeout=15)
        table = f"{pipeline.source.database}.orders"
        assert pipeline.metric("syncbridge_events_captured_total", table=table, op="r") == 500
        assert pipeline.metric("syncbridge_events_applied_total", table=table, op="r", outcome="applied") == 500
        assert pipeline.metric("syncbridge_snapshot_rows_done", table=table) == 500
        for name in (
            "syncbridge_lag_seconds",
            "syncbridge_lane_lag_seconds",
            "syncbridge_binlog_retention_headroom_seconds",
            "syncbridge_checkpoint_timestamp_seconds",
            "syncbridge_queue_wait_seconds_count",
            "syncbridge_apply_seconds_count",
            "syncbridge_queue_commit_seconds_count",
            "syncbridge_queue_jobs",
            "syncbridge_queue_oldest_seconds",
            "syncbridge_retries_pending",
            "syncbridge_dead_letters",
            "syncbridge_stage_up",
            "syncbridge_build_info",
        ):
            # Gauges that are asked for once a second may not have been yet.
            eventually(lambda name=name: pipeline.metric(name) is not None, timeout=10, message=name)
        for worker in pipeline.stages("worker"):
            worker.suspend()
        eventually(lambda: (pipeline.metric("syncbridge_lag_seconds") or 0) > 2, timeout=20)
        for worker in pipeline.stages("worker"):
            worker.resume()
        eventually(lambda: (pipeline.metric("syncbridge_lag_seconds") or 9) < 1, timeout=20)


def test_fewer_lanes_are_taken_up_when_those_of_before_are_empty(orders: Callable[..., Pipeline]) -> None:
    pipeline = orders(queue={"lanes": 8}, http={"listen": "off"})
    with pipeline.stage("server"), pipeline.stage("capture"):  # nobody empties the lanes

        def all_in_lanes() -> bool:
            with closing(State.open(pipeline.settings["state"], "shop")) as state:
                return [row.status for row in state.snapshots.all()] == ["sweeping"]

        eventually(all_in_lanes, timeout=20, message=pipeline.log)
    pipeline.settings["queue"]["lanes"] = 2
    pipeline.settings["http"]["listen"] = f"127.0.0.1:{pipeline.http}"
    pipeline.write_config()
    with pipeline.running():
        assert wait_same(pipeline, "orders", "order:", timeout=20) == 500
        pipeline.source.execute("TRUNCATE TABLE orders")
        assert wait_same(pipeline, "orders", "order:", timeout=20) == 0
    with closing(State.open(pipeline.settings["state"], "shop")) as state:
        checkpoint = state.checkpoints.load()
    assert checkpoint is not None
    assert checkpoint.lanes == 2


def test_the_state_may_live_in_mysql(orders: Callable[..., Pipeline], mariadb: MariaDB) -> None:
    mariadb.execute(f"CREATE DATABASE IF NOT EXISTS {mariadb.database}_state")
    try:
        state = mariadb.url(database=f"{mariadb.database}_state")
        pipeline = orders(state=state)
        with pipeline.running():
            wait_same(pipeline, "orders", "order:")
        rows = mariadb.execute(f"SELECT epoch, queue_id FROM {mariadb.database}_state.sb_checkpoint")
        assert rows[0][0] == 1
        pipeline.source.execute("UPDATE orders SET v = 'again' WHERE id < 100")
        with pipeline.running():
            assert wait_same(pipeline, "orders", "order:") == 500
    finally:
        mariadb.execute(f"DROP DATABASE {mariadb.database}_state")
