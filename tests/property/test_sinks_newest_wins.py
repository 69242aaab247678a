"""Random operations and sweeps, shuffled and repeated: Redis ends up with what a model of the newest says (P2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncbridge.config import parse_config
from syncbridge.event import Event
from syncbridge.sinks.apply import APPLY, SWEEP, Applier, answers
from syncbridge.sinks.keys import GUARD_FIELD
from syncbridge.sinks.mapping import CompiledMapping, Mappings, as_bytes
from tests.integration.sink_tools import event, version
from tests.property.packed import send
from tests.servers import Redis

CONFIG = """
name: p
source: {{url: "mysql://u@h:1"}}
sink: {{url: "redis://h"}}
mappings: [{{table: shop.orders, key: "k:{{id}}", type: {kind}, where: "shown = 1"{more}}}]
"""
ids = st.integers(1, 4)
rows = st.fixed_dictionaries({"id": ids, "shown": st.sampled_from([1, 1, 1, 0]), "a": st.none() | st.integers(0, 9)})


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], list[int], dict[int, dict[str, Any]]]:
    """Changes of a table in order; the order they arrive in, some twice; the table at the end."""
    table: dict[int, dict[str, Any]] = {}
    events: list[Event] = []
    for number in range(1, draw(st.integers(3, 14)) + 1):
        if draw(st.integers(0, 9)) == 0:
            table.clear()
            events.append(event("t", number))
            continue
        row = draw(rows)
        before = table.get(row["id"])
        if before is not None and draw(st.integers(0, 3)) == 0:
            del table[row["id"]]
            events.append(event("d", number, None, before))
            continue
        events.append(event("u" if before else "c", number, row, before))
        table[row["id"]] = row
    arrival = draw(st.permutations([*range(len(events)), *draw(st.lists(st.integers(0, len(events) - 1), max_size=6))]))
    return events, list(arrival), table


@pytest.fixture
def client(redis_server: Redis) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        for script in (APPLY, SWEEP):
            client.script_load(script.source.decode())
        yield client


@pytest.mark.parametrize("kind", ["hash", "json"])
@pytest.mark.parametrize("more", ["", ", ttl: 1h", ', on_delete: "expire:1h"'])
def test_any_order_of_arrival_ends_with_the_newest(client: redis.Redis, kind: str, more: str) -> None:
    config = parse_config(CONFIG.format(kind=kind, more=more))
    (mapping,) = Mappings(config).of("shop", "orders")
    applier = Applier("p", 3600)
    counts: Counter[str] = Counter()

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(history=histories(), batch=st.integers(1, 5))
    def newest_wins(history: tuple[list[Event], list[int], dict[int, dict[str, Any]]], batch: int) -> None:
        events, arrival, table = history
        client.flushall()
        client.hset("syncbridge:p:meta", mapping={"sink_id": "x", "bare": "x"})
        for start in range(0, len(arrival), batch):
            operations = []
            for one in (events[index] for index in arrival[start : start + batch]):
                if one["op"] == "t":
                    counts["swept"] += _sweep(client, applier, mapping, one["version"])
                else:
                    operations += mapping.operations(one)
            results = answers(send(client, applier.call("x", operations, 0, version(1))))
            assert all(result in (0, 1) for result in results)
            counts["operations"] += len(results)
            counts["stale"] += results.count(0)
        for number in range(1, 5):
            row = table.get(number)
            wanted = mapping.expected(row, {}, ("id",)) if row is not None else None
            key = b"k:%d" % number
            if wanted is not None:
                assert _content(client, key, kind) == wanted.content
            elif client.exists(key):  # on_delete: expire leaves the last data for a while
                assert "expire" in more
                assert client.ttl(key) > 0
            if client.exists(key):
                assert client.ttl(key) == -1 or client.ttl(f"syncbridge:p:g:{{{key.decode()}}}") > client.ttl(key)
        counts["histories"] += 1

    newest_wins()
    print(f"\n{kind}{more}: {dict(counts)}")
    assert counts["stale"] > counts["operations"] / 20


def _sweep(client: redis.Redis, applier: Applier, mapping: CompiledMapping, before: str) -> int:
    keys = [b"k:%d" % number for number in range(1, 5)]
    rule = mapping.config.on_delete
    expire = rule.after if rule.action == "expire" else 0.0
    swept: int = send(
        client,
        applier.sweep(
            "x", keys, mapping_id=mapping.id, version=before, floor=before, hash_=mapping.hash, expire=expire
        ),
    )
    return swept


def _content(client: redis.Redis, key: bytes, kind: str) -> Any:
    if kind != "hash":
        return client.get(key)
    fields: Any = client.hgetall(key)
    return {name: as_bytes(value) for name, value in fields.items() if name != GUARD_FIELD.encode()}
