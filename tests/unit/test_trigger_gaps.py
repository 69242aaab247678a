"""Gaps against a plain set of ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncbridge.capture.trigger.gaps import Gaps, runs

PASSED = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), max_size=8)
IDS = st.sets(st.integers(1, 60))


def members(gaps: Gaps) -> set[int]:
    found = [number for gap in gaps for number in range(gap.first, gap.last + 1)]
    assert found == sorted(set(found)), "ascending, without overlap"
    return set(found)


@given(PASSED, IDS, IDS, st.integers(0, 9), st.integers(1, 60), st.integers(1, 60))
def test_what_is_filled_leaves_and_what_is_pending_stays(
    passed: list[tuple[int, int]], read: set[int], pending: set[int], oldest: int, first: int, last: int
) -> None:
    gaps, model, place = Gaps(), dict[int, int](), 0
    for now, (distance, length) in enumerate(passed):
        first = place + distance
        place = first + length - 1
        gaps.passed(first, place, now)
        model |= dict.fromkeys(range(first, place + 1), now)
    assert members(gaps) == model.keys()
    gaps.filled(sorted(read))
    model = {number: alive for number, alive in model.items() if number not in read}
    assert members(gaps) == model.keys()
    pending &= set(range(first, last + 1))
    gaps.renew(first, last, sorted(pending), 99, oldest)
    there = {number: alive for number, alive in model.items() if alive > oldest or not first <= number <= last}
    model = there | dict.fromkeys(pending, 99)
    assert {number: gap.alive for gap in gaps for number in range(gap.first, gap.last + 1)} == model
    assert members(gaps) == model.keys()


def test_runs() -> None:
    assert list(runs([3, 4, 5, 9, 11, 12])) == [(3, 5), (9, 9), (11, 12)]
    assert list(runs([])) == []
