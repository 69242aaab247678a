"""A sick sink is not a poisoned row: Redis away, full, read-only or frozen burns no attempt and loses nothing (P5)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from syncbridge.sinks.connection import connect
from syncbridge.sinks.worker import Worker
from syncbridge.state import State
from tests.integration.sink_tools import Lanes, Outcomes, Running, config_for, event, running, version
from tests.servers import Redis

DURABLE = {"appendonly": True, "appendfsync": "always"}


def assert_no_attempt_was_burnt(run: Running) -> None:
    assert run.state.retries.count() == 0
    assert run.state.dead_letters.count() == 0


async def test_redis_stopped_for_a_while_loses_nothing(new_redis: type[Redis], tmp_path: Path) -> None:
    server = new_redis(**DURABLE)
    async with running(server, tmp_path) as run:
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.drained()
        server.stop()
        for number in range(2, 102):
            run.lanes.put(event("c", number, {"id": number}), lane=number % 4)
        await asyncio.sleep(3)
        assert len(run.lanes.completed) == 1
        server.start()
        await run.drained(20)
        assert len(run.redis.keys("order:*")) == 101
        assert_no_attempt_was_burnt(run)


async def test_a_worker_that_starts_before_redis_waits_for_it(new_redis: type[Redis], tmp_path: Path) -> None:
    server = new_redis(**DURABLE)
    server.stop()
    async with running(server, tmp_path) as run:
        run.lanes.put(event("c", 1, {"id": 1}))
        await asyncio.sleep(0.5)
        server.start()
        await run.drained(20)
        assert run.redis.exists("order:1") == 1


async def test_a_full_redis_is_waited_for(new_redis: type[Redis], tmp_path: Path) -> None:
    server = new_redis(maxmemory="3mb", maxmemory_policy="noeviction")
    async with running(server, tmp_path) as run:
        for number in range(1, 201):
            run.lanes.put(event("c", number, {"id": number, "text": "x" * 20_000}), lane=number % 4)
        await run.until(lambda: run.redis.info("memory")["used_memory"] > 2_500_000)
        await asyncio.sleep(1)
        assert run.lanes.in_hand, "not everything fits"
        run.redis.config_set("maxmemory", "100mb")
        await run.drained(20)
        assert len(run.redis.keys("order:*")) == 200
        assert_no_attempt_was_burnt(run)


async def test_a_redis_that_became_a_replica_is_waited_for(new_redis: type[Redis], tmp_path: Path) -> None:
    server, other = new_redis(), new_redis()
    async with running(server, tmp_path) as run:
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.drained()
        run.redis.replicaof("127.0.0.1", other.port)
        run.lanes.put(event("c", 2, {"id": 2}))
        await asyncio.sleep(1)
        assert run.lanes.in_hand
        run.redis.replicaof("NO", "ONE")
        await run.drained(20)
        assert run.redis.exists("order:2") == 1
        assert_no_attempt_was_burnt(run)
        assert run.state.requests.pending(), "it came back with another past, and that was noticed"


async def test_a_worker_waiting_for_redis_stops_at_once(new_redis: type[Redis], tmp_path: Path) -> None:
    server = new_redis()
    lanes = Lanes()
    async with running(server, tmp_path, lanes=lanes) as run:
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.drained()
        server.stop()
        run.lanes.put(event("c", 2, {"id": 2}))
        await run.until(lambda: lanes.in_hand)
    assert [job.handle for job in lanes.queued] == [b"H:000002"], "the job is given back"
    assert len(lanes.completed) == 1


async def test_redis_killed_again_and_again_under_load(new_redis: type[Redis], tmp_path: Path) -> None:
    server = new_redis(**DURABLE)
    kills, rows = 8, 4000
    async with running(server, tmp_path) as run:

        async def load() -> None:
            for number in range(1, rows + 1):
                run.lanes.put(event("c", number, {"id": number % 500}), lane=number % 500 % 4)
                if number % 50 == 0:
                    await asyncio.sleep(0.03)

        loading = asyncio.create_task(load())
        for _ in range(kills):
            await asyncio.sleep(0.15)
            server.kill9()
            server.start()
        await loading
        await run.drained(30)
        for number in range(rows - 499, rows + 1):
            guard = run.redis.hget(f"order:{number % 500}", "_v")
            assert guard is not None
            assert guard[1:41] == version(number).encode()
        assert_no_attempt_was_burnt(run)
        print(f"\n{kills} kills of Redis, {rows} changes, 500 keys, 0 differences")


async def test_a_job_that_kills_its_process_is_applied_around_the_culprit(
    redis_server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The culprit is planted: a sitecustomize that dies when it sees the magic text in a row."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if sys.argv and 'isolate' in ' '.join(sys.orig_argv):\n"
        "    import os, signal\n"
        "    from syncbridge.sinks import mapping\n"
        "    real = mapping.CompiledMapping.operations\n"
        "    def deadly(self, event, **more):\n"
        "        if event['after'].get('text') == 'kill':\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return real(self, event, **more)\n"
        "    mapping.CompiledMapping.operations = deadly\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    async with running(redis_server, tmp_path) as run:
        run.redis.lpush("order:4", "not ours")
        events = [
            event("c", number, {"id": number, "text": "kill" if number == 3 else "fine"}) for number in range(1, 7)
        ]
        run.lanes.put(*events, isolated=True)
        await run.drained(30)
        assert sorted(run.redis.keys("order:*")) == [b"order:%d" % number for number in (1, 2, 4, 5, 6)]
        failed = {row.key["id"]: row.error_class for row in run.state.retries.list() + run.state.dead_letters.list()}
        assert failed == {3: "WorkerKilled", 4: "WRONGTYPE"}
        await run.until(lambda: 3 in {row.key["id"] for row in run.state.dead_letters.list()})
        assert run.redis.hget("syncbridge:t:marks", "0") == version(6).encode()


async def test_an_isolated_job_waits_for_a_sick_redis(new_redis: type[Redis], tmp_path: Path) -> None:
    server = new_redis(**DURABLE)
    async with running(server, tmp_path) as run:
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.drained()
        server.stop()
        run.lanes.put(event("c", 2, {"id": 2}), event("c", 3, {"id": 3}), isolated=True)
        await asyncio.sleep(2)
        server.start()
        await run.drained(30)
        assert run.redis.exists("order:2", "order:3") == 2
        assert_no_attempt_was_burnt(run)


async def test_a_worker_killed_at_random_moments_loses_nothing(new_redis: type[Redis], tmp_path: Path) -> None:
    """Everything that was in a dead worker's hands comes again; applying it twice means it once."""
    server = new_redis(**DURABLE)
    config = config_for(server, tmp_path)
    lanes, kills, rows = Lanes(), 6, 3000
    for number in range(1, rows + 1):
        lanes.put(event("c", number, {"id": number % 300}), lane=number % 300 % 4)
    for kill in range(kills):
        state = State.open(config.state, config.name)
        link = await connect(config.sink)
        task = asyncio.create_task(Worker(config, lanes, link, state, Outcomes()).run())
        await asyncio.sleep(0.02 * (kill + 1))
        while not task.done():  # no clean stop: whatever is in hand is handed out again
            task.cancel()
            await asyncio.wait([task], timeout=0.2)
        await link.close()
        state.close()
    async with running(server, tmp_path, lanes=lanes) as run:
        await run.drained(30)
        for number in range(rows - 299, rows + 1):
            guard = run.redis.hget(f"order:{number % 300}", "_v")
            assert guard is not None
            assert guard[1:41] == version(number).encode()
        assert_no_attempt_was_burnt(run)
        print(f"\n{kills} ends of a worker, {rows} changes, 0 differences")
