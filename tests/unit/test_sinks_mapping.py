"""Mappings without a Redis: which operations an event yields, and what the retry table hears of the rest."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from syncbridge.config import parse_config
from syncbridge.errors import ColumnMissing, PermanentError
from syncbridge.sinks.keys import companion_key
from syncbridge.sinks.mapping import CompiledMapping, Expected, Mappings, Operation
from syncbridge.sinks.plan import Apply, Planner, Sweep, failed_row, record, reread_request
from syncbridge.workload import encode_job
from tests.integration.sink_tools import event, version

NOW = 1_700_000_000.0


def mappings(*texts: str) -> Mappings:
    return Mappings(
        parse_config(
            '{source: {url: "mysql://u@h:1"}, sink: {url: "redis://h"}, '
            f"mappings: [{', '.join('{table: ' + text + '}' for text in texts)}]}}"
        )
    )


def compiled(text: str, db: str = "shop", table: str = "orders") -> CompiledMapping:
    (mapping,) = mappings(text).of(db, table)
    return mapping


def codes(operations: list[Operation]) -> list[tuple[str, bytes]]:
    return [(operation.code, operation.key) for operation in operations]


HASH = 'shop.orders, key: "order:{id}"'


@pytest.mark.parametrize(
    ("op", "before", "after", "expected"),
    [
        ("c", None, {"id": 1, "s": "on"}, [("H", b"order:1")]),
        ("r", None, {"id": 1, "s": "on"}, [("H", b"order:1")]),
        ("u", {"id": 1, "s": "on"}, {"id": 1, "s": "ON"}, [("H", b"order:1")]),
        ("u", {"id": 1, "s": "on"}, {"id": 2, "s": "on"}, [("h", b"order:1"), ("H", b"order:2")]),
        ("u", {"id": 1, "s": "on"}, {"id": 1, "s": "off"}, [("h", b"order:1")]),
        ("u", {"id": 1, "s": "on"}, {"id": 2, "s": "off"}, [("h", b"order:1")]),
        ("u", {"id": 1, "s": "off"}, {"id": 2, "s": "on"}, [("H", b"order:2")]),
        ("u", {"id": 1, "s": "off"}, {"id": 1, "s": None}, []),
        ("c", None, {"id": 1, "s": "off"}, []),
        ("r", None, {"id": 1, "s": "off"}, [("d", b"order:1")]),
        ("d", {"id": 1, "s": "on"}, None, [("h", b"order:1")]),
        ("d", {"id": 1, "s": "off"}, None, []),
    ],
)
def test_where_decides_what_a_change_means(op: str, before: Any, after: Any, expected: list[tuple[str, bytes]]) -> None:
    assert codes(compiled(HASH + ", where: \"s = 'on'\"").operations(event(op, 1, after, before))) == expected


def test_a_row_that_was_read_again_and_is_gone_is_removed_by_its_key() -> None:
    gone = event("d", 1, None, {"id": 1})
    assert codes(compiled(HASH + ', where: "s = 1"').operations(gone)) == [("h", b"order:1")]
    assert compiled('shop.orders, key: "by:{code}"').operations(gone) == [], "its key cannot be told"


@pytest.mark.parametrize(("rule", "code"), [("delete", "h"), ("expire:1h", "x"), ("keep", None)])
def test_on_delete(rule: str, code: str | None) -> None:
    operations = compiled(f'{HASH}, on_delete: "{rule}"').operations(event("d", 1, None, {"id": 1, "a": 2}))
    assert codes(operations) == ([] if code is None else [(code, b"order:1")])


def test_a_row_captured_before_a_mapping_looked_at_a_column_is_read_again() -> None:
    for options in ('where: "s = 1"', "ttl: '{s}'", 'key: "by:{s}"'):
        text = f"shop.orders, {options}" if options.startswith("key") else f"{HASH}, {options}"
        mapping = compiled(text)
        for change in (event("c", 1, {"id": 1}), event("u", 1, {"id": 1}, {"id": 1})):
            with pytest.raises(ColumnMissing) as error:
                mapping.operations(change)
            assert failed_row(change, mapping, error.value).stale
        now_shown = {"id": 1, "s": 1}
        assert [code for code, _ in codes(mapping.operations(event("u", 1, now_shown, {"id": 1})))] == ["H"]
    assert compiled(f'{HASH}, where: "s = 1"').operations(event("d", 1, None, {"id": 1, "v": 2})) == []


def test_a_hash_sets_what_is_there_and_deletes_what_is_not() -> None:
    mapping = compiled(HASH + ", columns: {exclude: [x], rename: {a: b}}")
    (write,) = mapping.operations(event("u", 1, {"id": 1, "a": None, "x": 1, "c": "v"}, gone=["old", "c", "b"]))
    ttl, pairs, absent, *rest = write.arguments
    assert (ttl, rest[:2]) == ("0", ["_v", "1" + version(1) + mapping.id])
    assert rest[2:pairs] == [b"id", 1, b"c", "v"]
    assert sorted(rest[pairs:]) == [b"a", b"b", b"old", b"x"]
    assert absent == 4


def test_only_a_template_over_other_columns_names_an_owner() -> None:
    row = event("c", 1, {"id": 7, "code": "x:y", "no": 2}, key={"id": 7, "code": "x:y"})
    for key, owner in [("{_key}", ""), ("k:{code}:{id}", ""), ("k:{no}", "7:x%3Ay"), ("{id}", "7:x%3Ay")]:
        mapping = compiled(f'shop.orders, key: "{key}", type: json')
        (write,) = mapping.operations(row)
        stamp = write.arguments[1]
        assert (stamp if isinstance(stamp, str) else stamp.decode()) == "1" + version(1) + mapping.id + owner


def test_a_wildcard_names_each_table_as_a_mapping_of_its_own_would() -> None:
    assert compiled("shop.*").id == compiled('shop.orders, key: "{_table}:{_key}"').id
    assert compiled("shop.*").id != compiled("shop.*", table="customers").id
    assert codes(compiled("shop.*").operations(event("c", 1, {"id": 1}))) == [("H", b"orders:1")]


def test_binary_key_columns_are_their_raw_bytes() -> None:
    row = event("c", 1, {"id": "AP8="}, types={"id": "binary"})
    assert codes(compiled(HASH).operations(row)) == [("H", b"order:\0\xff")]


def test_expected_is_what_a_write_would_leave() -> None:
    mapping = compiled(HASH + ", columns: {mask: [card]}")
    row = {"id": 1, "n": None, "card": "4711", "f": "0.1"}
    assert mapping.expected(row, {"f": "float"}, ("id",)) == Expected(
        b"order:1", "hash", {b"id": b"1", b"card": b"***", b"f": b"0.1"}
    )
    json = compiled(HASH + ", type: json").expected(row, {"f": "float"}, ("id",))
    assert json is not None
    assert json.content == b'{"id":1,"n":null,"card":"4711","f":0.1}'
    assert compiled(HASH + ', where: "id = 2"').expected(row, {}, ("id",)) is None
    text = compiled(HASH + ', type: string, value: "{n}"')
    assert text.expected(row, {}, ("id",)) is None, "NULL is an absent key"


def test_check_columns_says_what_does_not_fit() -> None:
    kinds = {"id": "int", "_v": "text", "doc": "json"}
    findings = compiled('shop.orders, key: "k:{no}", where: "doc = 1", ttl: "{gone}"').check_columns(kinds, ())
    assert len(findings) == 5
    for word in ("column no", "column gone", "no primary key", "json column", "start with _"):
        assert any(word in finding for finding in findings), (word, findings)
    assert compiled(HASH).check_columns({"id": "int"}, ("id",)) == []


@pytest.mark.parametrize(
    ("key", "companion"),
    [(b"a:1", b"p:{a:1}"), (b"{t}:1", b"p:{t}:1"), (b"{}x", b"p:{{}x}"), (b"a{b", b"p:{a{b}")],
)
def test_a_companion_shares_the_slot_of_its_key(key: bytes, companion: bytes) -> None:
    assert companion_key(b"p:", key) == companion


# Plans


def planner(*texts: str, tombstone: float = 3600.0) -> Planner:
    return Planner(mappings(*(texts or (HASH,))), tombstone=tombstone, max_value=1000)


def at_now(*args: Any, **more: Any) -> Any:
    return event(*args, ts_us=int(NOW * 1e6), **more)


def test_a_plan_keeps_order_and_bounds_its_calls() -> None:
    events = [at_now("c", number, {"id": number}) for number in range(1, 301)]
    events.insert(150, at_now("t", 150))
    plan = planner().plan([encode_job(events[:200]), encode_job(events[200:])], NOW)
    shapes = [len(step.operations) if isinstance(step, Apply) else "sweep" for step in plan.steps]
    assert shapes == [128, 22, "sweep", 128, 22]
    assert isinstance(plan.steps[2], Sweep)
    assert plan.mark == version(300)


def test_what_cannot_be_applied_is_set_apart_for_each_mapping() -> None:
    plan = planner(HASH, 'shop.orders, key: "by:{code}"').plan(
        [encode_job([at_now("c", 1, {"id": 1, "code": None})]), b"no job", b'{"op": "x", "format": 1}'], NOW
    )
    assert [row.error_class for row in plan.failures] == ["PermanentError"] * 3
    assert (plan.failures[0].key, plan.failures[0].stale) == ({"id": 1}, True)
    assert plan.failures[1].key != plan.failures[2].key, "two jobs that cannot be read are two rows"
    assert plan.mark == version(1)


def test_an_event_that_is_not_what_it_says_is_one_failed_row_not_a_crash() -> None:
    broken = [at_now("c", 1, {"id": 1}, types={"id": "zerofill", "x": 7}), at_now("u", 2, None, {"id": 2})]
    broken[0]["key"] = {"other": 1}
    plan = planner('shop.orders, key: "o:{_key}", type: json').plan([encode_job(broken)], NOW)
    assert len(plan.failures) == 2
    assert plan.steps == []


@pytest.mark.parametrize(("age", "applied"), [(1799, True), (1801, False)])
def test_half_the_life_of_a_tombstone_is_the_age_limit(age: int, applied: bool) -> None:
    old = event("u", 1, {"id": 1}, {"id": 1}, ts_us=int((NOW - age) * 1e6))
    plan = planner().plan([encode_job([old])], NOW)
    assert bool(plan.steps) is applied
    assert bool(plan.old) is not applied
    assert reread_request(old)["rows"] == [{"id": 1}, {"id": 1}]


def test_heartbeats_and_unmapped_tables_move_the_mark_only() -> None:
    beat = at_now("u", 9, {"pipeline": "t"}, source={"db": "syncbridge", "table": "heartbeat"})
    plan = planner().plan([encode_job([beat])], NOW)
    assert (plan.steps, plan.mark) == ([], version(9))


def test_results_of_a_call_are_told_to_their_events() -> None:
    plan = planner(HASH, 'shop.orders, key: "j:{id}", type: json').plan(
        [encode_job([at_now("c", 1, {"id": 1}), at_now("u", 2, {"id": 3}, {"id": 2})])], NOW
    )
    (step,) = plan.steps
    assert isinstance(step, Apply)
    record(plan, step, [1, 0, 1, b"WRONGTYPE Operation against a key", 0, 0])
    assert plan.outcomes == {
        ("shop.orders", "c", "applied"): 1, ("shop.orders", "c", "stale"): 1,
        ("shop.orders", "u", "failed"): 1, ("shop.orders", "u", "stale"): 1,
    }  # fmt: skip
    (failed,) = plan.failures
    assert (failed.error_class, orjson.loads(failed.payload)["version"]) == ("WRONGTYPE", version(2))


def test_a_value_over_the_limit_is_refused() -> None:
    mapping = CompiledMapping(compiled(HASH).config, "shop", "orders", max_value=10)
    with pytest.raises(PermanentError, match="12 bytes is over the limit of 10"):
        mapping.operations(event("c", 1, {"id": 1, "t": "éééééé", "z": None}), check_size=True)
    mapping.operations(event("c", 1, {"id": 1, "t": "ééééé", "z": None}), check_size=True)
