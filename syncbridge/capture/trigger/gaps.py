"""Ids that reading has passed and that may still appear: a transaction takes an id long before it commits. Pure.

What is not among them will not appear: it was read, or taken back by a rollback (Outbox.look_behind tells which).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Gap(NamedTuple):
    """Consecutive ids, from `first` to `last`."""

    first: int
    last: int
    #: When somebody could last have been about to use them: passed then, or seen uncommitted.
    alive: float


class Gaps:
    """Ascending, without overlap."""

    def __init__(self) -> None:
        self._gaps: list[Gap] = []

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    def __len__(self) -> int:
        return len(self._gaps)

    def passed(self, first: int, last: int, now: float) -> None:
        """These ids, higher than all before, were not there."""
        self._gaps.append(Gap(first, last, now))

    def filled(self, ids: Sequence[int]) -> None:
        """These, ascending, are there now."""
        if ids and self._gaps and ids[0] <= self._gaps[-1].last:
            self._gaps = list(_without(self._gaps, ids))

    def renew(self, first: int, last: int, pending: Sequence[int], alive: float, oldest: float) -> None:
        """`pending`: the ids from `first` to `last`, ascending, that are in the table unread, committed or not.

        As of `alive`. Other gaps between go where they have not been alive since `oldest`: they were taken back.
        """
        kept: list[Gap] = []
        for gap in _without(self._gaps, pending):
            if gap.alive > oldest or gap.last < first or gap.first > last:
                kept.append(gap)
                continue
            if gap.first < first:
                kept.append(gap._replace(last=first - 1))
            if gap.last > last:
                kept.append(gap._replace(first=last + 1))
        self._gaps = sorted([*kept, *(Gap(start, end, alive) for start, end in runs(pending))])


def _without(gaps: Sequence[Gap], ids: Sequence[int]) -> Iterator[Gap]:
    place = 0
    for first, last, alive in gaps:
        start = first
        while place < len(ids) and ids[place] <= last:
            if ids[place] > start:
                yield Gap(start, ids[place] - 1, alive)
            start = max(start, ids[place] + 1)
            place += 1
        if start <= last:
            yield Gap(start, last, alive)


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of consecutive numbers among ascending ones."""
    start = 0
    for place, number in enumerate(numbers, 1):
        if place == len(numbers) or numbers[place] != number + 1:
            yield numbers[start], number
            start = place
