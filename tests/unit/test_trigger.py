"""Trigger capture, the pure parts: where it starts, what its triggers are called, how values come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncbridge.capture.schema import Column, TableSchema
from syncbridge.capture.trigger.columns import literal, reader
from syncbridge.capture.trigger.render import prefix, table_triggers
from syncbridge.capture.trigger.start import OUTBOX, begin
from syncbridge.state import Checkpoint

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
