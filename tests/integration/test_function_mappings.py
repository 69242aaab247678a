"""Mapped functions in the sink worker, on a real Redis: what is written, what fails, and what is tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.integration.sink_tools import ORDERS, config_for, event, running
from tests.servers import Redis

HASH = 'function: sync, key: "o:{id}", delete_when: "_op = \'delete\'"'
JSON = 'function: sync, key: "j:{id}", type: json, delete_when: "_op = \'delete\'"'


def mappings(*texts: str) -> str:
    return ", ".join("{" + text + "}" for text in texts)


async def test_objects_become_keys_without_a_trace_of_ours(redis_server: Redis, tmp_path: Path) -> None:
    kept = 'function: sync, key: "k:{id}", type: json, delete_when: "_op = \'delete\'", on_delete: "expire:1h"'
    short = 'function: sync, key: "t:{id}", ttl: 1m, delete_when: "_op = \'delete\'", on_delete: "expire:2h"'
    async with running(redis_server, tmp_path, mappings=mappings(HASH, JSON, kept, short)) as run:
        run.redis.hset("o:1", mapping={"theirs": "stays", "n": "old"})
        run.redis.set("j:1", "theirs, until now")
        run.lanes.put_function(b'{"id": 1, "p": 9.90, "n": NaN, "t": "a\tb", "_op": "insert"}')
        run.lanes.put_function(b'[{"id": 2, "_op": "insert"}, {"id": 3}, {"id": 2, "_op": "delete"}]')
        await run.drained()
        assert run.redis.hgetall("o:1") == {b"theirs": b"stays", b"id": b"1", b"p": b"9.90", b"t": b"a\tb"}
        assert run.redis.get("j:1") == b'{"id":1,"p":9.90,"n":null,"t":"a\\tb"}'
        assert sorted(run.redis.keys("[ojkt]:[23]")) == [b"j:3", b"k:2", b"k:3", b"o:3", b"t:2", b"t:3"]
        assert (run.redis.ttl("k:3"), run.redis.ttl("o:3"), run.redis.ttl("j:3")) == (-1, -1, -1)
        assert 3590 < run.redis.ttl("k:2") <= 3600
        assert 7190 < run.redis.ttl("t:2") <= 7200
        assert 50 < run.redis.ttl("t:3") <= 60
        assert run.redis.keys("syncbridge:*") == [b"syncbridge:t:meta"], "no guards, no marks"
        assert run.outcomes.counts["c", "applied"] == 12
        assert run.outcomes.counts["d", "applied"] == 4
        run.lanes.put_function(b'{"id": 2}')
        await run.drained()
        assert run.redis.ttl("k:2") == -1, "a row that came back stays"


async def test_lanes_and_functions_side_by_side(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path, mappings=f"{ORDERS}, {mappings(HASH)}") as run:
        for number in range(1, 300):
            run.lanes.put(event("c", number, {"id": number}), lane=number % 8)
            run.lanes.put_function(b'{"id": %d, "n": %d}' % (number % 10, number))
        await run.drained()
        assert len(run.redis.keys("order:*")) == 299
        assert [int(run.redis.hget(f"o:{n}", "n") or 0) for n in range(10)] == [290 + n for n in range(10)]


async def test_a_poison_job_becomes_a_dead_letter_and_can_be_retried(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path, mappings=mappings(HASH)) as run:
        run.redis.lpush("o:1", "not ours")
        for workload in (b"no job", b'{"id": 1, "a": "x"}', b"\xff", b'{"nr": 1}', b'{"id": 2}'):
            run.lanes.put_function(workload)
        await run.drained()
        assert run.redis.hgetall("o:2") == {b"id": b"2"}, "the jobs behind them go on"
        await run.until(lambda: run.state.dead_letters.count() == 4)
        rows = run.state.dead_letters.list(table=".sync")
        assert [row.payload for row in sorted(rows, key=lambda row: row.version)] == [
            b"no job", b'{"id":1,"a":"x"}', b"\xff", b'{"nr":1}',
        ]  # fmt: skip
        assert {row.place for row in rows} == {"function:sync"}
        classes = sorted(row.error_class for row in rows)
        assert classes == ["ColumnMissing", "PermanentError", "PermanentError", "WRONGTYPE"]
        assert {row.attempts for row in rows} == {3}
        run.redis.delete("o:1")
        run.state.dead_letters.retry(*(row.id for row in rows))
        await run.until(lambda: run.redis.hgetall("o:1") == {b"id": b"1", b"a": b"x"})
        await run.until(lambda: run.state.dead_letters.count() == 3 and run.state.retries.count() == 0)


async def test_a_late_retry_never_beats_a_newer_object(redis_server: Redis, tmp_path: Path) -> None:
    config = config_for(redis_server, tmp_path, mappings(HASH))
    slow = config.model_copy(update={"retry": config.retry.model_copy(update={"backoff": 3.0, "max_backoff": 3.0})})
    async with running(redis_server, tmp_path, slow) as run:
        run.redis.lpush("o:1", "not ours")
        run.redis.lpush("o:2", "not ours")
        run.lanes.put_function(b'{"id": 1, "n": 1}')
        run.lanes.put_function(b'{"id": 2, "n": 1}')
        await run.drained()
        run.lanes.put_function(b'[{"id": 2, "n": 2}, {"id": 2, "n": 3}, {"id": 3}]')
        await run.drained()
        assert run.state.retries.count() == 4
        run.redis.delete("o:1", "o:2")
        run.lanes.put_function(b'{"id": 1, "n": 2}')
        await run.drained()
        assert run.state.retries.count() == 3, "what was applied has overtaken what had failed"
        await run.until(lambda: run.state.retries.count() == 0, within=20)
        assert (run.redis.hget("o:1", "n"), run.redis.hget("o:2", "n")) == (b"2", b"3")


async def test_a_job_is_complete_only_when_redis_has_it(new_redis: Callable[..., Redis], tmp_path: Path) -> None:
    async with running(new_redis(), tmp_path, mappings=mappings(HASH)) as run:
        run.lanes.put_function(b'{"id": 1}')
        await run.drained()
        run.redis.config_set("maxmemory", "1mb")
        run.lanes.put_function(b'{"id": 2}')
        await run.until(lambda: int(run.redis.info("commandstats")["cmdstat_evalsha"]["calls"]) > 3)
        assert len(run.lanes.completed) == 1
        run.redis.config_set("maxmemory", "0")
        await run.drained()
        assert run.redis.exists("o:2")
        assert run.state.retries.count() == 0
