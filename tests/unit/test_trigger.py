"""Trigger capture, the pure parts: where it starts, what its triggers are called, how values come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from syncbridge.capture.changes import Shape
from syncbridge.capture.schema import Column, TableSchema
from syncbridge.capture.trigger.columns import literal, reader
from syncbridge.capture.trigger.intake import Intake
from syncbridge.capture.trigger.render import prefix, table_triggers
from syncbridge.capture.trigger.reported import Reported, heartbeat_hint, parse_hint
from syncbridge.capture.trigger.shapes import TableShape
from syncbridge.capture.trigger.start import OUTBOX, PLACES, begin
from syncbridge.errors import PermanentError
from syncbridge.state import Checkpoint, State

KNOWN = Checkpoint(epoch=4, server="a", file=OUTBOX, pos=70, file_created=9, gtid_set="", queue_id="q", lanes=8)


def test_it_goes_on_where_everything_is_as_it_was() -> None:
    start = begin(KNOWN, "a", "q", 4, 9)
    assert (start.epoch, start.last, start.snapshot) == (4, 70, "")


@pytest.mark.parametrize(
    ("checkpoint", "facts", "reason"),
    [
        (None, ("a", "q", 0, 9), "initial"),
        (None, ("a", "q", 3, 9), "state was lost"),
        (replace(KNOWN, file="bin.000003"), ("a", "q", 4, 9), "from the binlog"),
        (replace(KNOWN, file=PLACES["udf"]), ("a", "q", 4, 9), "over another transport"),
        (KNOWN, ("b", "q", 4, 9), "another server"),
        (KNOWN, ("a", "q", 6, 9), "older than what Redis shows"),
        (KNOWN, ("a", "other", 4, 9), "queue was lost"),
        (KNOWN, ("a", "q", 4, 10), "emptied"),
    ],
)
def test_whatever_cannot_go_on_reads_every_table_under_a_higher_epoch(
    checkpoint: Checkpoint | None, facts: tuple[str, str, int, int], reason: str
) -> None:
    start = begin(checkpoint, *facts)
    assert reason in start.snapshot
    assert start.initial == (reason == "initial")
    assert start.last == 0
    assert start.epoch > max(facts[2], checkpoint.epoch if checkpoint else 0)


def table(*columns: Column) -> TableSchema:
    return TableSchema("shop", "odd`name", columns, ("id",))


def test_names_tell_whether_a_trigger_is_of_today() -> None:
    one = table_triggers("shop", table(Column.parse("id", "int")), ("id",), mariadb=True)
    other = table_triggers("shop", table(Column.parse("id", "int"), Column.parse("v", "int")), ("id",), mariadb=True)
    assert [trigger.place for trigger in one] == [trigger.place for trigger in other]
    assert not {trigger.name for trigger in one} & {trigger.name for trigger in other}
    for trigger in one + other:
        assert trigger.name.startswith(prefix("shop"))
        assert len(trigger.name) <= 64
        assert "`shop`.`odd``name`" in trigger.statement


def test_a_literal_needs_no_escaping() -> None:
    assert literal("a'\\ü") == "_utf8mb4 0x61275cc3bc"
    assert literal("") == "''"


def test_values_come_back_as_events_carry_them() -> None:
    read = reader(
        table(
            Column.parse("at", "timestamp(3)"),
            Column.parse("never", "timestamp"),
            Column.parse("raw", "blob"),
            Column.parse("f", "float"),
            Column.parse("n", "int"),
        )
    )
    row = read('{"at": "1774740600.123", "never": "0", "raw": "AAEC\\nAwQ=", "f": 1e14, "n": null, "gone": 5}')
    assert row == {
        "at": "2026-03-28 23:30:00.123", "never": "0000-00-00 00:00:00", "raw": "AAECAwQ=", "f": "100000000000000",
        "n": None,
    }  # fmt: skip


def test_a_job_of_a_trigger_is_read_as_it_was_written() -> None:
    job = {"us": 7, "op": "u", "db": "shop", "name": "t", "old_key": {"id": 1}, "new_key": {"id": 2},
           "old_row": {"id": 1, "v": "x"}, "new_row": None}  # fmt: skip
    one = parse_hint(orjson.dumps(job))
    assert one[1:] == (7, "u", "shop", "t", {"id": 1}, {"id": 2}, {"id": 1, "v": "x"}, None)
    beat = parse_hint(heartbeat_hint(42, 9).encode())
    assert (beat.op, beat.new_key, beat.written_us) == ("h", "42", 9)


@pytest.mark.parametrize(
    "workload",
    [
        b"", b"hello", b"[]", b"{}", b'"c"', b"\xff\x00", b'{"us": 1, "op": "h"}',
        b'{"us": 1, "op": "h", "new_key": "x"}',
        b'{"us": 1, "op": "c", "db": "a", "name": "b"}', b'{"us": 1, "op": "x", "db": "a", "name": "b", "new_key": {}}',
        b'{"us": 1, "op": "c", "db": "a", "name": "b", "new_key": "id"}',
        b'{"us": "?", "op": "c", "db": "a", "name": "b", "new_key": {"id": 1}}',
        b'{"us": 1, "op": ["c"], "db": "a", "name": "b", "new_key": {"id": 1}}',
    ],
)  # fmt: skip
def test_anybody_elses_job_is_told_apart(workload: bytes) -> None:
    with pytest.raises(PermanentError, match="not a job of our triggers"):
        parse_hint(workload)


def test_a_change_too_large_for_json_is_read_even_while_the_row_is_being_read_for_an_older_one(tmp_path: Path) -> None:
    """What is being read may be the row of before: the change must not be taken for what was asked for already."""
    schema = table(Column.parse("id", "int"), Column.parse("v", "longtext"))
    nothing: Any = SimpleNamespace(captured=lambda *_: None)  # neither change becomes an event
    state = State.open(f"sqlite:///{tmp_path}/state.db", "shop")
    intake = Intake("shop", 1, state, nothing)
    shape = Shape(schema.db, schema.table, ("id",), schema.types())
    intake.shapes[(schema.db, schema.table)] = TableShape(schema, shape, reader(schema), frozenset())
    made = Reported(0, 0, "c", schema.db, schema.table, None, '{"id":1}', None, None)
    changed = Reported(0, 0, "u", schema.db, schema.table, '{"id":1}', '{"id":1}', None, None)
    for number, change in ((7, made), (8, changed), (8, changed)):  # the last one is read twice: asked for already
        intake.begin(1, number, 0)
        intake.trust(change)
    assert [request.payload["key"] for request in state.requests.pending()] == [{"id": 1}, {"id": 1}]
    state.close()
