"""Lanes: every event in one job of its lane, in order, within the limits; and what durable answers set off."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from syncbridge.capture.lanes import MAX_EVENTS, Lanes, lane_of
from syncbridge.capture.oversize import Oversize
from syncbridge.capture.progress import Progress
from syncbridge.config import parse_config


class RecordingQueue:
    """A LaneQueue that keeps what it is given."""

    def __init__(self) -> None:
        self.jobs: list[tuple[int, bytes]] = []

    def submit(self, lane: int, workload: bytes) -> int:
        self.jobs.append((lane, workload))
        return len(self.jobs)


def make(queue: Any, count: int, max_packet: int, refused: list[Any] | None = None) -> Lanes:
    def slim(event: Any) -> Any:
        return {"x": event["x"]} if "before" in event else event

    kept = [] if refused is None else refused
    return Lanes(queue, count, max_packet, slim=slim, refuse=lambda event, _size: kept.append(event))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200_000)), max_size=300))
def test_events_leave_in_order_and_within_the_limits(added: list[tuple[int, int]]) -> None:
    queue: Any = RecordingQueue()
    lanes = make(queue, 4, 64 * 2**20)
    expected: dict[int, list[int]] = defaultdict(list)
    for number, (lane, size) in enumerate(added):
        lanes.add(lane, {"n": number}, size)
        expected[lane].append(number)
    assert lanes.flush() == len(queue.jobs)
    got: dict[int, list[int]] = defaultdict(list)
    for lane, workload in queue.jobs:
        events = orjson.loads(workload)
        assert 0 < len(events) <= MAX_EVENTS
        got[lane] += [event["n"] for event in events]
    assert got == expected


def test_a_job_too_large_for_the_queue_is_cut_and_a_row_too_large_is_set_aside() -> None:
    queue: Any = RecordingQueue()
    refused: list[Any] = []
    lanes = make(queue, 1, 2048, refused)
    for _ in range(4):
        lanes.add(0, {"x": "a" * 400}, 1)
    lanes.flush()
    assert [len(orjson.loads(workload)) for _, workload in queue.jobs] == [2, 2]
    lanes.add(0, {"x": "a" * 4000, "before": "b" * 4000}, 1)
    lanes.add(0, {"x": "a", "before": "b" * 4000}, 1)
    lanes.flush()
    assert [event["x"] for event in refused] == ["a" * 4000]
    assert orjson.loads(queue.jobs[-1][1]) == [{"x": "a"}]


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
