"""Questions: what clients want to know of jobs. Answered in the order they ask, from memory or after a read."""

from __future__ import annotations

from collections.abc import Iterator

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.batch import Batches
from syncbridge.dispatch.handles import Handles
from syncbridge.dispatch.holdings import Holdings
from syncbridge.dispatch.intake import Intake
from syncbridge.dispatch.job import Client, Job, JobRecord
from syncbridge.dispatch.reading import Reading
from syncbridge.dispatch.run import Run
from syncbridge.dispatch.store import DEAD


class Questions:
    """Answers go out by the client's deliver()."""

    __slots__ = ("_batches", "_handles", "_holdings", "_intake", "_reading")

    def __init__(
        self, holdings: Holdings, batches: Batches, reading: Reading, intake: Intake, handles: Handles
    ) -> None:
        self._holdings = holdings
        self._batches = batches
        self._reading = reading
        self._intake = intake
        self._handles = handles

    def status(self, client: Client, handle: bytes) -> None:
        """GET_STATUS: the client gets STATUS_RES in its turn, by deliver()."""

        def reply(job: Job | None, known: bool) -> bytes:
            return p.response(p.STATUS_RES, handle, *_state_of(job, known))

        number = self._handles.number(handle)
        job = self._holdings.jobs.get(number or 0)
        arriving = number is not None and self._batches.arriving(number)
        if number is None or number >= self._intake.next_id or job or arriving or self._batches.leaving(number):
            self._intake.answer(client, reply(job, job is not None or arriving))
            return
        wanted = number
        self._intake.ask(
            client,
            lambda store: store.find(wanted),
            lambda record: reply(self._holdings.jobs.get(wanted), self._is_alive(record)),
        )

    def unique_status(self, client: Client, unique: bytes) -> None:
        """GET_STATUS_UNIQUE: the client gets STATUS_RES_UNIQUE in its turn, by deliver(). No matter which function."""

        def reply(job: Job | Run | None, known: bool) -> bytes:
            clients = b"%d" % (len(job.clients) if isinstance(job, Job) else 0)
            return p.response(p.STATUS_RES_UNIQUE, unique, *_state_of(job, known), clients)

        def in_memory() -> Job | Run | None:
            found = (f.joinable.get(unique) for f in self._holdings.functions.values())
            return next((job for job in found if job is not None), None)

        job = in_memory() if unique else None
        functions = self._holdings.functions.values() if unique and job is None else ()
        names = [function.name for function in functions if function.on_disk and not function.lane]
        if job is not None or not names:
            self._intake.answer(client, reply(job, job is not None))
            return
        self._intake.ask(
            client,
            lambda store: [record for name in names for record in store.joinable(name, [unique]).values()],
            lambda records: reply(in_memory(), any(self._is_alive(record) for record in records or ())),
        )

    def _is_alive(self, record: JobRecord | None) -> bool:
        """It was read just now, and is queued or scheduled."""
        if record is None or record.state == DEAD:
            return False
        return record.id in self._holdings.jobs or self._reading.is_stored_only(record)

    def shown_jobs(self) -> Iterator[tuple[bytes, int, bool, bool, bytes]]:
        """(handle, attempts, ignored, stored, unique) of every job in memory."""
        for job in list(self._holdings.jobs.values()):
            yield self._handles.of(job.id), job.attempts, job.dropped, job.background, job.unique


def _state_of(job: Job | Run | None, known: bool) -> tuple[bytes, bytes, bytes, bytes]:
    """known, running, numerator, denominator as STATUS_RES has them."""
    if job is None or isinstance(job, Run):
        return (b"1" if known else b"0"), b"0", b"0", b"0"
    return (b"0" if job.dropped else b"1"), (b"1" if job.worker else b"0"), *job.progress
