"""With the native package, rows new to Redis are created as whole hashes, where that is allowed and nobody listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from syncbridge.capture.changes import Shape, Transaction
from syncbridge.workload import Draft
from tests.integration.sink_tools import Running, config_for, running
from tests.native import in_use
from tests.servers import Redis

#: Longer than what HSET keeps in a listpack: the encoding tells who made a hash.
LONG = "x" * 100
ROWS = 300
SHAPE = Shape("shop", "orders", ("id",), {}, (), ("id", "note"))


@pytest.fixture(autouse=True)
def _natively() -> Iterator[None]:
    yield from in_use(True)


def job(pos: int, op: str = "r") -> bytes:
    """Every row, with its transaction's place in its note."""
    now = time.time_ns() // 1000
    draft = Draft()
    transaction = Transaction("t", 1, 1, "0-1-1", "binlog.000001", 1, pos, now)
    rows = [(number, f"{LONG}{pos}") for number in range(ROWS)]
    draft.add_rows(SHAPE, transaction, op, now, list(range(ROWS)), rows)
    return draft.dump()


async def shown(run: Running, pos: int) -> dict[Any, int]:
    """What the worker made of a job, once it is done with it."""
    run.outcomes.counts.clear()
    run.lanes.put(workload=job(pos))
    await run.drained()
    notes = {run.redis.hget(f"order:{number}", "note") for number in range(ROWS)}
    assert len(notes) == 1
    return dict(run.outcomes.counts)


def encodings(client: redis.Redis) -> set[bytes]:
    return {client.object("encoding", f"order:{number}") for number in range(ROWS)}


async def test_they_come_whole_and_are_compared_from_then_on(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        assert await shown(run, 5) == {("r", "applied"): ROWS}
        assert encodings(run.redis) == {b"listpack"}
        assert run.redis.hget("order:7", "id") == b"7"
        for pos, outcome, last in ((4, "stale", 5), (5, "stale", 5), (9, "applied", 9), (8, "stale", 9)):
            assert await shown(run, pos) == {("r", outcome): ROWS}
            assert run.redis.hget("order:0", "note") == f"{LONG}{last}".encode()
        assert encodings(run.redis) == {b"hashtable"}


async def test_who_listens_to_keys_hears_of_hset(new_redis: Callable[..., Redis], tmp_path: Path) -> None:
    server = new_redis(notify_keyspace_events="Eh")
    with server.client() as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("__keyevent@0__:hset")
        listener.get_message(timeout=5)
        async with running(server, tmp_path) as run:
            assert await shown(run, 5) == {("r", "applied"): ROWS}
            assert encodings(run.redis) == {b"hashtable"}
        missing = {f"order:{number}".encode() for number in range(ROWS)}
        while missing and (message := listener.get_message(timeout=5)) is not None:
            missing.discard(message["data"])
        assert not missing


@pytest.mark.parametrize("denied", ["restore", "config|get", "config"])
async def test_an_account_that_may_not_gets_them_field_by_field(
    new_redis: Callable[..., Redis], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: str
) -> None:
    server = new_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all", f"-{denied}")
    plain = server.url()
    with monkeypatch.context() as patch:
        patch.setattr(server, "url", lambda: plain.replace("redis://", "redis://worker:secret@"))
        config = config_for(server, tmp_path)
    async with running(server, tmp_path, config) as run:
        assert await shown(run, 5) == {("r", "applied"): ROWS}
        assert encodings(run.redis) == {b"hashtable"}
        assert await shown(run, 6) == {("r", "applied"): ROWS}


async def test_a_call_that_waited_for_redis_asks_again_whether_somebody_listens(
    new_redis: Callable[..., Redis], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_redis(appendonly=True, appendfsync="always")
    async with running(server, tmp_path) as run:
        assert await shown(run, 5) == {("r", "applied"): ROWS}
        run.redis.delete(*(f"order:{number}" for number in range(ROWS)))
        server.kill9()
        run.lanes.put(workload=job(6))
        await run.until(lambda: "waiting: Redis" in caplog.text)
        with (server.folder / "redis.conf").open("a") as conf:
            conf.write("notify-keyspace-events Eh\n")
        server.start()
        await run.drained(20)
        assert encodings(run.redis) == {b"hashtable"}
