"""How a table is cut into ranges, how large they are, and how fast they are read."""

from __future__ import annotations

from typing import Any

import pytest

from syncbridge.capture.schema import Column, TableSchema
from syncbridge.capture.snapshot.keyset import between
from syncbridge.capture.snapshot.rate import Rate
from syncbridge.capture.snapshot.scan import FIRST_ROWS, MAX_ROWS, TARGET_BYTES, ChunkSize, KeyChanged, TableScan

KEY = ("id",)


def of_rows(count: int) -> Any:
    """A boundary in a table with the keys 1 to `count`."""

    def boundary(behind: list[Any] | None, rows: int) -> list[Any] | None:
        last = (behind[0] if behind else 0) + rows
        return [last] if last <= count else None

    return boundary


def test_ranges_join_without_a_gap_to_the_end() -> None:
    scan = TableScan("d", "t", None)
    pieces = [scan.take(KEY, of_rows(2500)) for _ in range(4)]
    assert [(piece.place, piece.after, piece.until) for piece in pieces if piece] == [
        ((0, 0), None, [1000]), ((1, 0), [1000], [2000]), ((2, 0), [2000], None),
    ]  # fmt: skip
    assert pieces[3] is None
    assert scan.exhausted


def test_a_resumed_scan_begins_behind_its_key() -> None:
    piece = TableScan("d", "t", [70]).take(KEY, of_rows(100))
    assert piece is not None
    assert (piece.after, piece.until) == ([70], None)


def test_a_boundary_that_could_not_be_asked_for_takes_nothing() -> None:
    scan = TableScan("d", "t", None)

    def away(behind: list[Any] | None, rows: int) -> list[Any]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        scan.take(KEY, away)
    piece = scan.take(KEY, of_rows(5000))
    assert piece is not None
    assert piece.place == (0, 0)


@pytest.mark.parametrize("after", [None, [5]])
def test_another_key_than_before_is_noticed(after: list[Any] | None) -> None:
    scan = TableScan("d", "t", after)
    scan.take(KEY, of_rows(5000))
    scan.check(KEY)
    with pytest.raises(KeyChanged):
        scan.take(("a", "b"), of_rows(5000))
    with pytest.raises(KeyChanged):
        scan.check(("a",))
    if after:
        with pytest.raises(KeyChanged):  # told before a restart
            TableScan("d", "t", after).take(("a", "b"), of_rows(5000))


def test_a_table_that_is_gone_has_one_range() -> None:
    scan = TableScan("d", "t", [5])
    piece = scan.take(None, of_rows(5000))
    assert piece is not None
    assert piece.until is None
    assert scan.take(None, of_rows(5000)) is None


def test_a_chunk_grows_with_the_speed_of_the_source_up_to_its_bounds() -> None:
    size = ChunkSize()
    assert size.rows == FIRST_ROWS
    seen = []
    for _ in range(12):
        size.observe(size.rows, size.rows * 20, size.rows / 1e6)  # a million narrow rows per second
        seen.append(size.rows)
    assert seen == sorted(seen)
    assert seen[-1] == MAX_ROWS
    for _ in range(12):
        size.observe(size.rows, size.rows * 20, size.rows / 1000)  # a slow source
    assert 150 <= size.rows <= 250
    size.observe(size.rows, size.rows * 20, 60.0)
    assert size.rows >= 75  # one slow answer halves it at most


@pytest.mark.parametrize("width", [1, 200, 10_000, 2_000_000, 100_000_000])
def test_a_chunk_stays_within_its_bytes_whatever_rows_weigh(width: int) -> None:
    size = ChunkSize()
    for _ in range(20):
        size.observe(size.rows, size.rows * width, size.rows / 1e7)
    assert 1 <= size.rows <= MAX_ROWS
    assert size.rows * width <= max(TARGET_BYTES, width)
    size.observe(0, 0, 1.0)  # an empty range says nothing
    assert size.rows >= 1


def test_reading_waits_until_earlier_rows_are_paid_for() -> None:
    rate = Rate(1000)
    assert rate.wait(50.0) == 0
    rate.spend(500, 50.0)
    rate.spend(250, 50.1)  # somebody else's
    assert rate.wait(50.25) == pytest.approx(0.5)
    assert rate.wait(50.75) == 0
    rate.spend(1000, 60.0)  # idle time is not saved up
    assert rate.wait(60.0) == pytest.approx(1.0)
    unbounded = Rate(0)
    unbounded.spend(10**9, 1.0)
    assert unbounded.wait(1.0) == 0


def test_the_condition_of_a_range() -> None:
    schema = TableSchema("d", "t", (Column.parse("a", "int"), Column.parse("b%", "enum('x','y')")), ("a", "b%"))
    assert between(schema, ("a",), None, None) == ("", [])
    assert between(schema, ("a",), [1], None) == ("((`a` > %s))", [1])
    condition, arguments = between(schema, ("a", "b%"), [1, "x"], [3, "y"])
    assert condition == (
        "((`a` > %s) OR (`a` = %s AND CAST(`b%%` AS CHAR) > %s))"
        " AND ((`a` < %s) OR (`a` = %s AND CAST(`b%%` AS CHAR) <= %s))"
    )
    assert arguments == [1, 1, "x", 3, 3, "y"]
