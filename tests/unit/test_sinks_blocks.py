"""Blocks of rows against the same rows as events: whatever the mapping, Redis is asked for the same."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncbridge.capture.changes import Shape, Transaction
from syncbridge.errors import PermanentError
from syncbridge.sinks.mapping import Mappings, Operation, as_bytes
from syncbridge.sinks.plan import Apply, Plan, Planner, record
from syncbridge.workload import Draft, decode_job, encode_job, items
from tests.unit.test_sinks_mapping import NOW, mappings

pytestmark = pytest.mark.usefixtures("native_or_not")

COLUMNS = ("id", "code", "photo", "n", "at", "doc")
TYPES = {"code": "text_bin", "photo": "binary", "at": "datetime", "doc": "json"}
ROWS = st.tuples(
    st.integers(0, 9),
    st.none() | st.text(max_size=3),
    st.none() | st.sampled_from(["", "AAE=", "/w=="]),
    st.none() | st.integers(-(2**63), 2**63),
    st.none() | st.sampled_from(["2030-01-02 03:04:05", "0000-00-00 00:00:00"]),
    st.none() | st.sampled_from(['{"a": 1}', "no json"]),
)
MAPPINGS = (
    'key: "k:{id}"',
    'key: "k:{id}:{code}"',
    'key: "k:{code}"',
    'key: "{{{photo}}}:k"',
    'key: "k:{_key}", columns: {exclude: [n]}',
    'key: "k:{id}", columns: {include: [id], rename: {id: number}}',
    'key: "k:{id}", columns: {mask: [code], rename: {n: gone_one}}',
    'key: "k:{id}", ttl: 1h',
    'key: "k:{id}", ttl: {column: n}',
    'key: "k:{id}", where: "code = \'a\'"',
    'key: "k:{id}", on_delete: keep',
    'key: "k:{id}", on_delete: "expire:1h"',
    'key: "k:{id}", type: json',
    'key: "k:{code}", type: json, columns: {exclude: [doc]}',
    'key: "k:{id}", type: string, value: "{code}-{photo}"',
)
CHANGES = st.one_of(
    st.tuples(st.sampled_from("cdr"), st.lists(ROWS, min_size=1, max_size=20)),
    st.tuples(st.just("u"), st.lists(st.tuples(ROWS, ROWS), min_size=1, max_size=10)),
)
tried: Counter[str] = Counter()


def job(changes: list[tuple[str, list[Any]]], gone: tuple[str, ...], ts_us: int) -> bytes:
    draft, shape, number = Draft(), Shape("shop", "orders", ("id",), TYPES, gone, COLUMNS), 0
    for place, (op, rows) in enumerate(changes):
        transaction = Transaction(
            pipeline="p", epoch=1, server_id=5, gtid="", file="b.000003", file_number=3, pos=100 + place // 2, ts_us=7
        )
        if op == "u":  # one event has one key
            rows = [(before, (before[0], *after[1:])) for before, after in rows]
        draft.add_rows(shape, transaction, op, ts_us, list(range(number, number + len(rows))), rows)
        number += len(rows)
    return draft.dump()


def asked(plan: Plan) -> tuple[list[Any], list[Any], Any]:
    operations = [
        (operation.code, operation.key, unordered(operation))
        for step in plan.steps
        if isinstance(step, Apply)
        for operation in step.singly()
    ]
    failures = [(row.mapping, row.key, row.version, row.error_class, row.message, row.payload) for row in plan.failures]
    return operations, failures, (plan.outcomes, plan.mark, plan.oldest_us, plan.old)


def unordered(operation: Operation) -> Any:
    """Its arguments; of a hash, fields in any order."""
    arguments = [as_bytes(item) for item in operation.arguments]
    if operation.code != "H":
        return arguments
    fields, end = arguments[3 : 3 + int(arguments[1])], 3 + int(arguments[1])
    return arguments[:3], sorted(zip(fields[::2], fields[1::2], strict=True)), sorted(arguments[end:])


def answered(plan: Plan, answers: list[Any]) -> tuple[Any, Any]:
    """Failures and outcomes once Redis has answered each step with `answers`, in turn."""
    for step in plan.steps:
        assert isinstance(step, Apply)
        assert sum(origin.count for origin in step.origins) == step.count == len(step.singly()) <= 128
        record(plan, step, [answers[place % len(answers)] for place in range(step.count)])
    return sorted((row.mapping, row.version, row.message) for row in plan.failures), plan.outcomes


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from(MAPPINGS), min_size=1, max_size=2, unique=True),
    st.lists(CHANGES, min_size=1, max_size=6),
    st.sampled_from([(), ("gone_one", "_ours")]),
    st.sampled_from([NOW, NOW - 100_000]),
    st.sampled_from([[1], [1, 0], [1, 0, b"WRONGTYPE no"]]),
)
def test_blocks_ask_for_what_their_events_ask_for(
    texts: list[str], changes: list[Any], gone: tuple[str, ...], captured: float, answers: list[Any]
) -> None:
    workload = job(changes, gone, int(captured * 1_000_000))
    one_by_one = encode_job(decode_job(workload))
    for text in texts:  # with several mappings, the operations of one come before those of the next
        known = of(text)
        fast, plain = planner(known).plan([workload], NOW), planner(known).plan([one_by_one], NOW)
        assert asked(fast) == asked(plain)
        assert answered(fast, answers) == answered(plain, answers)
        tried["operations"] += sum(step.count for step in fast.steps if isinstance(step, Apply))
    both = of(texts[0], *[text.replace("k:{", "j:{").replace(':k"', ':j"') for text in texts[1:]])
    fast, plain = planner(both).plan([workload], NOW), planner(both).plan([one_by_one], NOW)
    assert sorted(asked(fast)[0]) == sorted(asked(plain)[0])
    tried["jobs"] += 1


@cache
def of(*texts: str) -> Mappings:
    return mappings(*["shop.orders, " + text for text in texts])


def planner(known: Mappings) -> Planner:
    return Planner(known, tombstone=86400, max_value=2**40)


def test_many_rows_are_cut_into_calls_of_bounded_size() -> None:
    rows = [(n, "a", None, n, None, "x" * 30_000) for n in range(300)]
    plan = planner(mappings('shop.orders, key: "k:{id}"')).plan([job([("c", rows)], (), int(NOW * 1e6))], NOW)
    calls = [step for step in plan.steps if isinstance(step, Apply)]
    assert sum(call.count for call in calls) == 300
    assert max(call.size for call in calls) < 2 * 2**20
    assert [origin.first for call in calls for origin in call.origins] == sorted(
        origin.first for call in calls for origin in call.origins
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 3}, "format 3"),
        ({"tables": []}, "does not fit"),
        ({"items": [[0, "t", [0], [0], [[1]]]]}, "does not fit"),
        ({"items": [[0, "c", [0], [0], [[1, 2]]]]}, "does not fit"),
        ({"items": [[0, "c", [0], [0, 1], [[1]]]]}, "does not fit"),
        ({"items": [[0, "u", [0], [0], [[1]]]]}, "does not fit"),
        ({"items": [[0, "c", [1], [0], [[1]]]]}, "does not fit"),
        ({"items": [[0, "c", [], [], []]]}, "does not fit"),
        ({"transactions": [[]]}, "does not fit"),
        ({"items": [{"op": "c"}]}, "format None"),
        ({"items": 7}, "does not fit"),
    ],
)
def test_a_job_of_blocks_that_does_not_fit_its_description_is_refused(change: dict[str, Any], reason: str) -> None:
    draft = Draft()
    shape = Shape("d", "t", ("id",), {}, (), ("id",))
    transaction = Transaction(
        pipeline="p", epoch=1, server_id=5, gtid="", file="b.000003", file_number=3, pos=1, ts_us=7
    )
    draft.add_rows(shape, transaction, "c", 1, [0], [(1,)])
    whole = orjson.loads(draft.dump())
    assert len(items(orjson.dumps(whole))) == 1
    with pytest.raises(PermanentError, match=reason):
        items(orjson.dumps(whole | change))
