"""The inspector: what people and monitors see of a running server, and what they may do to its jobs.

It joins what memory knows with what the store holds. Every answer about stored jobs comes from a read that the core
checked against later changes. Whatever it does has reached the store when it returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import TYPE_CHECKING, Final, TypeVar

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.function import Function
from syncbridge.dispatch.job import Job, JobRecord
from syncbridge.dispatch.lanes import is_lane
from syncbridge.dispatch.store import DEAD, READY, SCHEDULED, UNREADABLE, JobStore, Result
from syncbridge.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from syncbridge.dispatch.server import JobServer

QUEUED: Final = "queued"
RUNNING: Final = "running"
_SCHEDULED: Final = "scheduled"
_DEAD: Final = "dead"
#: Where the rows lie whose jobs may be in this state. One that is due keeps its row for a while, see schedule.py.
_ROWS: Final = {QUEUED: (READY, SCHEDULED), RUNNING: (READY, SCHEDULED), _SCHEDULED: (SCHEDULED,), _DEAD: (DEAD,)}
_NAMES: Final = {READY: QUEUED, SCHEDULED: _SCHEDULED, DEAD: _DEAD}
_OUTCOMES: Final = {p.WORK_COMPLETE: "completed", p.WORK_FAIL: "failed", p.WORK_EXCEPTION: "exception"}
#: Places of which jobs are listed together.
_MAX_PLACES = 1000
#: Rows looked at in one read of a purge.
_PAGE = 1000
_LAST = 2**62

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class FunctionView:
    """One function; jobs are counted."""

    name: bytes
    high: int
    normal: int
    low: int
    running: int
    scheduled: int
    dead: int
    workers: int
    paused: bool
    #: Seconds since the oldest job that is queued or running was submitted.
    oldest_age: float


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A connection that works. Times are seconds before now."""

    number: int
    address: str
    client_id: bytes
    functions: list[bytes]
    #: Handles of the jobs in its hands.
    running: list[bytes]
    asleep: bool
    seen: float


@dataclass(frozen=True, slots=True)
class ResultView:
    """How a background job ended. Times are Unix seconds."""

    outcome: str
    data: bytes
    finished: float
    expires: float


@dataclass(frozen=True, slots=True)
class JobView:
    """One job. Times are Unix seconds, 0: none."""

    handle: bytes
    id: int
    function: bytes
    #: queued, running, scheduled or dead; completed, failed or exception where only the result is left.
    state: str
    priority: int
    unique: bytes
    reducer: bytes
    background: bool
    submitted: float
    attempts: int
    #: Payload bytes; -1: its row cannot be read.
    size: int
    #: When it is due, or when it died.
    due: float
    #: Why it died.
    note: bytes
    numerator: bytes = b"0"
    denominator: bytes = b"0"
    #: Seconds it has been running.
    runs: float = 0.0
    #: Only where one job was asked for.
    payload: bytes | None = None
    result: ResultView | None = None


