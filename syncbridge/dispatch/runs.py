"""Runs: the short way in for background jobs that arrive together; what it cannot do goes the way of single jobs.

Jobs that only the store keeps never become objects here: that spares half of what the server does for each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncbridge.dispatch.batch import Batches
from syncbridge.dispatch.function import Function
from syncbridge.dispatch.holdings import OVERHEAD, Holdings
from syncbridge.dispatch.job import Job, JobRecord, new_record
from syncbridge.dispatch.reading import Reading
from syncbridge.dispatch.run import Run, Submitter
from syncbridge.dispatch.sleepers import Sleepers
from syncbridge.dispatch.turns import Found, Turn

if TYPE_CHECKING:
    from syncbridge.dispatch.intake import Intake

#: [function, unique, payload] of each.
Arrived = list[list[bytes]]


class Runs:
    """Part of the intake: shares its ids, its turns, and what it knows of the store."""

    __slots__ = ("_batches", "_holdings", "_intake", "_reading", "_sleepers", "_volatile")

    def __init__(
        self, intake: Intake, holdings: Holdings, sleepers: Sleepers, batches: Batches, reading: Reading
    ) -> None:
        self._intake = intake
        self._holdings = holdings
        self._sleepers = sleepers
        self._batches = batches
        self._reading = reading
        self._volatile = batches.volatile

    # -- arriving ------------------------------------------------------------------------------------------------

    def submit(self, client: Submitter, name: bytes, priority: int, arrived: Arrived, now: float) -> bool:
        """Intake.submit() of many background jobs of this function; the client is told by created_run(), or of each.

        False: nothing is done, since some of them need a look of their own.
        """
        function, intake = self._holdings.functions.get(name), self._intake
        if function is None or intake.away:
            return False
        uniques = [job[1] for job in arrived]
        different = set(uniques)
        named = not function.lane and different != {b""}
        if named and (len(different) < len(arrived) or b"" in different or b"-" in different):
            return False
        waits = client in intake.turns.behind
        if not waits and not (named and function.on_disk):
            return self._take(client, function, priority, arrived, now, uniques if named else None)
        size = sum([len(job[2]) for job in arrived])
        if named:
            intake.turns.look(
                client, name, uniques, lambda found: self._take_after(client, priority, arrived, now, found), size
            )
        else:
            intake.turns.add(client, Turn(lambda: self._take_after(client, priority, arrived, now, None), size=size))
        return True

    def _take_after(self, client: Submitter, priority: int, arrived: Arrived, now: float, found: Found | None) -> None:
        """It is this run's turn. `found`: what the store knows of its uniques; None: they are no join keys."""
        name, intake = arrived[0][0], self._intake
        uniques = None if found is None else [job[1] for job in arrived]
        if uniques is None or not self._known(name, uniques, found or {}):
            function = self._holdings.function(name)
            if self._take(client, function, priority, arrived, now, uniques):
                return
        intake.submit_after(client, priority, arrived, now, found or {})

    def _known(self, name: bytes, uniques: list[bytes], found: Found) -> bool:
        """Some of them may be those of jobs that only the store has."""
        spilled = self._intake.spilled
        return bool(found or spilled) and any(unique in found or (name, unique) in spilled for unique in uniques)

    def _take(
        self,
        client: Submitter,
        function: Function,
        priority: int,
        arrived: Arrived,
        now: float,
        uniques: list[bytes] | None,
    ) -> bool:
        """They are new jobs, if nothing is unusual about them. `uniques`: they are join keys."""
        intake, holdings = self._intake, self._holdings
        limits, name, first, count = holdings.limits, function.name, intake.next_id, len(arrived)
        sizes = [len(job[2]) for job in arrived]
        size, named = sum(sizes), uniques is not None
        if (
            intake.away
            or function.max_queued is not None
            or name not in holdings.functions
            or first + count > intake.reserved
            or holdings.count + count > limits.max_jobs
            or holdings.bytes + size > limits.max_bytes
            or not (uniques is None or function.joinable.keys().isdisjoint(uniques))
        ):
            return False
        clock = int((now + holdings.epoch) * 1e6)
        records = [
            new_record(
                (number, name, priority, unique, unique if named else None, clock, 0, payload, length, b"", 0, 0, b"")
            )
            for number, length, (_, unique, payload) in zip(range(first, first + count), sizes, arrived, strict=True)
        ]
        intake.next_id = first + count
        holdings.count += count
        holdings.bytes += size
        holdings.payload_bytes += size
        function.arriving += count
        run = Run(client, function, records, size, named)
        if self._volatile:
            self.queue(run)
            client.created_run(first, count)
            return True
        if uniques is not None:
            function.joinable.update(dict.fromkeys(uniques, run))
        batch = self._batches.gathering
        batch.changes.adds += records
        batch.size += size + count * OVERHEAD
        batch.jobs.append(run)
        batch.runs.append(run)
        batch.answers.append((client, run, True))
        return True

    def make(self, run: Run, key: bytes) -> Job:
        """The job of the run with this key, for somebody who joins it."""
        (record,) = (record for record in run.records if record.join_key == key)
        (job,) = run.jobs([record], self._holdings.handle_format)
        run.made[job.id] = job
        self._holdings.remember(job)
        return job

    # -- after the commit ----------------------------------------------------------------------------------------

    def queue(self, run: Run) -> None:
        """Somebody may have its jobs from now on."""
        function, holdings, records = run.function, self._holdings, run.records
        priority, count, limits = records[0].priority, len(records), holdings.limits
        function.arriving -= count
        function.tallies[priority].submitted += count
        holdings.touched.add(function)
        holdings.count_queued(function, priority, count)
        line = function.lines[priority]
        window = limits.window if len(holdings.jobs) < limits.windows else limits.small_window
        room = 0 if line.on_disk else max(0, window - len(line.ready))
        if room:
            line.extend(self._remember(run, records[:room]))
        if room < count:
            line.leave(count - room, records[-1].id)
            self._leave_to_store(run, records[room:])
        if function.sleepers:
            self._sleepers.wake_for(function, count)

    def _remember(self, run: Run, records: list[JobRecord]) -> list[Job]:
        """These are jobs in memory from now on."""
        holdings, stored = self._holdings, not self._volatile
        jobs = run.jobs(records, holdings.handle_format)
        for job in jobs:
            job.queued, job.stored = True, stored
        holdings.jobs.update(zip([record.id for record in records], jobs, strict=True))
        if run.named:
            run.function.joinable.update(zip([record.unique for record in records], jobs, strict=True))
        if stored and holdings.payload_bytes > holdings.limits.memory:
            for job in jobs:
                holdings.release_payload(job)
        return jobs

    def _leave_to_store(self, run: Run, records: list[JobRecord]) -> None:
        """Of these memory knows how many there are, beside those that somebody joined."""
        intake, name = self._intake, run.function.name
        if self._volatile:
            self._batches.gathering.changes.adds += records
        elif run.named:
            self._forget_keys(run, records)
        if run.named and self._reading.busy:
            intake.spilled.update({(name, record.unique): record for record in records})
        self._holdings.payload_bytes -= sum([record.size for record in records])
        for job in run.made.values():
            if job.id >= records[0].id:
                job.payload = None  # it is not counted any more
                intake.spill(job)

    @staticmethod
    def _forget_keys(run: Run, records: list[JobRecord]) -> None:
        joinable = run.function.joinable
        for record in records:
            if joinable[record.unique] is run:
                del joinable[record.unique]

    def refuse(self, run: Run) -> None:
        """Its commit failed: nothing is kept of it."""
        function, holdings, made = run.function, self._holdings, run.made
        rest = [record.size for record in run.records if record.id not in made]
        function.arriving -= len(rest)
        holdings.count -= len(rest)
        holdings.bytes -= sum(rest)
        holdings.payload_bytes -= sum(rest)
        if run.named:
            self._forget_keys(run, run.records)
        for job in made.values():
            self._intake.unmake(job)
