"""Lanes: every event in one job of its lane, in order, within the limits; and what durable answers set off."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from syncbridge.capture.changes import Shape, Transaction, event, row_events
from syncbridge.capture.lanes import MAX_EVENTS, Lanes, lane_of
from syncbridge.capture.oversize import Oversize
from syncbridge.capture.progress import Progress
from syncbridge.config import parse_config
from syncbridge.event import Event
from syncbridge.workload import decode_job


class RecordingQueue:
    """A LaneQueue that keeps what it is given."""

    def __init__(self) -> None:
        self.jobs: list[tuple[int, bytes]] = []

    def submit(self, lane: int, workload: bytes) -> int:
        self.jobs.append((lane, workload))
        return len(self.jobs)


def one(**more: Any) -> Event:
    return {"op": "c", "source": {"db": "d", "table": "t"}, "version": "0" * 40, "format": 1, **more}


def make(queue: Any, count: int, max_packet: int, refused: list[Any] | None = None) -> Lanes:
    def slim(event: Any) -> Any:
        return one(x=event["x"]) if "before" in event else event

    kept = [] if refused is None else refused
    return Lanes(queue, count, max_packet, slim=slim, refuse=lambda event, _size: kept.append(event))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200_000)), max_size=300))
def test_events_leave_in_order_and_within_the_limits(added: list[tuple[int, int]]) -> None:
    queue: Any = RecordingQueue()
    lanes = make(queue, 4, 64 * 2**20)
    expected: dict[int, list[int]] = defaultdict(list)
    for number, (lane, size) in enumerate(added):
        lanes.add(lane, one(n=number), size)
        expected[lane].append(number)
    assert lanes.flush() == len(queue.jobs)
    got: dict[int, list[int]] = defaultdict(list)
    for lane, workload in queue.jobs:
        events = decode_job(workload)
        assert 0 < len(events) <= MAX_EVENTS
        got[lane] += [event["n"] for event in events]
    assert got == expected


def test_a_job_too_large_for_the_queue_is_cut_and_a_row_too_large_is_set_aside() -> None:
    queue: Any = RecordingQueue()
    refused: list[Any] = []
    lanes = make(queue, 1, 2048, refused)
    for _ in range(4):
        lanes.add(0, one(x="a" * 350), 1)
    lanes.flush()
    assert [len(decode_job(workload)) for _, workload in queue.jobs] == [2, 2]
    lanes.add(0, one(x="a" * 4000, before="b" * 4000), 1)
    lanes.add(0, one(x="a", before="b" * 4000), 1)
    lanes.flush()
    assert [event["x"] for event in refused] == ["a" * 4000]
    assert decode_job(queue.jobs[-1][1]) == [one(x="a")]


COLUMNS = ("id", "part", "name")
KEYS = (("id",), ("name",), ("part", "id"))
ROWS = st.tuples(st.integers(0, 3) | st.integers(-(2**40), 2**40), st.integers(0, 2), st.text(max_size=3))
CHANGES = st.one_of(
    st.tuples(st.sampled_from("cd"), st.lists(ROWS, min_size=1, max_size=30)),
    st.tuples(st.just("u"), st.lists(st.tuples(ROWS, ROWS), min_size=1, max_size=8)),
    st.tuples(st.just("r"), st.lists(ROWS, min_size=1, max_size=700)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), CHANGES), max_size=12), st.sampled_from([1500, 10**6]))
def test_blocks_of_rows_say_what_the_same_rows_say_as_events(changes: list[Any], max_packet: int) -> None:
    """Rows of three tables in some transactions, against a plain model: one event after the other to its lane."""
    queue: Any = RecordingQueue()
    refused: list[Event] = []
    lanes = make(queue, 4, max_packet, refused)
    shapes = [Shape("d", f"t{n}", key, {"part": "year"}, ("old",) * n, COLUMNS) for n, key in enumerate(KEYS)]
    model: dict[int, list[Event]] = defaultdict(list)
    number, transaction, twin = 0, begin(0), begin(0)
    for table, begins, (op, rows) in changes:
        if begins:
            number += 1
            transaction, twin = begin(number), begin(number)
        shape = shapes[table]
        expected: list[Event] = []
        if op == "r":
            lanes.add_reads(transaction, shape, 7, rows, 99, 40)
            images = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
            expected += [event(twin, shape, "r", shape.key_of(row), None, row, 99, twin.version(7)) for row in images]
        else:
            lanes.add_rows(transaction, shape, op, rows, 99, 40)
            for row in rows:
                sides = [dict(zip(COLUMNS, image, strict=True)) for image in (row if op == "u" else [row])]
                before = None if op == "c" else sides[0]
                after = None if op == "d" else sides[-1]
                expected += row_events(twin, shape, op, before, after, 99)
        for change in expected:
            key = list(change["key"].values())
            model[lane_of("d", shape.table, key, 4)].append(change | ({"gone": ["old"] * table} if table else {}))
    lanes.flush()
    got: dict[int, list[Event]] = defaultdict(list)
    for lane, workload in queue.jobs:
        events = decode_job(workload)
        assert 0 < len(events) <= MAX_EVENTS
        assert len(workload) <= max_packet - 1024
        got[lane] += events
    assert got == model
    assert not refused
    assert transaction.rows == twin.rows


def begin(number: int) -> Transaction:
    return Transaction(
        pipeline="p", epoch=1, server_id=5, gtid=f"0-1-{number}", file="b.000003", file_number=3, pos=number, ts_us=7
    )


def test_a_row_keeps_its_lane_whatever_its_columns_are_called() -> None:
    assert lane_of("shop", "orders", [42], 8) == lane_of("shop", "orders", [42], 8)
    assert len({lane_of("shop", "orders", [n], 8) for n in range(1000)}) == 8


def test_actions_run_once_in_order_when_the_queue_accepted_so_far() -> None:
    progress, seen = Progress(), []
    for number in (1, 1, 3):
        progress.when_accepted(number, lambda number=number: seen.append(number))
    progress.accepted(0)
    assert seen == []
    progress.accepted(2)
    assert seen == [1, 1]
    progress.accepted(3)
    progress.accepted(3)
    assert seen == [1, 1, 3]


def test_an_update_sheds_what_no_mapping_looks_at() -> None:
    config = parse_config(
        """
        source: {url: "mysql://u@h"}
        sink: {url: "redis://h"}
        mappings: [{table: d.t, key: "t:{code}", where: "state > 1"}]
        """,
        {"HOME": "/"},
    )
    event = {
        "op": "u",
        "source": {"db": "d", "table": "t"},
        "key": {"id": 1},
        "before": {"id": 1, "code": "x", "state": 2, "text": "long"},
        "after": {"id": 1, "code": "y", "state": 2, "text": "long"},
    }
    slim = Oversize(config, None).slim(event)  # type: ignore[arg-type]
    assert slim["before"] == {"id": 1, "code": "x", "state": 2}
    assert slim["after"] == event["after"]
    assert Oversize(config, None).slim(slim) is slim  # type: ignore[arg-type]
