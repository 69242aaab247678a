"""A store that survives nothing: for tests, and for queues whose owner wants speed rather than durability."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterator

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import READY, Changes, Promise, Result, StoredBacklog


class MemoryStore:
    """JobStore in dicts. window() and find() walk over what they search, so give the core a window it never leaves."""

    promise = Promise.MEMORY

    def __init__(self) -> None:
        self.queue_id = secrets.token_hex(16)
        self.next_id = 1
        self._jobs: defaultdict[tuple[bytes, int], dict[int, JobRecord]] = defaultdict(dict)

    def commit(self, changes: Changes) -> None:
        for record in changes.adds:
            self._jobs[record.function, record.priority][record.id] = record
        for number, (old, function, attempts, *_) in changes.moves.items():
            record = self._jobs[old.function, old.priority].pop(number)
            self._jobs[function, old.priority][number] = record._replace(function=function, attempts=attempts)
        for number, (key, attempts) in changes.attempts.items():
            jobs = self._jobs[key.function, key.priority]
            jobs[number] = jobs[number]._replace(attempts=attempts)
        for number, key in changes.removes.items():
            del self._jobs[key.function, key.priority][number]
        self.next_id = max(self.next_id, changes.reserve)

    def backlogs(self) -> list[StoredBacklog]:
        return [
            StoredBacklog(function, priority, len(jobs), sum(record.size for record in jobs.values()), max(jobs))
            for (function, priority), jobs in self._jobs.items()
            if jobs
        ]

    def window(
        self, function: bytes, priority: int, *, after: int, through: int, limit: int, inline: int, state: int = READY
    ) -> list[JobRecord]:
        jobs = self._jobs[function, priority]
        numbers = sorted(number for number in list(jobs) if after < number <= through)[:limit]
        return [jobs[n] if jobs[n].size <= inline else jobs[n]._replace(payload=None) for n in numbers]

    def payload(self, function: bytes, priority: int, number: int, state: int = READY) -> bytes | None:
        record = self._jobs[function, priority].get(number)
        return record.payload if record else None

    def joinable(self, function: bytes, key: bytes) -> JobRecord | None:
        return self._newest(r for r in self._records() if r.function == function and r.join_key == key)

    def find(self, number: int) -> JobRecord | None:
        return self._newest(r for r in self._records() if r.id == number)

    def by_due(self, state: int, *, after: tuple[int, int], limit: int) -> list[JobRecord]:
        return []

    def result(self, number: int) -> Result | None:
        return None

    def settings(self) -> dict[bytes, bytes]:
        return {}

    def close(self) -> None:
        pass

    def _records(self) -> Iterator[JobRecord]:
        return (record for jobs in list(self._jobs.values()) for record in list(jobs.values()))

    @staticmethod
    def _newest(records: Iterator[JobRecord]) -> JobRecord | None:
        record = max(records, default=None)
        return record._replace(payload=None) if record else None
