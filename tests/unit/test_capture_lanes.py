"""Lanes: every event in one job of its lane, in order, within the limits; and what durable answers set off."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge.capture.lanes import MAX_EVENTS, Lanes, lane_of
from syncbridge.capture.progress import Progress
from syncbridge.errors import PermanentError


class RecordingQueue:
    """A LaneQueue that keeps what it is given."""

    def __init__(self) -> None:
        self.jobs: list[tuple[int, bytes]] = []

    def submit(self, lane: int, workload: bytes) -> int:
        self.jobs.append((lane, workload))
        return len(self.jobs)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200_000)), max_size=300))
def test_events_leave_in_order_and_within_the_limits(added: list[tuple[int, int]]) -> None:
    queue: Any = RecordingQueue()
    lanes = Lanes(queue, 4, 64 * 2**20)
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


def test_a_job_too_large_for_the_queue_is_cut_and_a_row_too_large_stops_capture() -> None:
    queue: Any = RecordingQueue()
    lanes = Lanes(queue, 1, 2048)
    for _ in range(4):
        lanes.add(0, {"x": "a" * 400}, 1)
    lanes.flush()
    assert [len(orjson.loads(workload)) for _, workload in queue.jobs] == [2, 2]
    lanes.add(0, {"source": {"db": "d", "table": "t"}, "x": "a" * 4000}, 1)
    with pytest.raises(PermanentError, match=r"a row of d\.t"):
        lanes.flush()


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
