"""A store that survives nothing: for queues whose owner wants speed rather than durability, and for tests."""

from __future__ import annotations

import secrets
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from threading import Lock
from typing import Any

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import DEAD, READY, SCHEDULED, Changes, JobKey, Promise, Result, StoredBacklog

#: Below this many dead entries an order is not cleaned up.
_MIN_GARBAGE = 64
_Place = tuple[bytes, int, int]


class MemoryStore:
    """JobStore in dicts. No method walks over more than it returns, give or take what was removed lately."""

    promise = Promise.MEMORY
    sync_seconds = 0.0

    def __init__(self) -> None:
        self.queue_id = secrets.token_hex(16)
        self.next_id = 1
        self._lock = Lock()
        self._jobs: dict[int, JobRecord] = {}
        self._places: defaultdict[_Place, _Order] = defaultdict(_Order)
        #: (due, id) of the jobs in these states.
        self._due = {SCHEDULED: _Order(), DEAD: _Order()}
        #: Ids of the READY and SCHEDULED jobs with this join key, by (function, key).
        self._joins: defaultdict[tuple[bytes, bytes], set[int]] = defaultdict(set)
        self._results: dict[int, Result] = {}
        self._expiries: list[tuple[int, int]] = []
        self._settings: dict[bytes, bytes] = {}

    def commit(self, changes: Changes) -> None:
        changes.unroll()
        jobs = self._jobs
        with self._lock:
            for record in changes.adds:
                if record.id not in jobs:
                    self._put(record)
            for number, move in changes.moves.items():
                taken = self._take(number, move.old)
                if taken is not None:
                    _, function, attempts, state, due, note = move
                    self._put(taken._replace(function=function, attempts=attempts, state=state, due=due, note=note))
            for number, (key, attempts) in changes.attempts.items():
                found = jobs.get(number)
                if found is not None and _place(found) == _place_of(key):
                    jobs[number] = found._replace(attempts=attempts)
            for number, key in changes.removes.items():
                self._take(number, key)
            if changes.results or changes.expire_results:
                self._keep_results(changes.results, changes.expire_results)
            for name, value in changes.settings.items():
                if value is None:
                    self._settings.pop(name, None)
                else:
                    self._settings[name] = value
            self.next_id = max(self.next_id, changes.reserve)

    def _put(self, record: JobRecord) -> None:
        self._jobs[record.id] = record
        place = self._places[record.function, record.priority, record.state]
        place.add(record.id)
        place.bytes += record.size
        if record.state != READY:
            self._due[record.state].add((record.due, record.id))
        if record.join_key is not None and record.state != DEAD:
            self._joins[record.function, record.join_key].add(record.id)

    def _take(self, number: int, key: JobKey) -> JobRecord | None:
        """Out of its place; None when it is not there (any more)."""
        function, priority, _, state = key
        record = self._jobs.get(number)
        if record is None or record[1] != function or record[2] != priority or record[10] != state:
            return None
        del self._jobs[number]
        place_key = function, priority, state
        place = self._places[place_key]
        place.count -= 1
        place.bytes -= record.size
        if not place.count:
            del self._places[place_key]
        elif place.crowded:
            place.sweep(self._in_place(place_key))
        if state != READY:
            due = self._due[state]
            due.count -= 1
            if due.crowded:
                due.sweep(self._is_due(state))
        if record.join_key is not None and state != DEAD:
            joined = self._joins[function, record.join_key]
            joined.discard(number)
            if not joined:
                del self._joins[function, record.join_key]
        return record

    def _keep_results(self, results: list[Result], now: int) -> None:
        for result in results:
            self._results[result.id] = result
            heappush(self._expiries, (result.expires, result.id))
        while self._expiries and self._expiries[0][0] <= now:
            expires, number = heappop(self._expiries)
            kept = self._results.get(number)
            if kept is not None and kept.expires == expires:
                del self._results[number]

    # -- reading -------------------------------------------------------------------------------------------------

    def backlogs(self) -> list[StoredBacklog]:
        with self._lock:
            return [
                StoredBacklog(function, priority, place.count, place.bytes, place.last(self._in_place(key)), state)
                for key, place in self._places.items()
                for function, priority, state in [key]
            ]

    def window(
        self, function: bytes, priority: int, *, after: int, through: int, limit: int, inline: int, state: int = READY
    ) -> list[JobRecord]:
        key = function, priority, state
        found: list[JobRecord] = []
        with self._lock:
            place = self._places.get(key)
            for number in place.after(after, self._in_place(key)) if place and limit > 0 else ():
                if number > through:
                    break
                record = self._jobs[number]
                found.append(record if record.size <= inline else record._replace(payload=None))
                if len(found) == limit:
                    break
        return found

    def by_due(self, state: int, *, after: tuple[int, int], limit: int) -> list[JobRecord]:
        found: list[JobRecord] = []
        with self._lock:
            for _, number in self._due[state].after(after, self._is_due(state)) if limit > 0 else ():
                found.append(self._jobs[number]._replace(payload=None))
                if len(found) == limit:
                    break
        return found

    def payload(self, function: bytes, priority: int, number: int, state: int = READY) -> bytes | None:
        record = self._jobs.get(number)
        return record.payload if record is not None and _place(record) == (function, priority, state) else None

    def joinable(self, function: bytes, keys: Sequence[bytes]) -> dict[bytes, JobRecord]:
        with self._lock:
            found = {key: numbers for key in keys if (numbers := self._joins.get((function, key)))}
            return {key: self._jobs[max(numbers)]._replace(payload=None) for key, numbers in found.items()}

    def find(self, number: int) -> JobRecord | None:
        record = self._jobs.get(number)
        return record._replace(payload=None) if record is not None else None

    def result(self, number: int) -> Result | None:
        return self._results.get(number)

    def settings(self) -> dict[bytes, bytes]:
        return dict(self._settings)

    def close(self) -> None:
        pass

    def _in_place(self, place: _Place) -> Callable[[int], bool]:
        jobs = self._jobs

        def alive(number: int) -> bool:
            record = jobs.get(number)
            return record is not None and _place(record) == place

        return alive

    def _is_due(self, state: int) -> Callable[[tuple[int, int]], bool]:
        jobs = self._jobs

        def alive(entry: tuple[int, int]) -> bool:
            record = jobs.get(entry[1])
            return record is not None and record.state == state and record.due == entry[0]

        return alive


