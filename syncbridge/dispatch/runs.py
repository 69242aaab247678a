"""Runs: the short way in for background jobs that arrive together; what it cannot do goes the way of single jobs.

Jobs that only the store keeps never become objects here: that spares half of what the server does for each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncbridge.dispatch.batch import Batches
from syncbridge.dispatch.function import Function
from syncbridge.dispatch.holdings import OVERHEAD, Holdings
from syncbridge.dispatch.job import Job
from syncbridge.dispatch.reading import Reading
from syncbridge.dispatch.run import Run, Submitter
from syncbridge.dispatch.sleepers import Sleepers
from syncbridge.dispatch.turns import Found, Turn

if TYPE_CHECKING:
    from syncbridge.dispatch.intake import Intake


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

    def submit(
        self, client: Submitter, name: bytes, priority: int, uniques: list[bytes], payloads: list[bytes], now: float
    ) -> bool:
        """Intake.submit() of many background jobs of this function; the client is told by created_run(), or of each.

        False: nothing is done, since some of them need a look of their own.
        """
        function, intake = self._holdings.functions.get(name), self._intake
        if function is None or intake.away:
            return False
        different = set(uniques)
        named = not function.lane and different != {b""}
        if named and (len(different) < len(uniques) or b"" in different or b"-" in different):
            return False
        waits = client in intake.turns.behind
        if not waits and not (named and function.on_disk):
            return self._take(client, function, priority, uniques, payloads, now, named=named)

        def take(found: Found) -> None:
            """It is their turn. `found`: what the store knows of their uniques, where these are join keys."""
            function = self._holdings.function(name)
            if named and self._known(name, uniques, found):
                taken = False
            else:
                taken = self._take(client, function, priority, uniques, payloads, now, named=named)
            if not taken:
                intake.submit_after(client, name, priority, uniques, payloads, now, found)

        size = sum(map(len, payloads))
        if named:
            intake.turns.look(client, name, uniques, take, size)
        else:
            intake.turns.add(client, Turn(lambda: take({}), size=size))
        return True

    def _known(self, name: bytes, uniques: list[bytes], found: Found) -> bool:
        """Some of them may be those of jobs that only the store has."""
        spilled = self._intake.spilled
        return bool(found or spilled) and any(unique in found or (name, unique) in spilled for unique in uniques)

    def _take(
        self,
        client: Submitter,
        function: Function,
        priority: int,
        uniques: list[bytes],
        payloads: list[bytes],
        now: float,
        *,
        named: bool,
    ) -> bool:
        """They are new jobs, if nothing is unusual about them. `named`: their uniques are join keys."""
        intake, holdings = self._intake, self._holdings
        limits, first, count, size = holdings.limits, intake.next_id, len(payloads), sum(map(len, payloads))
        if (
            intake.away
            or function.max_queued is not None
            or function.name not in holdings.functions
            or first + count > intake.reserved
            or holdings.count + count > limits.max_jobs
            or holdings.bytes + size > limits.max_bytes
            or (named and not function.joinable.keys().isdisjoint(uniques))
        ):
            return False
        clock = int((now + holdings.epoch) * 1e6)
        run = Run(client, function, priority, first, uniques, payloads, clock, size=size, named=named)
        intake.next_id = first + count
        holdings.count += count
        holdings.bytes += size
        holdings.payload_bytes += size
        function.arriving += count
        if self._volatile:
            self.queue(run)
            client.created_run(first, count)
            return True
        if named:
            function.joinable.update(dict.fromkeys(uniques, run))
        batch = self._batches.gathering
        batch.changes.runs.append(run)
        batch.size += size + count * OVERHEAD
        batch.jobs.append(run)
        batch.runs.append(run)
        batch.answers.append((client, run, True))
        return True

    def make(self, run: Run, key: bytes) -> Job:
        """The job of the run with this key, for somebody who joins it."""
        job = run.job(run.index(key), self._holdings.handle_format)
        run.made[job.id] = job
        self._holdings.remember(job)
        return job

    # -- after the commit ----------------------------------------------------------------------------------------

    def queue(self, run: Run) -> None:
        """Somebody may have its jobs from now on."""
        function, holdings, priority, count = run.function, self._holdings, run.priority, run.count
        function.arriving -= count
        function.tallies[priority].submitted += count
        holdings.touched.add(function)
        holdings.count_queued(function, priority, count)
        line, limits = function.lines[priority], holdings.limits
        window = limits.window if len(holdings.jobs) < limits.windows else limits.small_window
        room = 0 if line.on_disk else min(count, max(0, window - len(line.ready)))
        if room:
            line.extend(self._remember(run, room))
        if room < count:
            line.leave(count - room, run.end - 1)
            self._leave_to_store(run, room)
        if function.sleepers:
            self._sleepers.wake_for(function, count)

    def _remember(self, run: Run, count: int) -> list[Job]:
        """The first ones are jobs in memory from now on."""
        holdings, stored, make, handle = self._holdings, not self._volatile, run.job, self._holdings.handle_format
        jobs = [make(index, handle) for index in range(count)]
        for job in jobs:
            job.queued, job.stored = True, stored
        holdings.jobs.update(zip(range(run.first, run.first + count), jobs, strict=True))
        if run.named:
            run.function.joinable.update(zip(run.uniques, jobs, strict=False))
        if stored and holdings.payload_bytes > holdings.limits.memory:
            for job in jobs:
                holdings.release_payload(job)
        return jobs

    def _leave_to_store(self, run: Run, start: int) -> None:
        """Of those from there on memory knows how many there are, beside those that somebody joined."""
        intake, records = self._intake, None
        if self._volatile:
            records = run.records(start)
            self._batches.gathering.changes.adds += records
        elif run.named:
            self._forget_keys(run, start)
        if run.named and self._reading.busy:
            spilled = {(run.name, record.unique): record for record in records or run.records(start)}
            intake.spilled.update(spilled)
        self._holdings.payload_bytes -= sum(map(len, run.payloads[start:]))
        for job in run.made.values():
            if job.id >= run.first + start:
                job.payload = None  # it is not counted any more
                intake.spill(job)

    @staticmethod
    def _forget_keys(run: Run, start: int) -> None:
        joinable = run.function.joinable
        for unique in run.uniques[start:]:
            if joinable[unique] is run:
                del joinable[unique]

    def refuse(self, run: Run) -> None:
        """Its commit failed: nothing is kept of it."""
        function, holdings, made = run.function, self._holdings, run.made
        count, size = run.count - len(made), run.size - sum(job.size for job in made.values())
        function.arriving -= count
        holdings.count -= count
        holdings.bytes -= size
        holdings.payload_bytes -= size
        if run.named:
            self._forget_keys(run, 0)
        for job in made.values():
            self._intake.unmake(job)