class Inspector:
    """Methods raise TransientError while the store is away, ConfigError when they must not do what was asked."""

    def __init__(self, server: JobServer) -> None:
        self._server = server
        self._queue = server.queue

    # -- looking -------------------------------------------------------------------------------------------------

    async def functions(self) -> list[FunctionView]:
        """Every function that has jobs, dead letters or workers."""
        return await self._look(
            lambda store: [(b.function, b.jobs) for b in store.backlogs() if b.state == DEAD], self._functions
        )

    def _functions(self, dead_letters: list[tuple[bytes, int]]) -> list[FunctionView]:
        dead: dict[bytes, int] = {}
        for name, jobs in dead_letters:
            dead[name] = dead.get(name, 0) + jobs
        views = [
            FunctionView(
                name,
                *found.queued,
                found.running,
                found.scheduled,
                dead.pop(name, 0),
                found.workers,
                found.paused,
                round(found.oldest_age, 3),
            )
            for name, found in self._queue.stats(time.monotonic()).items()
        ]
        views += [FunctionView(name, 0, 0, 0, 0, 0, jobs, 0, False, 0.0) for name, jobs in dead.items()]
        return sorted(views, key=lambda view: view.name)

    async def workers(self) -> list[WorkerView]:
        """Every connection that can do something or has jobs."""
        now = time.monotonic()
        return [
            WorkerView(
                session.number,
                session.address,
                session.client_id,
                [function.name for function in worker.functions],
                list(worker.running),
                worker.sleeping,
                round(max(0.0, now - worker.seen), 3) if worker.seen else 0.0,
            )
            for session in self._server.sessions.values()
            if (worker := session.worker) is not None and (worker.functions or worker.running)
        ]

    async def jobs(self, function: bytes, state: str, after: int = 0, limit: int = 100) -> list[JobView]:
        """Up to `limit` jobs of a function (empty: of all) with id > after in this state, without payload."""
        if state == RUNNING:
            return self._page([], function, state, after, limit)
        # Those that run take up room in what is read.
        more = limit + sum(len(f.running) for f in self._matching(function))
        rows = _ROWS[state]

        def ask(store: JobStore) -> list[JobRecord]:
            places = [b for b in store.backlogs() if b.state in rows and function in (b.function, b"")][:_MAX_PLACES]
            found = [
                record
                for b in places
                for record in store.window(
                    b.function, b.priority, after=after, through=_LAST, limit=more, inline=0, state=b.state
                )
            ]
            return sorted(found)[:more]

        return await self._look(ask, lambda records: self._page(records, function, state, after, limit))

    def _page(self, records: list[JobRecord], function: bytes, state: str, after: int, limit: int) -> list[JobView]:
        later = (job for job in self._in_memory(function, state) if job.id > after)
        views = {job.id: self._of_job(job) for job in nsmallest(limit, later, key=lambda job: job.id)}
        for record in records:
            view = self._of_record(record)
            if view is not None and view.state == state:
                views[record.id] = view
        return [views[number] for number in sorted(views)[:limit]]

    async def job(self, handle: bytes) -> JobView | None:
        """One job, with its payload, progress or result; None: not known (any more)."""
        number = self._queue.handles.number(handle)
        if number is None:
            return None

        def ask(store: JobStore) -> tuple[JobRecord | None, bytes | None, Result | None]:
            record = store.find(number)
            payload = None
            if record is not None and record.size != UNREADABLE:
                payload = store.payload(record.function, record.priority, number, record.state)
            return record, payload, store.result(number)

        return await self._look(ask, lambda found: self._whole(number, *found))

    def _whole(
        self, number: int, record: JobRecord | None, payload: bytes | None, result: Result | None
    ) -> JobView | None:
        job = self._queue.holdings.jobs.get(number)
        view = self._of_job(job) if job is not None else self._of_record(record) if record is not None else None
        if view is not None:
            if job is not None and job.payload is not None:
                payload = job.payload
            view = replace(view, payload=payload)
        if result is None:
            return view
        known = ResultView(
            _OUTCOMES.get(result.outcome, "failed"), result.data, result.finished / 1e6, result.expires / 1e6
        )
        if view is None:
            view = JobView(
                self._queue.handles.of(number), number, result.function, known.outcome, 1, result.unique, b"", True,
                0.0, 0, len(result.data), 0.0, b"",
            )  # fmt: skip
        return replace(view, result=known, numerator=result.numerator, denominator=result.denominator)

    # -- doing ---------------------------------------------------------------------------------------------------

    async def cancel(self, handle: bytes) -> bool:
        """Take a queued, scheduled or running job out; its clients get WORK_FAIL. False: there is none."""
        number = self._queue.handles.number(handle)
        if number is None:
            return False

        def then(record: JobRecord | None) -> bool:
            job = self._queue.holdings.jobs.get(number) or self._queue.control.stored_only(record)
            if job is None:
                return False
            self._refuse_lane(job.function.name, "cancelled")
            return self._queue.control.cancel_job(job)

        return await self._settle(await self._look(lambda store: store.find(number), then))

    async def requeue(self, handle: bytes) -> bool:
        """A scheduled job or a dead letter is ready now, the latter with all its deliveries before it. False: there is
        none."""
        number = self._queue.handles.number(handle)
        if number is None:
            return False

        def then(record: JobRecord | None) -> bool:
            if record is not None and record.size == UNREADABLE:
                raise ConfigError("the row of this job cannot be read", hint="purge the dead letters of its function")
            return self._queue.control.requeue(number, record)

        return await self._settle(await self._look(lambda store: store.find(number), then))

    async def purge(self, function: bytes, state: str) -> int:
        """Delete all jobs of the function that are queued, scheduled or dead; returns how many."""
        self._refuse_lane(function, "purged")
        if state == RUNNING:
            raise ConfigError("jobs that run are not purged", hint="cancel them one by one, or stop their workers")
        purged, jobs = 0, list(self._in_memory(function, state))
        for start in range(0, len(jobs), _PAGE):
            page = (job for job in jobs[start : start + _PAGE] if self._state_of(job) == state)
            purged += sum(map(self._queue.control.cancel_job, page))
            await self._server.settled()
        for row in _ROWS[state]:
            for priority in range(3):
                purged += await self._purge_rows(function, priority, state, row)
        await self._settle(True)
        return purged

    async def _purge_rows(self, function: bytes, priority: int, state: str, row: int) -> int:
        after = purged = 0
        while True:
            start = after

            def ask(store: JobStore) -> list[JobRecord]:
                return store.window(
                    function, priority, after=start, through=_LAST, limit=_PAGE, inline=0, state=row  # noqa: B023
                )  # fmt: skip

            records, count = await self._look(ask, lambda records: (records, self._purge_page(records, state)))
            purged += count
            if len(records) < _PAGE:
                return purged
            after = records[-1].id
            await self._server.settled()

    def _purge_page(self, records: list[JobRecord], state: str) -> int:
        count = 0
        for record in records:
            view = self._of_record(record)
            if view is not None and view.state == state:
                job = self._queue.holdings.jobs.get(record.id) or self._queue.control.stored_only(record)
                count += (
                    self._queue.control.cancel_job(job) if job is not None else self._queue.control.remove_dead(record)
                )
        return count

    async def pause(self, function: bytes) -> bool:
        """Hand out nothing of it until resume(), also after a restart. False: there are too many functions."""
        return await self._settle(self._queue.control.pause(function))

    async def resume(self, function: bytes) -> bool:
        """False: it was not paused."""
        return await self._settle(self._queue.control.resume(function))

    # -- how -----------------------------------------------------------------------------------------------------

    async def _look(self, ask: Callable[[JobStore], _T], then: Callable[[_T], _R]) -> _R:
        with suppress(TransientError):  # what was just done shall be seen, but a store that is away can be looked at
            await self._server.settled()
        return await self._server.look(ask, then)

    async def _settle(self, done: bool) -> bool:
        if done:
            await self._server.settled()
        return done

    @staticmethod
    def _refuse_lane(function: bytes, what: str) -> None:
        if is_lane(function):
            raise ConfigError(
                f"jobs of the lane {function.decode(errors='replace')} cannot be {what}: the mirror would miss changes",
                hint="`syncbridge snapshot` repairs a mirror, `syncbridge dead-letter` handles its rows",
            )

    def _matching(self, function: bytes) -> Iterable[Function]:
        functions = self._queue.functions
        if not function:
            return list(functions.values())
        return [functions[function]] if function in functions else []

    def _in_memory(self, function: bytes, state: str) -> Iterator[Job]:
        """Jobs of this state that memory has, in no order."""
        if state == _SCHEDULED:
            yield from (job for job in self._queue.schedule if function in (job.function.name, b""))
            return
        for found in self._matching(function):
            if state == RUNNING:
                yield from found.running.values()
            elif state == QUEUED:
                for line in found.lines:
                    jobs = [*line.ready, *line.later, *(job for _, job in line.returned)]
                    yield from (job for job in jobs if not job.dropped)

    def _state_of(self, job: Job) -> str:
        if job.worker is not None:
            return RUNNING
        return _SCHEDULED if job in self._queue.schedule or (job.spilled and job.state == SCHEDULED) else QUEUED

    def _of_job(self, job: Job) -> JobView:
        state = self._state_of(job)
        runs = time.monotonic() - job.started if job.worker is not None else 0.0
        return JobView(
            self._queue.handle(job), job.id, job.function.name, state, job.priority, job.unique, job.reducer,
            job.background, job.submitted / 1e6, job.attempts, job.size, job.due / 1e6 if state == _SCHEDULED else 0.0,
            b"", *job.progress, runs=round(runs, 3),
        )  # fmt: skip

    def _of_record(self, record: JobRecord) -> JobView | None:
        """What a row just read stands for, if memory does not know better; None: the job is over, or elsewhere."""
        job = self._queue.holdings.jobs.get(record.id)
        if job is not None:
            return self._of_job(job)
        if self._queue.control.is_outdated(record):
            return None
        return JobView(
            self._queue.handles.of(record.id), record.id, record.function, _NAMES[record.state], record.priority,
            record.unique, record.reducer, True, record.submitted / 1e6, record.attempts, record.size,
            record.due / 1e6, record.note,
        )  # fmt: skip
