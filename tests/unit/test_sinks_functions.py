"""Mappings of plain functions without a Redis: what is read from jobs, and which operations follow."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from syncbridge.config import parse_config
from syncbridge.errors import PermanentError
from syncbridge.sinks.functions import Functions
from syncbridge.sinks.mapping import Operation
from syncbridge.sinks.objects import decode_objects, encode_object, row_of
from syncbridge.sinks.plan import Apply, Plan
from syncbridge.version import ZERO, parse

HASH = 'function: sync, key: "o:{id}"'
JSON = 'function: sync, key: "j:{id}", type: json'


def functions(*texts: str, sink: str = "") -> Functions:
    mappings = ", ".join("{" + text + "}" for text in texts)
    return Functions(parse_config(f'{{sink: {{url: "redis://h"{sink}}}, mappings: [{mappings}]}}', {"HOME": "/h"}))


def operations(plan: Plan) -> list[Operation]:
    return [operation for step in plan.steps if isinstance(step, Apply) for operation in step.operations]


def asked(text: str, *workloads: bytes) -> list[Operation]:
    plan = functions(text).plan("sync", workloads, 1.0)
    assert plan.failures == []
    return operations(plan)


# What is in a job


@pytest.mark.parametrize(
    ("workload", "row", "types"),
    [
        (b'{"id": 1, "s": "\xc3\xa9", "n": null}', {"id": 1, "s": "é", "n": None}, {}),
        (b'{"p": 9.90, "e": 1e-9, "d": -0.0}', {"p": "9.90", "e": "1e-9", "d": "-0.0"}, dict.fromkeys("ped", "float")),
        (b'{"a": NaN, "b": Infinity, "c": -Infinity}', {"a": None, "b": None, "c": None}, {}),
        (b'{"t": "a\tb\nc\x01\x00"}', {"t": "a\tb\nc\x01\x00"}, {}),
        (b'{"t": true, "f": false}', {"t": 1, "f": 0}, {"t": "bool", "f": "bool"}),
        (b'{"l": [1.50, {"x": null}]}', {"l": '[1.50,{"x":null}]'}, {"l": "json"}),
        (b'{"u": 18446744073709551615, "m": -9223372036854775808}', {"u": 2**64 - 1, "m": -(2**63)}, {}),
        (b'{"u": 18446744073709551616}', {"u": "18446744073709551616"}, {"u": "float"}),
        (b' {"a": 1, "a": 2}\r\n', {"a": 2}, {}),
        (b'{"s": "\\ud83d\\ude00"}', {"s": "😀"}, {}),
    ],
)
def test_what_triggers_and_udfs_write_is_read(workload: bytes, row: dict[str, Any], types: dict[str, str]) -> None:
    (element,) = decode_objects(workload)
    assert row_of(element) == (row, types)
    (again,) = decode_objects(encode_object(element))
    assert row_of(again) == (row, types), "the retry table keeps it as it was"


@pytest.mark.parametrize(
    "workload",
    [b"", b"{", b'{"a": 1} x', b"\xff", b'{"a": "\xe9"}', b'{"a": \'b\'}', b'{"a": "\\ud800"}', b"[" * 100_000,
     b'{"a": ' + b"9" * 5000 + b"}", b"a:1"],
)  # fmt: skip
def test_what_is_no_json_is_refused(workload: bytes) -> None:
    with pytest.raises(PermanentError, match=r"job is not (JSON|UTF-8)"):
        decode_objects(workload)


def test_what_is_nested_too_deep_is_one_failed_object() -> None:
    deep = b'{"id": 1, "x": ' + b"[" * 400 + b"]" * 400 + b"}"
    plan = functions(HASH).plan("sync", [b'[%b, {}, 7, {"id": 2}]' % deep], 1.0)
    assert [o.key for o in operations(plan)] == [b"o:2"]
    assert [decode_objects(row.payload) for row in plan.failures[1:]] == [[{}], [7]]
    assert plan.failures[0].payload == deep


# What follows from it


def test_members_become_fields_without_a_guard() -> None:
    (operation,) = asked(HASH, b'{"id": 7, "p": 9.90, "on": true, "n": null, "_op": "insert"}')
    assert operation == ("P", b"o:7", ["0", 6, 1, b"id", 7, b"p", "9.90", b"on", 1, b"n"])


def test_a_json_key_is_the_object_digit_by_digit() -> None:
    workload = b'{"id":7,"p":9.90,"on":true,"n":null,"l":[1.0,{"x":12345678901234567890123}]}'
    assert asked(JSON, workload) == [("V", b"j:7", ["0", workload])]


def test_columns_value_and_ttl() -> None:
    text = 'type: string, value: "{a}/{b}", columns: {mask: [b]}, ttl: 1h'
    assert asked(f'function: sync, key: "s:{{id}}", {text}', b'{"id":1,"a":2.50,"b":3}') == [
        ("V", b"s:1", ["3600000", b"2.50/***"])
    ]
    text = 'columns: {include: [id, _n], rename: {_n: number}}, ttl: "{until}"'
    for until, ttl in (('"2000-01-01 00:00:00.5"', None), ("60", "60000"), ("1.5", "1500"), ("null", "0"), (None, "0")):
        job = b'{"id":1,"_n":2,"x":3%b}' % (b"" if until is None else b',"until":%b' % until.encode())
        (operation,) = asked(f"{HASH}, {text}", job)
        if ttl is None:
            assert operation == ("p", b"o:1", []), "its time is over"
        else:
            assert operation.arguments[0] == ttl
            assert operation.arguments[3:7] == [b"id", 1, b"number", 2]


@pytest.mark.parametrize(
    ("delete_when", "on_delete", "workload", "expected"),
    [
        ("_op = 'delete'", "delete", b'{"id":1,"_op":"DELETE"}', ("p", b"o:1", [])),
        ("_op = 'delete'", "delete", b'{"id":1,"_op":"insert"}', ("P", b"o:1", ["0", 2, 0, b"id", 1])),
        ("_op = 'delete'", "delete", b'{"id":1}', ("P", b"o:1", ["0", 2, 0, b"id", 1])),
        ("deleted", "expire:1h", b'{"id":1,"deleted":true}', ("q", b"o:1", [3_600_000])),
        ("TRUE", "delete", b'{"id":1}', ("p", b"o:1", [])),
        ("gone_at IS NOT NULL", "keep", b'{"id":1,"gone_at":"now"}', None),
    ],
)
def test_a_delete_is_what_delete_when_says(
    delete_when: str, on_delete: str, workload: bytes, expected: tuple[str, bytes, list[Any]] | None
) -> None:
    text = f'{HASH}, delete_when: "{delete_when}", on_delete: "{on_delete}"'
    assert asked(text, workload) == ([] if expected is None else [expected])


def test_where_chooses_and_never_removes() -> None:
    orders = "function: sync, key: 'order:{id}', where: \"_table = 'orders'\", delete_when: \"_op = 'd'\""
    people = "function: sync, key: 'person:{id}', type: json, where: \"_table = 'people'\", delete_when: \"_op = 'd'\""
    jobs = [b'{"_table":"orders","id":1}', b'{"_table":"people","id":1}', b'{"_table":"people","id":1,"_op":"d"}',
            b'{"id":1,"_op":"d"}']  # fmt: skip
    plan = functions(orders, people).plan("sync", jobs, 1.0)
    assert [(o.code, o.key) for o in operations(plan)] == [("P", b"order:1"), ("V", b"person:1"), ("v", b"person:1")]
    assert plan.outcomes == {("function:sync", "c", "skipped"): 5}
    assert plan.failures == []


def test_one_bad_object_or_job_fails_alone() -> None:
    jobs = [b'[{"id":1},{"x":2},{"id":null,"x":3}]', b"no job", b'{"id":4}', b'{"id":{"a":1}}']
    plan = functions(HASH, sink=", max_value: 100B").plan("sync", [*jobs, b'{"id":5,"t":"%b"}' % (b"x" * 200)], 2.0)
    assert [o.key for o in operations(plan)] == [b"o:1", b"o:4", b'o:{"a":1}']
    rows = plan.failures
    assert {(row.db, row.table, row.place) for row in rows} == {("", "sync", "function:sync")}
    assert [row.payload for row in rows[:3]] == [b'{"x":2}', b'{"id":null,"x":3}', b"no job"]
    assert [list(row.key) for row in rows] == [["job"], ["job"], ["job"], ["id"]]
    assert rows[3].key == {"id": 5}
    versions = [row.version for row in rows]
    assert versions == sorted(set(versions)), "a later one is newer"
    assert parse(versions[0]).pos == 2_000_000
    assert [bool(row.mapping) for row in rows] == [True, True, False, True]


def test_a_failed_row_is_read_again_with_the_mappings_of_now() -> None:
    (row,) = functions('function: sync, key: "o:{nr}"').plan("sync", [b'{"id":1}'], 1.0).failures
    now = functions('function: sync, key: "o:{nr}", delete_when: "id = 1"')
    with pytest.raises(PermanentError, match="nr"):
        now.again(row)
    assert functions(HASH).again(row) == [], "that mapping is gone"
    (row,) = functions(HASH).plan("sync", [b"["], 1.0).failures
    with pytest.raises(PermanentError):
        functions(HASH).again(row)


def test_shapes_of_all_kinds_do_not_pile_up() -> None:
    (mapping,) = functions(HASH).of("sync")
    for number in range(1000):
        element = {"id": number, f"m{number}": None}
        (operation,) = mapping.operations(mapping.event(element, ZERO))
        assert operation.arguments[1:] == [2, 1, b"id", number, b"m%d" % number]
    assert len(mapping._shapes) <= 200
    assert orjson.loads(mapping.payload(mapping.event({"id": 1}, ZERO))) == {"id": 1}
