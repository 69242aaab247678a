"""kill -9 of every process at random moments under write load: afterwards Redis shows what SELECT shows (DESIGN P1)."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pymysql
import pytest

from syncbridge.state import State
from tests.capturing import BINLOG, Capturing
from tests.pipeline import Pipeline, mirrored_hashes, wait_same
from tests.servers import Redis, SqlServer, eventually

pytestmark = pytest.mark.chaos

#: By flavour where the binlog is read, and over triggers.
KILLS, TRIGGER_KILLS = {"mariadb": 32, "mysql": 16}, 10
STAGES = ("capture", "server", "worker")
VICTIMS = (*STAGES, "run", "redis", "source")


class Writer(threading.Thread):
    """Random transactions until stopped: multi-row, key changes, delete and insert again, rollbacks, savepoints."""

    def __init__(self, source: SqlServer, seed: int) -> None:
        super().__init__(daemon=True)
        self.source = source
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.committed = 0

    def run(self) -> None:
        connection = None
        while not self.stopping.is_set():
            try:
                connection = connection or self.source.connect(autocommit=False, connect_timeout=5)
                self.transaction(connection)
                self.committed += 1
            except (pymysql.err.MySQLError, OSError):
                if connection is not None:
                    connection._force_close()
                connection = None
                self.stopping.wait(0.1)
        if connection is not None:
            connection.close()

    def transaction(self, connection: pymysql.Connection) -> None:  # type: ignore[type-arg]
        pick = self.random
        with connection.cursor() as cursor:
            for _ in range(pick.randint(1, 6)):
                if undone := pick.random() < 0.1:
                    cursor.execute("SAVEPOINT s")
                cursor.execute(self.statement())
                if undone:
                    cursor.execute("ROLLBACK TO s")
        if pick.random() < 0.2:
            connection.rollback()
        else:
            connection.commit()
        self.stopping.wait(0.002)

    def statement(self) -> str:
        pick = self.random
        number, other = pick.randrange(400), pick.randrange(400)
        return pick.choice(
            (
                f"REPLACE INTO shop.items VALUES ({number}, '{pick.random()}', {pick.randrange(9)})",
                f"REPLACE INTO shop.items VALUES ({number}, NULL, 1), ({other}, 'é€', 2)",
                f"DELETE FROM shop.items WHERE id = {number}",
                f"UPDATE shop.items SET n = n + 1 WHERE id BETWEEN {number} AND {number + 20}",
                f"UPDATE IGNORE shop.items SET id = {other} WHERE id = {number}",
            )
        )


@contextmanager
def writing(source: SqlServer, threads: int = 8) -> Iterator[list[Writer]]:
    writers = [Writer(source, seed) for seed in range(threads)]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join(20)


def create_items(source: SqlServer) -> None:
    source.execute("CREATE DATABASE shop")
    source.execute("CREATE TABLE shop.items (id INT PRIMARY KEY, v VARCHAR(40), n INT NOT NULL)")
    rows = ",".join(f"({n}, 'first', 0)" for n in range(0, 400, 2))
    source.execute(f"INSERT INTO shop.items VALUES {rows}")


def kill(pipeline: Pipeline, victim: str, pick: random.Random) -> bool:
    """Kill one process; a server is started again. False when there was nothing to kill just now."""
    if victim in STAGES:
        running = pipeline.stages(victim)
        if not running:
            return False
        try:
            pick.choice(running).kill()
        except psutil.NoSuchProcess:
            return False
        return True
    if victim == "run":
        assert pipeline.process is not None
        children = psutil.Process(pipeline.process.pid).children()
        pipeline.process.kill()
        pipeline.process.wait()
        psutil.wait_procs(children, timeout=15)
        pipeline.start()
        return True
    server = pipeline.redis if victim == "redis" else pipeline.source
    server.kill9()
    server.start()
    return True


@pytest.mark.usefixtures("one_way_each")
def test_kills_at_random_moments_lose_nothing(
    new_source: Callable[..., SqlServer], new_redis: Callable[..., Redis], tmp_path: Path, capturing: Capturing
) -> None:
    source, redis = new_source(**capturing.options), new_redis(appendonly=True)
    wanted = KILLS[source.flavor] if capturing is BINLOG else TRIGGER_KILLS
    create_items(source)
    pick = random.Random()
    mappings = [{"table": "shop.items", "key": "item:{id}"}]
    pipeline = capturing.pipeline(tmp_path, source, redis, mappings, sink={"workers": 2})
    capturing.install(pipeline)
    kills: Counter[str] = Counter()
    with pipeline.running():
        with writing(source) as writers:
            waiting = [*VICTIMS, *pick.choices((*STAGES, *VICTIMS), k=wanted - len(VICTIMS))]  # each at least once
            while waiting:
                victim = waiting.pop(pick.randrange(len(waiting)))
                if kill(pipeline, victim, pick):
                    kills[victim] += 1
                else:
                    waiting.append(victim)
                threading.Event().wait(pick.uniform(0.05, 1.2))  # the moment is the experiment, not a condition
        pipeline.wait_ready(90)
        rows = wait_same(pipeline, "shop.items", "item:", timeout=120)
        verified = pipeline.command("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        dead = pipeline.metric("syncbridge_dead_letters")
        assert dead == 0
    committed = sum(writer.committed for writer in writers)
    print(
        f"\n{source.flavor}, {capturing.name}: {kills.total()} kills {dict(kills)},"
        f" {committed} transactions of {len(writers)} sessions, {rows} rows compared"
    )
    assert set(kills) == set(VICTIMS)
    assert kills.total() == wanted
    assert committed > 100


@pytest.mark.usefixtures("native_or_not")
def test_chunks_read_at_once_are_killed_and_resumed(
    new_mariadb: Callable[..., SqlServer], redis_server: Redis, tmp_path: Path
) -> None:
    source = new_mariadb()
    create_items(source)
    filled = 15_000
    source.execute(f"INSERT INTO shop.items SELECT seq + 1000, 'first', 0 FROM shop.seq_1_to_{filled}")
    pipeline = Pipeline(tmp_path, source, redis_server, [{"table": "shop.items", "key": "item:{id}"}])
    pipeline.settings["source"] |= {"snapshot_readers": 4, "snapshot_rate": 1000}
    pipeline.write_config()  # slow, so that it is under way at each kill, however slow the machine
    pick = random.Random()
    done: list[int] = []
    with pipeline.running():
        with writing(source, threads=2) as writers:
            for victim in ("capture", "capture", "run"):

                def further() -> bool:
                    with closing(State.open(pipeline.settings["state"], "shop")) as state:
                        (row,) = state.snapshots.all()
                    assert row.status != "done", "it was to be killed"
                    done.append(row.rows_done)
                    return row.rows_done > (done[-2] if len(done) > 1 else 0)

                eventually(further, timeout=30, message=pipeline.log)
                pipeline.settings["source"]["snapshot_rate"] = 0
                pipeline.write_config()  # which a new run reads
                assert kill(pipeline, victim, pick)
        pipeline.wait_ready(90)
        rows = wait_same(pipeline, "shop.items", "item:", timeout=120)
    committed = sum(writer.committed for writer in writers)
    resumed = pipeline.log_path.read_text().count("snapshot of shop.items: resumed")
    print(f"{rows} rows compared, {committed} transactions, resumed {resumed} times, behind {sorted(set(done))} rows")
    assert resumed >= 3
    assert rows > filled // 2
    assert committed > 20


@pytest.mark.usefixtures("native_or_not")
def test_a_redis_that_forgets_everything_is_filled_again(
    new_mariadb: Callable[..., SqlServer], new_redis: Callable[..., Redis], tmp_path: Path, capturing: Capturing
) -> None:
    source, redis = new_mariadb(**capturing.options), new_redis()
    create_items(source)
    pipeline = capturing.pipeline(tmp_path, source, redis, [{"table": "shop.items", "key": "item:{id}"}])
    capturing.install(pipeline)
    with pipeline.running():
        wait_same(pipeline, "shop.items", "item:")
        with writing(source, 1):
            redis.kill9()
            redis.start()
            eventually(lambda: mirrored_hashes(redis, "item:*"), timeout=60, message=pipeline.log)
            with redis.client() as client:
                client.flushall()
        wait_same(pipeline, "shop.items", "item:", timeout=90)
