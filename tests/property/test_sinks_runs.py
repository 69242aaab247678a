"""Rows applied as runs, or created as hashes, leave Redis exactly as the same rows do that are applied one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from syncbridge import native
from syncbridge.sinks.apply import APPLIED, APPLY, REFUSED, STALE, Applier, answers, singly
from syncbridge.sinks.fresh import Fresh
from syncbridge.sinks.keys import companion_key, companion_prefix, guard
from syncbridge.sinks.plan import Apply, Origin
from syncbridge.sinks.runs import REMOVE_ROWS, WRITE_ROWS, Run
from tests.integration.sink_tools import version
from tests.property.packed import send
from tests.servers import Redis

#: Plain, not ASCII, with a hash tag, with a lone brace.
OURS = [b"k:1", "k:ü", b"k:{tag}:3", b"k:{4"]
#: A string of somebody else's, a hash without a guard, one guarded by a newer syncbridge.
THEIRS = [b"foreign", b"unguarded", b"newer"]
COMPANIONS = {
    companion_key(companion_prefix("p"), key if isinstance(key, bytes) else key.encode()) for key in OURS + THEIRS
}
MAPPING = "abcdef01"
texts = st.sampled_from([None, "", "None", 7, -(2**63), "ü日本", "a b", "\x00", "z\x00y"])
raws = st.none() | st.binary(max_size=4) | st.just(b"\0None\0")
owners = st.sampled_from(["", "", "", "1", "\udcff"])


#: Where the rows come from, as far as it is looked at.
WRITTEN = Origin({"op": "c"}, SimpleNamespace(id=MAPPING), 0)  # type: ignore[arg-type]

#: A key that is removed twice in one run, last by the older change.
TWICE = [
    [Run(WRITE_ROWS, OURS[:1], [guard(version(5), MAPPING), 1], ["f0"])],
    [Run(REMOVE_ROWS, OURS[:1] * 2, [guard(version(7), MAPPING), guard(version(6), MAPPING)])],
]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    keys = draw(st.lists(st.sampled_from(OURS + draw(st.sampled_from([[], [], THEIRS]))), min_size=1, max_size=6))
    guards = [guard(version(draw(st.integers(1, 15))), MAPPING, draw(owners)) for _ in keys]
    if draw(st.integers(0, 2)) == 0:
        return Run(REMOVE_ROWS, keys, guards)
    width = draw(st.sampled_from([0, 1, 3, 3, 3, 7, 8, 15, 17]))
    raw = draw(st.integers(0, 2))
    values = [item for stamp in guards for item in (stamp, *draw(st.lists(texts, min_size=width, max_size=width)))]
    bodies = draw(st.lists(raws, min_size=raw * len(keys), max_size=raw * len(keys)))
    fields = [f"f{number}" for number in range(width)] + [b"r%d" % number for number in range(raw)]
    ttl = draw(st.sampled_from(["0", "0", "", "60000"]))
    return Run(WRITE_ROWS, keys, values, fields, bodies, draw(st.sampled_from([(), ("f0gone", b"f20")])), ttl)


@pytest.fixture
def clients(redis_server: Redis) -> Iterator[tuple[redis.Redis, redis.Redis]]:
    with redis_server.client() as one, redis_server.client(db=1) as other:
        one.script_load(APPLY.source.decode())
        yield one, other


@pytest.mark.usefixtures("native_or_not")
def test_a_run_is_its_rows_one_by_one(clients: tuple[redis.Redis, redis.Redis]) -> None:
    applier = Applier("p", 3600)
    counts: Counter[Any] = Counter()

    def together_of(batch: list[Run]) -> list[Any]:
        """As workers do it: what may be new is tried as such."""
        rows = Fresh().of(Apply([*batch], [WRITTEN]))
        if rows is not None:
            before = _content(clients[0])
            counts["tried"] += 1
            packed = applier.create("x", rows.keys, rows.guard, rows.payloads, 0, version(1))
            reply = send(clients[0], packed)
            if reply != REFUSED:
                counts["created"] += reply
                return answers(reply)
            assert _content(clients[0]) == before
        return answers(send(clients[0], applier.call("x", batch, 0, version(1))))

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(
        batches=st.lists(st.lists(runs(), min_size=1, max_size=3), min_size=1, max_size=4),
        floor=st.integers(0, 4),
        bare=st.sampled_from(["x", "x", "another"]),
    )
    @example(batches=TWICE, floor=0, bare="x")
    def same(batches: list[list[Run]], floor: int, bare: str) -> None:
        for client in clients:
            _prepare(client, floor)
        clients[0].hset("syncbridge:p:meta", "bare", bare)
        for batch in batches:
            together = together_of(batch)
            alone = [
                result
                for run in batch
                for operation in singly(run)
                for result in answers(send(clients[1], applier.call("x", [operation], None, "")))
            ]
            assert together == alone
            counts.update(result if isinstance(result, int) else result[:9] for result in together)
        still_bare = clients[0].hdel("syncbridge:p:meta", "bare")
        content = _content(clients[0])
        assert content == _content(clients[1])
        companions = {key for key in content if key.startswith(b"syncbridge:p:g:")}
        assert companions <= COMPANIONS
        assert not (companions and still_bare and bare == "x")
        counts["bare at the end"] += bool(still_bare and bare == "x")

    same()
    print(f"\n{dict(counts)}")
    assert min(counts[kind] for kind in (APPLIED, STALE, b"WRONGTYPE", b"GUARD of ")) > 50
    assert counts["bare at the end"] > 10
    if native.functions is not None:
        assert min(counts["created"], counts["tried"] - counts["created"]) > 20


@pytest.mark.usefixtures("native_or_not")
@pytest.mark.parametrize("width", [1, 62, 63, 64, 200])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 125, 126, 127, 128, 500, 960, 1100, 5000])
def test_hashes_of_every_size(clients: tuple[redis.Redis, redis.Redis], width: int, size: int) -> None:
    clients[0].flushdb()
    clients[0].hset("syncbridge:p:meta", mapping={"sink_id": "x", "bare": "x"})
    values = ["v" * (size if place == width - 1 else 1) for place in range(width)]
    run = Run(WRITE_ROWS, ["k"], [guard(version(5), MAPPING), *values], [f"f{place}" for place in range(width)])
    rows = Fresh().of(Apply([run], [WRITTEN]))
    if native.functions is None or width > 63 or size > 1000:
        assert rows is None
    elif size <= 128:
        assert rows is not None
    call = (
        applier_call(run)
        if rows is None
        else Applier("p", 3600).create("x", rows.keys, rows.guard, rows.payloads, 0, version(1))
    )
    clients[0].config_set("sanitize-dump-payload", "yes")  # Redis looks closely at what it is given
    try:
        assert send(clients[0], call) == 1
    finally:
        clients[0].config_set("sanitize-dump-payload", "no")
    assert clients[0].hgetall("k") == {b"_v": guard(version(5), MAPPING).encode()} | {
        b"f%d" % place: value.encode() for place, value in enumerate(values)
    }
    clients[0].hset("k", "f0", "changed")
    assert clients[0].hget("k", "f0") == b"changed"


def applier_call(run: Run) -> bytes:
    return Applier("p", 3600).call("x", [run], 0, version(1))


def _prepare(client: redis.Redis, floor: int) -> None:
    client.flushdb()
    client.hset("syncbridge:p:meta", mapping={"sink_id": "x", f"floor:{MAPPING}": version(floor)})
    client.set("foreign", "text")
    client.hset("unguarded", "theirs", "1")
    client.hset("newer", "_v", "2")


def _content(client: redis.Redis) -> dict[bytes, tuple[Any, bool]]:
    """Key -> what it holds, and whether it expires."""
    found = {}
    for key in client.scan_iter():
        content: Any = client.hgetall(key) if client.type(key) == b"hash" else client.get(key)
        if key != b"syncbridge:p:marks":
            found[key] = (content, int(client.ttl(key)) >= 0)
    return found