class _Order:
    """Ascending entries; `count` of them are alive. The dead ones stay until they are the most: removing is cheap."""

    __slots__ = ("bytes", "count", "entries")

    def __init__(self) -> None:
        self.count = 0
        #: Payload bytes, of a place.
        self.bytes = 0
        self.entries: list[Any] = []

    def add(self, entry: Any) -> None:
        self.count += 1
        entries = self.entries
        if not entries or entries[-1] < entry:
            entries.append(entry)
            return
        at = bisect_left(entries, entry)
        if entries[at] != entry:  # else it was here before and its dead entry lives again
            insort(entries, entry, lo=at)

    @property
    def crowded(self) -> bool:
        """Most entries are dead."""
        return len(self.entries) > 2 * self.count + _MIN_GARBAGE

    def sweep(self, alive: Callable[[Any], bool]) -> None:
        self.entries = [entry for entry in self.entries if alive(entry)]

    def after(self, entry: Any, alive: Callable[[Any], bool]) -> Iterator[Any]:
        entries = self.entries
        return (entries[at] for at in range(bisect_right(entries, entry), len(entries)) if alive(entries[at]))

    def last(self, alive: Callable[[Any], bool]) -> Any:
        return next(entry for entry in reversed(self.entries) if alive(entry))


def _place(record: JobRecord) -> _Place:
    return record.function, record.priority, record.state


def _place_of(key: JobKey) -> _Place:
    return key.function, key.priority, key.state
