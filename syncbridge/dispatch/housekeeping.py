"""Housekeeping: dead letters and results whose time is over leave the store, a page at a time."""

from __future__ import annotations

from math import inf

from syncbridge.dispatch.batch import Batches
from syncbridge.dispatch.endings import Endings
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.lanes import is_lane
from syncbridge.dispatch.reading import Read, Reading
from syncbridge.dispatch.schedule import Place
from syncbridge.dispatch.store import DEAD, JobKey

#: How often it looks, seconds; and when nothing is known to be kept, since an earlier process may have left something.
_INTERVAL = 60.0
_BLIND_INTERVAL = 3600.0
#: Dead letters per read.
_PAGE = 512


class Housekeeping:
    """tick() as often as you like."""

    __slots__ = ("_at", "_batches", "_blind_at", "_busy", "_endings", "_holdings", "_reading")

    def __init__(self, holdings: Holdings, batches: Batches, endings: Endings, reading: Reading) -> None:
        self._holdings = holdings
        self._batches = batches
        self._endings = endings
        self._reading = reading
        self._at = 0.0
        self._blind_at = 0.0
        #: Pages of dead letters are being read.
        self._busy = False

    def tick(self, now: float) -> float | None:
        """Do what is due; returns when to come again, None: nothing is kept."""
        if now >= self._blind_at:
            self._blind_at = now + _BLIND_INTERVAL
            self._at = now
        elif not self._kept:
            return None
        if now >= self._at:
            self._at = now + _INTERVAL
            self._expire_results()
            if self._holdings.dead and not self._busy:
                self._read((0, 0))
        return self._at if self._kept else None

    @property
    def _kept(self) -> bool:
        return bool(self._holdings.dead or self._endings.results_until)

    def _expire_results(self) -> None:
        clock = max(self._holdings.clock(), 1)
        self._batches.gathering.changes.expire_results = clock
        if clock > self._endings.results_until:
            self._endings.results_until = 0

    def _read(self, after: Place) -> None:
        self._busy = True
        self._reading.wanted.append(
            Read(lambda store: store.by_due(DEAD, after=after, limit=_PAGE), self._page, lambda error: self._done())
        )

    def _done(self) -> None:
        self._busy = False

    def _page(self, records: list[JobRecord]) -> None:
        """Oldest first."""
        self._busy = False
        holdings = self._holdings
        clock, removes = holdings.clock(), self._batches.gathering.changes.removes
        for record in records:
            if self._batches.outdated(record.id, record.function, DEAD):
                continue
            function = holdings.functions.get(record.function)
            policy = function.policy if function is not None else holdings.policies.of(record.function)
            too_many = holdings.dead > holdings.limits.max_dead and not is_lane(record.function)
            if record.due + policy.keep_dead * 1e6 <= clock or too_many:
                removes[record.id] = JobKey(record.function, record.priority, record.size, DEAD)
                holdings.dead -= 1
        policies = holdings.policies
        shortest = min(policies.default.keep_dead, *(policy.keep_dead for _, policy in policies.by_pattern), inf)
        if len(records) == _PAGE and (
            records[-1].due + shortest * 1e6 <= clock or holdings.dead > holdings.limits.max_dead
        ):
            self._read((records[-1].due, records[-1].id))
