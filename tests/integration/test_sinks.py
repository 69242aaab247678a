"""The sink worker on a real Redis: what is applied, what is refused, what is held, and what stays in the queue."""

from __future__ import annotations

import base64
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from syncbridge.errors import ConfigError, TransientError
from syncbridge.sinks.connection import connect, version_finding
from syncbridge.sinks.marks import RedisMirror
from syncbridge.state import FailedRow
from syncbridge.state.failures import Retries
from tests.integration.sink_tools import ORDERS, Lanes, config_for, event, running, version
from tests.servers import Redis

ROW = {"id": 1, "status": "paid", "price": "9.90", "note": None}


async def test_a_row_becomes_a_hash_and_goes_again(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        run.lanes.put(event("c", 1, ROW, types={"price": "decimal"}))
        await run.drained()
        assert run.redis.hgetall("order:1") == {
            b"_v": b"1" + version(1).encode() + run.config.mappings[0].id.encode(),
            b"id": b"1", b"status": b"paid", b"price": b"9.90",
        }  # fmt: skip
        run.lanes.put(event("d", 2, None, ROW))
        await run.drained()
        assert run.redis.exists("order:1") == 0
        assert 0 < run.redis.pttl("syncbridge:t:g:{order:1}") <= 86_400_000
        run.lanes.put(event("u", 1, ROW, ROW))
        await run.drained()
        assert run.redis.exists("order:1") == 0, "an older change must not bring a removed key back"
        run.lanes.put(event("c", 3, ROW))
        await run.drained()
        assert run.redis.hget("order:1", "status") == b"paid"
        assert run.redis.exists("syncbridge:t:g:{order:1}") == 0
        assert run.redis.hgetall("syncbridge:t:marks") == {b"0": version(3).encode()}


async def test_a_hash_write_deletes_what_is_null_and_leaves_what_is_not_ours(
    redis_server: Redis, tmp_path: Path
) -> None:
    mapping = '{table: shop.orders, key: "order:{id}", columns: {exclude: [secret], rename: {a: b}, mask: [card]}}'
    async with running(redis_server, tmp_path, mappings=mapping) as run:
        run.redis.hset("order:1", mapping={"note": "old", "secret": "x", "a": "y", "theirs": "stays"})
        run.lanes.put(event("u", 1, {"id": 1, "note": None, "secret": "s", "a": "z", "card": "4711"}))
        await run.drained()
        fields = run.redis.hgetall("order:1")
        assert {name: fields[name] for name in fields if name != b"_v"} == {
            b"id": b"1", b"b": b"z", b"card": b"***", b"theirs": b"stays",
        }  # fmt: skip


async def test_a_call_that_finds_no_key_still_compares_what_it_wrote_itself(
    redis_server: Redis, tmp_path: Path
) -> None:
    def row(number: int, status: str) -> dict[str, Any]:
        return {"id": number, "status": status}

    async with running(redis_server, tmp_path) as run:
        run.lanes.put(
            event("c", 2, row(1, "new")),
            event("c", 1, row(1, "old")),
            event("c", 3, row(2, "a"), None),
            event("d", 5, None, row(2, "a")),
            event("u", 4, row(2, "late"), row(2, "a")),
            event("c", 6, row(3, "a") | {"note": "x"}),
            event("u", 7, row(3, "b") | {"note": None}, row(3, "a") | {"note": "x"}),
        )
        await run.drained()
        assert run.redis.hmget("order:1", "status", "_v")[0] == b"new"
        assert run.redis.exists("order:2") == 0
        assert run.redis.exists("syncbridge:t:g:{order:2}") == 1
        assert run.redis.hmget("order:3", "status", "note") == [b"b", None]
        assert run.outcomes.counts["c", "stale"] == run.outcomes.counts["u", "stale"] == 1


async def test_binary_and_json_content(redis_server: Redis, tmp_path: Path) -> None:
    mappings = ORDERS + ', {table: shop.orders, key: "json:{id}", type: json}, ' + (
        '{table: shop.orders, key: "text:{id}", type: string, value: "{status}/{blob}"}'
    )  # fmt: skip
    row = {"id": 2**64 - 1, "status": "é", "blob": base64.b64encode(b"\0\xff").decode(), "doc": '{"a": 1e400}',
           "ratio": "0.1", "at": "POINT(2 1)", "nothing": None, "price": "1.50", "pad": "007"}  # fmt: skip
    types = {"blob": "binary", "doc": "json", "ratio": "float", "at": "geometry_yx", "price": "decimal",
             "pad": "zerofill"}  # fmt: skip
    async with running(redis_server, tmp_path, mappings=mappings) as run:
        run.lanes.put(event("c", 1, row, types=types))
        await run.drained()
        assert run.redis.hget("order:18446744073709551615", "blob") == b"\0\xff"
        assert run.redis.hget("order:18446744073709551615", "pad") == b"007"
        assert run.redis.get("text:18446744073709551615") == "é/".encode() + b"\0\xff"
        assert (
            run.redis.get("json:18446744073709551615")
            == (
                '{"id":18446744073709551615,"status":"é","blob":"AP8=","doc":{"a": 1e400},"ratio":0.1,'
                '"at":{"type":"Point","coordinates":[1,2]},"nothing":null,"price":"1.50","pad":7}'
            ).encode()
        )


async def test_a_changed_key_is_removed_and_written(redis_server: Redis, tmp_path: Path) -> None:
    mapping = '{table: shop.orders, key: "by:{status}", type: json}'
    async with running(redis_server, tmp_path, mappings=mapping) as run:
        run.lanes.put(event("c", 1, {"id": 1, "status": "a"}))
        run.lanes.put(event("u", 2, {"id": 1, "status": "b"}, {"id": 1, "status": "a"}))
        await run.drained()
        assert run.redis.get("by:a") is None
        assert orjson.loads(run.redis.get("by:b") or b"") == {"id": 1, "status": "b"}


async def test_only_the_owner_removes_a_key(redis_server: Redis, tmp_path: Path) -> None:
    mapping = '{table: shop.orders, key: "by:{status}", type: json}'
    async with running(redis_server, tmp_path, mappings=mapping) as run:
        run.lanes.put(event("c", 1, {"id": 1, "status": "a"}))
        run.lanes.put(event("u", 3, {"id": 2, "status": "a"}, {"id": 2, "status": "z"}))  # takes the key over
        run.lanes.put(event("u", 4, {"id": 1, "status": "c"}, {"id": 1, "status": "a"}))  # no longer the owner
        await run.drained()
        assert orjson.loads(run.redis.get("by:a") or b"") == {"id": 2, "status": "a"}
        run.lanes.put(event("d", 5, None, {"id": 2, "status": "a"}))
        await run.drained()
        assert run.redis.get("by:a") is None


async def test_a_row_that_stops_matching_is_removed(redis_server: Redis, tmp_path: Path) -> None:
    mapping = '{table: shop.orders, key: "order:{id}", where: "status <> \'draft\'"}'
    paid, draft = {"id": 1, "status": "paid"}, {"id": 1, "status": "draft"}
    async with running(redis_server, tmp_path, mappings=mapping) as run:
        run.lanes.put(event("c", 1, draft))
        await run.drained()
        assert run.redis.exists("order:1") == 0
        run.lanes.put(event("u", 2, paid, draft))
        await run.drained()
        assert run.redis.exists("order:1") == 1
        run.lanes.put(event("u", 3, draft, paid), event("d", 4, None, draft))
        await run.drained()
        assert run.redis.exists("order:1") == 0
        assert run.outcomes.counts["c", "skipped"] == 1
        assert run.outcomes.counts["d", "skipped"] == 1


@pytest.mark.parametrize("kind", ["hash", "json"])
async def test_ttl_and_expire_on_delete(redis_server: Redis, tmp_path: Path, kind: str) -> None:
    mappings = (
        f'{{table: shop.orders, key: "a:{{id}}", type: {kind}, ttl: 1h}}, '
        f'{{table: shop.orders, key: "b:{{id}}", type: {kind}, on_delete: "expire:2h"}}, '
        f'{{table: shop.orders, key: "c:{{id}}", type: {kind}, ttl: "{{gone}}"}}, '
        f'{{table: shop.orders, key: "d:{{id}}", type: {kind}, on_delete: keep}}'
    )
    row = {"id": 1, "gone": "2020-01-01 00:00:00"}
    types = {"gone": "datetime"}
    async with running(redis_server, tmp_path, mappings=mappings) as run:
        run.lanes.put(event("c", 1, row, types=types))
        await run.drained()
        assert 3_590_000 < run.redis.pttl("a:1") <= 3_600_000
        assert run.redis.pttl("syncbridge:t:g:{a:1}") > 86_400_000, "the guard outlives its data"
        assert run.redis.pttl("b:1") == -1
        assert run.redis.exists("c:1") == 0
        run.lanes.put(event("d", 2, None, row, types=types))
        await run.drained()
        assert run.redis.exists("a:1") == 0
        assert 7_190_000 < run.redis.pttl("b:1") <= 7_200_000
        assert run.redis.pttl("syncbridge:t:g:{b:1}") > 86_400_000
        assert run.redis.exists("d:1") == 1
        run.lanes.put(event("c", 3, {"id": 1, "gone": 60}))
        await run.drained()
        assert run.redis.pttl("b:1") == -1, "a row that came back stays"
        assert 50_000 < run.redis.pttl("c:1") <= 60_000


async def test_a_poison_row_is_set_aside_and_its_lane_moves_on(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        run.redis.lpush("order:1", "not ours")
        run.lanes.put(*(event("c", number, {"id": number}) for number in (1, 2, 3)))
        await run.drained()
        assert run.redis.exists("order:2", "order:3") == 2
        (row,) = run.state.retries.list()
        assert (row.db, row.table, row.key, row.error_class) == ("shop", "orders", {"id": 1}, "WRONGTYPE")
        run.redis.delete("order:1")
        await run.until(lambda: run.state.retries.count() == 0)
        assert run.redis.hget("order:1", "id") == b"1"
        assert run.state.dead_letters.count() == 0


async def test_a_row_that_never_succeeds_becomes_a_dead_letter(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        run.redis.lpush("order:1", "not ours")
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.until(lambda: run.state.dead_letters.count() == 1)
        (row,) = run.state.dead_letters.list()
        assert (row.attempts, row.error_class) == (3, "WRONGTYPE")
        assert run.state.retries.count() == 0
        assert orjson.loads(row.payload)["version"] == version(1)


async def test_a_late_retry_of_an_old_change_changes_nothing(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        run.redis.lpush("order:1", "not ours")
        run.lanes.put(event("c", 1, {"id": 1, "status": "old"}))
        await run.until(lambda: run.state.retries.count() == 1)
        run.redis.delete("order:1")
        run.lanes.put(event("u", 2, {"id": 1, "status": "new"}))
        await run.drained()
        await run.until(lambda: run.state.retries.count() == 0)
        assert run.redis.hget("order:1", "status") == b"new"


async def test_what_is_no_job_is_kept_and_the_lane_moves_on(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        run.lanes.put(workload=b"\0garbage")
        run.lanes.put(workload=b'[{"op": "c", "format": 99}]')
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.drained()
        assert run.redis.exists("order:1") == 1
        await run.until(lambda: run.state.dead_letters.count() == 2)
        assert {row.payload for row in run.state.dead_letters.list()} == {
            b"\0garbage", b'[{"op": "c", "format": 99}]',
        }  # fmt: skip


@pytest.mark.parametrize(
    ("mapping", "row", "message"),
    [
        ('{table: shop.orders, key: "order:{code}"}', {"id": 1, "code": None}, "NULL"),
        ('{table: shop.orders, key: "order:{missing}"}', {"id": 1}, "missing"),
        (ORDERS, {"id": 1, "_v": "mine"}, "start with _"),
        (ORDERS, {"id": 1, "text": "x" * 2000}, "over the limit"),
        ('{table: shop.orders, key: "order:{id}", where: "doc = 1"}', {"id": 1, "doc": "{}"}, "IS NULL"),
    ],
)
async def test_rows_that_cannot_be_shown_say_why(
    redis_server: Redis, tmp_path: Path, mapping: str, row: dict[str, object], message: str
) -> None:
    async with running(redis_server, tmp_path, mappings=mapping, sink=", max_value: 1000") as run:
        run.lanes.put(event("c", 1, row, types={"doc": "json"} if "doc" in row else {}))
        await run.drained()
        (failed,) = run.state.retries.list() or run.state.dead_letters.list()
        assert message in failed.message


async def test_an_event_older_than_tombstones_live_is_read_again(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path, sink=", tombstone: 1h") as run:
        old = time.time_ns() // 1000 - 31 * 60 * 1_000_000
        run.lanes.put(event("u", 1, {"id": 1, "x": "b"}, {"id": 1, "x": "a"}, ts_us=old))
        run.lanes.put(event("u", 2, {"id": 2}, ts_us=old + 3 * 60 * 1_000_000))
        await run.drained()
        assert run.redis.exists("order:1") == 0
        assert run.redis.exists("order:2") == 1
        (request,) = run.state.requests.pending("reread")
        assert (request.db, request.table) == ("shop", "orders")
        assert request.payload["key"] == {"id": 1}
        assert request.payload["rows"] == [{"id": 1, "x": "a"}, {"id": 1, "x": "b"}]


async def test_many_old_events_make_their_table_be_read_again(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        run.lanes.put(*(event("c", number, {"id": number}, ts_us=1) for number in range(1, 201)))
        await run.drained()
        (request,) = run.state.requests.pending()
        assert (request.kind, request.db, request.table) == ("snapshot", "shop", "orders")


async def test_a_dead_letter_that_is_retried_is_read_again(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        run.redis.lpush("order:1", "not ours")
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.until(lambda: run.state.dead_letters.count() == 1)
        run.redis.delete("order:1")
        run.state.dead_letters.retry(*(row.id for row in run.state.dead_letters.list()))
        await run.until(lambda: run.state.requests.pending("reread"))
        await run.until(lambda: run.state.retries.count() == 0)
        assert run.redis.exists("order:1") == 0, "never applied from its old payload"


async def test_a_sweep_removes_what_is_older_and_only_that(redis_server: Redis, tmp_path: Path) -> None:
    mappings = ORDERS + ', {table: shop.orders, key: "order:{id}:json", type: json}'
    async with running(redis_server, tmp_path, mappings=mappings) as run:
        run.lanes.put(*(event("c", number, {"id": number}) for number in range(1, 1001)))
        run.lanes.put(event("c", 5000, {"id": 5000}))
        run.redis.set("order:theirs", "x")
        run.redis.hset("order:9999", "id", "theirs")
        await run.drained()
        run.redis.lpush("order:7777", "not ours")
        run.lanes.put(event("c", 1001, {"id": 7777}))
        await run.drained()
        assert run.state.retries.count() == 1
        run.lanes.put(event("t", 2000))
        await run.drained()
        left = sorted(set(run.redis.scan_iter("order:*")))  # SCAN may name a key twice
        assert left == [b"order:5000", b"order:5000:json", b"order:7777", b"order:9999", b"order:theirs"]
        assert run.state.retries.count() == 0


@pytest.mark.parametrize("kind", ["hash", "json"])
async def test_what_slept_through_a_sweep_brings_nothing_back(redis_server: Redis, tmp_path: Path, kind: str) -> None:
    mapping = f'{{table: shop.orders, key: "order:{{id}}", type: {kind}}}'
    async with running(redis_server, tmp_path, mappings=mapping) as run:
        run.lanes.put(event("c", 10, {"id": 1}), lane=1)
        await run.drained()
        run.lanes.put(event("t", 20))
        await run.drained()
        run.lanes.put(event("c", 10, {"id": 1}), event("c", 20, {"id": 2}), event("c", 21, {"id": 3}), lane=1)
        await run.drained()
        assert sorted(run.redis.keys("order:*")) == [b"order:2", b"order:3"]


@pytest.mark.parametrize("kind", ["hash", "json"])
async def test_a_row_read_again_that_no_longer_matches_is_removed(
    redis_server: Redis, tmp_path: Path, kind: str
) -> None:
    mapping = f'{{table: shop.orders, key: "order:{{id}}", type: {kind}, where: "a = 1"}}'
    async with running(redis_server, tmp_path, mappings=mapping) as run:
        run.lanes.put(event("c", 1, {"id": 1, "a": 1}), event("c", 9, {"id": 2, "a": 1}))
        run.lanes.put(*(event("r", 5, {"id": number, "a": 0}) for number in (1, 2, 3)))
        await run.drained()
        assert run.redis.keys("order:*") == [b"order:2"]
        run.lanes.put(event("u", 4, {"id": 1, "a": 1}))
        await run.drained()
        assert run.redis.exists("order:1") == 0
        assert run.redis.exists("syncbridge:t:g:{order:3}") == 0, "a snapshot leaves no tombstones of excluded rows"


async def test_what_no_mark_tells_is_remembered_before_it_leaves(redis_server: Redis, tmp_path: Path) -> None:
    """A retry, an isolated job and the sweep of a snapshot: a rewind to before them must read the table again."""
    async with running(redis_server, tmp_path) as run:

        def last_version() -> str:
            row = run.state.snapshots.load("shop", "orders")
            return row.last_version if row else ""

        run.redis.lpush("order:1", "not ours")
        run.lanes.put(event("c", 1, {"id": 1}), event("c", 7, {"id": 2}))
        await run.until(lambda: run.state.retries.count() == 1)
        assert last_version() == ""
        run.redis.delete("order:1")
        await run.until(lambda: run.state.retries.count() == 0)
        assert last_version() == version(7)
        run.lanes.put(event("c", 9, {"id": 3}), lane=1)
        await run.drained()
        run.lanes.put(event("c", 3, {"id": 4}), isolated=True)
        await run.drained(20)
        assert (run.redis.exists("order:4"), last_version()) == (1, version(9))
        run.lanes.put(event("c", 11, {"id": 5}), lane=1)
        run.lanes.put(event("t", 12))
        await run.drained()
        assert last_version() == version(9), "it comes again with the TRUNCATE"
        run.lanes.put(event("c", 15, {"id": 5}), lane=1)
        await run.drained()
        run.lanes.put(event("t", 13))
        await run.drained()
        assert last_version() == version(15)


async def test_a_mapping_that_is_gone_is_swept_whole(redis_server: Redis, tmp_path: Path) -> None:
    before = config_for(redis_server, tmp_path, '{table: shop.orders, key: "was:{id}"}')
    async with running(redis_server, tmp_path, before) as run:
        run.lanes.put(event("c", 1, {"id": 1}), event("c", 9, {"id": 9}))
        await run.drained()
    async with running(redis_server, tmp_path) as run:
        run.lanes.put(event("c", 3, {"id": 1}))
        run.lanes.put(event("t", 4, mappings=[before.mappings[0].fingerprint]))
        await run.drained()
        assert run.redis.keys("was:*") == []
        assert run.redis.keys("order:*") == [b"order:1"]


@pytest.mark.parametrize(("was", "now"), [("hash", "json"), ("json", "hash")])
async def test_a_mapping_may_change_its_type(redis_server: Redis, tmp_path: Path, was: str, now: str) -> None:
    def mapping(kind: str) -> str:
        return f'{{table: shop.orders, key: "order:{{id}}", type: {kind}}}'

    async with running(redis_server, tmp_path, mappings=mapping(was)) as run:
        run.lanes.put(event("c", 5, {"id": 1}), event("c", 6, {"id": 2}))
        await run.drained()
    async with running(redis_server, tmp_path, mappings=mapping(now)) as run:
        run.lanes.put(event("u", 4, {"id": 1, "a": 1}), event("r", 7, {"id": 2, "a": 2}))
        await run.drained()
        kinds = [run.redis.type(f"order:{number}") for number in (1, 2)]
        assert kinds == [{"hash": b"hash", "json": b"string"}[kind] for kind in (was, now)], "older changes nothing"
        shown = run.redis.hget("order:2", "a") if now == "hash" else run.redis.get("order:2")
        assert shown == (b"2" if now == "hash" else b'{"id":2,"a":2}')
        run.lanes.put(event("d", 8, None, {"id": 2}))
        await run.drained()
        assert run.redis.exists("order:2") == 0
        assert run.state.retries.count() == 0


@pytest.mark.parametrize("kind", ["hash", "json"])
async def test_foreign_keys_and_newer_guards_are_never_overwritten(
    redis_server: Redis, tmp_path: Path, kind: str
) -> None:
    mapping = f'{{table: shop.orders, key: "order:{{id}}", type: {kind}}}'
    async with running(redis_server, tmp_path, mappings=mapping) as run:
        run.redis.lpush("order:1", "theirs")
        if kind == "hash":
            run.redis.hset("order:2", "_v", "2" + "0" * 60)
            run.redis.set("order:3", "theirs")
        else:
            run.redis.set("order:2", "x")
            run.redis.set("syncbridge:t:g:{order:2}", "2" + "0" * 60)
            run.redis.hset("order:3", "theirs", "1")
        before = {key: run.redis.dump(key) for key in ("order:1", "order:2", "order:3")}
        run.lanes.put(*(event("c", number, {"id": number}) for number in (1, 2, 3)))
        run.lanes.put(*(event("d", 3 + number, None, {"id": number}) for number in (1, 2, 3)))
        await run.drained()
        await run.until(lambda: run.state.dead_letters.count() == 6)
        assert {key: run.redis.dump(key) for key in before} == before
        assert {row.error_class for row in run.state.dead_letters.list()} == {"WRONGTYPE", "GUARD"}


async def test_a_retry_that_meets_a_sweep_is_read_again(
    redis_server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table was emptied between the claim of the retry and its write: its row may not stay."""
    async with running(redis_server, tmp_path) as run:
        run.redis.lpush("order:1", "not ours")
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.drained()
        (row,) = run.state.retries.list()
        run.redis.delete("order:1")
        due = Retries.due

        def claimed_then_dropped(self: Retries, now: float, **more: Any) -> list[FailedRow]:
            rows = due(self, now, **more)
            self.discard(*(one.id for one in rows))
            return rows

        monkeypatch.setattr(Retries, "due", claimed_then_dropped)
        await run.until(lambda: run.state.requests.pending("reread"))
        (request,) = run.state.requests.pending("reread")
        assert request.payload["key"] == row.key


async def test_an_emptied_redis_is_noticed_before_anything_is_written(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.drained()
        assert run.state.requests.pending() == [], "a first start asks for nothing"
        first = run.redis.hget("syncbridge:t:meta", "sink_id")
        run.redis.flushall()
        run.lanes.put(event("c", 2, {"id": 2}))
        await run.drained()
        (request,) = run.state.requests.pending()
        assert (request.kind, request.db, request.table) == ("snapshot", "", "")
        assert run.redis.hget("syncbridge:t:meta", "sink_id") not in (None, first)
        assert run.redis.exists("order:2") == 1


async def test_an_emptied_redis_is_noticed_at_the_next_start_too(redis_server: Redis, tmp_path: Path) -> None:
    async with running(redis_server, tmp_path) as run:
        run.lanes.put(event("c", 1, {"id": 1}))
        await run.drained()
        run.redis.flushall()
    mirror = RedisMirror(config_for(redis_server, tmp_path))
    mirror.raise_epoch(4)  # capture may be faster than the worker
    async with running(redis_server, tmp_path) as run:
        await run.until(lambda: run.state.requests.pending("snapshot"))
        assert mirror.epoch() == 4
    mirror.close()


async def test_a_redis_that_lost_its_newest_data_is_rewound(new_redis: type[Redis], tmp_path: Path) -> None:
    server = new_redis(appendonly=True, appendfsync="always")
    async with running(server, tmp_path, extra="queue: {lanes: 2}") as run:
        run.lanes.put(event("c", 5, {"id": 1}), lane=0)
        run.lanes.put(event("c", 7, {"id": 2}), lane=1)
        await run.drained()
        server.kill9()
        server.start()
        run.lanes.put(event("c", 8, {"id": 3}), lane=1)
        await run.drained(20)
        (request,) = run.state.requests.pending()
        assert (request.kind, request.payload) == ("rewind", {"version": version(5)})
    async with running(server, tmp_path, extra="queue: {lanes: 2}") as run:
        run.state.requests.done(request.id)
        run.lanes.put(event("c", 9, {"id": 4}))
        await run.drained()
        assert run.state.requests.pending() == [], "the restart was answered once"


async def test_a_lane_without_a_mark_cannot_say_how_far_it_is(new_redis: type[Redis], tmp_path: Path) -> None:
    server = new_redis(appendonly=True, appendfsync="always")
    async with running(server, tmp_path, extra="queue: {lanes: 2}") as run:
        run.lanes.put(event("c", 5, {"id": 1}), lane=0)
        await run.drained()
        server.kill9()
        server.start()
        run.lanes.put(event("c", 8, {"id": 3}), lane=1)
        await run.drained(20)
        (request,) = run.state.requests.pending()
        assert request.kind == "snapshot"


async def test_a_queue_that_closes_every_connection_is_asked_ever_more_seldom(
    redis_server: Redis, tmp_path: Path
) -> None:
    lanes = Lanes()
    lanes.closing = True
    async with running(redis_server, tmp_path, lanes=lanes) as run:
        await run.until(lambda: lanes.connects == 5)
        pauses = [later - earlier for earlier, later in pairwise(lanes.connected)]
        assert pauses[-1] >= 0.4, pauses
        lanes.closing = False
        lanes.put(event("c", 1, {"id": 1}))
        await run.drained()


async def test_a_lost_queue_connection_applies_twice_and_means_once(redis_server: Redis, tmp_path: Path) -> None:
    lanes = Lanes()
    async with running(redis_server, tmp_path, lanes=lanes) as run:
        await run.until(lambda: lanes.connects == 1)
        lanes.broken = True
        lanes.put(event("c", 1, {"id": 1}))
        await run.until(lambda: lanes.connects == 2)
        await run.drained()
        assert lanes.completed == [b"H:000001"]
        assert run.redis.hget("order:1", "id") == b"1"


async def test_a_wrong_password_is_a_config_error(new_redis: type[Redis], tmp_path: Path) -> None:
    server = new_redis(requirepass="right")
    config = config_for(server, tmp_path)
    with pytest.raises(ConfigError, match="refuses this user") as refused:
        await connect(config.sink)
    assert refused.value.hint


async def test_a_redis_that_hangs_is_sick(
    new_redis: type[Redis], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = new_redis()
    monkeypatch.setattr("syncbridge.sinks.connection._TIMEOUT", 0.3)
    link = await connect(config_for(server, tmp_path).sink)
    try:
        assert await link.command("ECHO", "1") == b"1"
        server.freeze()
        with pytest.raises(TransientError, match=r"is not available: no answer within 0\.3 s"):
            await link.command("ECHO", "2")
        server.thaw()
        assert await link.command("ECHO", "3") == b"3"  # on a connection of its own: no late answer is taken for it
    finally:
        await link.close()


async def test_a_newer_format_is_refused_in_one_sentence(redis_server: Redis, tmp_path: Path) -> None:
    with redis_server.client() as client:
        client.hset("syncbridge:t:meta", mapping={"format": "2", "sink_id": "x"})
    with pytest.raises(ConfigError, match="format 2"):
        async with running(redis_server, tmp_path) as run:
            await run.until(lambda: False, within=1)


def test_versions_of_redis() -> None:
    assert version_finding({"redis_version": "6.2.14"}) is None
    assert version_finding({"redis_version": "7.0.15"}) is None
    assert "too old" in (version_finding({"redis_version": "5.0.7"}) or "")
