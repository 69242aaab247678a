"""Group commit: the batch that gathers, the one that is being committed, and what the store may not show yet.

A batch is what one transaction makes durable, and who waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from syncbridge.dispatch.job import Client, Job
from syncbridge.dispatch.run import Run
from syncbridge.dispatch.store import READY, Changes, JobKey, Move, new_key

#: What a client is told of after the commit: the job it submitted or joined, the jobs of a run, a finished reply that
#: keeps its place behind earlier answers, or text: why it is refused.
About = Job | Run | bytes | str
#: The client, what it is told of, and whether it was promised durability, not just a result.
Answer = tuple[Client, About, bool]


@dataclass(slots=True)
class Batch:
    """Everything of one round, in order of arrival."""

    changes: Changes = field(default_factory=Changes)
    #: New jobs; they are queued once the commit is done, so that nobody runs a job that a crash would unmake.
    jobs: list[Job | Run] = field(default_factory=list)
    #: The runs among them.
    runs: list[Run] = field(default_factory=list)
    #: Foreground jobs that a background submit joined: durable from this commit on.
    upgraded: list[Job] = field(default_factory=list)
    #: Jobs in memory beyond the window of their line, that the store has as READY from this commit on.
    settled: list[Job] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    #: Submitted payload bytes.
    size: int = 0
    #: How long its commit took.
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.answers or self.jobs or self.changes)


def key_of(job: Job) -> JobKey:
    """Where the job's row lies once everything gathered so far is written."""
    return JobKey(job.function.name, job.priority, job.size, job.state)


class Batches:
    """One batch gathers while another is committed; take() starts the next.

    `volatile`: the store is memory like ours. It gets a job only when memory here lets go of it, see write().
    """

    __slots__ = ("_unseen", "committing", "gathering", "volatile")

    def __init__(self, *, volatile: bool = False) -> None:
        self.volatile = volatile
        self.gathering = Batch()
        self.committing = Batch()
        #: While the store is read: every change that the reads may have missed, oldest first.
        self._unseen: list[Changes] | None = None

    def take(self) -> Batch:
        batch = self.committing = self.gathering
        self.gathering = Batch()
        if self._unseen is not None:
            self._unseen.append(self._without_adds(self.gathering.changes))
        return batch

    def take_answers(self) -> Batch:
        """The part of the gathering batch that needs no store."""
        full = self.gathering
        self.gathering = Batch(changes=full.changes, settled=full.settled)
        return Batch(jobs=full.jobs, runs=full.runs, answers=full.answers)

    def end(self) -> None:
        """The commit is over."""
        self.committing = Batch()

    # -- changes of stored jobs ----------------------------------------------------------------------------------

    def write(self, job: Job) -> None:
        """Of a volatile queue: from now on the job has a row."""
        if not job.stored:
            job.stored = True
            self.gathering.changes.adds.append(job.record())

    def move(self, job: Job, function: bytes, state: int = READY, due: int = 0, note: bytes = b"") -> None:
        """The row of a stored job goes to another place; the caller gives the job itself its function there."""
        if self.volatile:
            self.write(job)
        changes = self.gathering.changes
        earlier = changes.moves.get(job.id)
        changes.attempts.pop(job.id, None)
        old = key_of(job) if earlier is None else earlier.old
        changes.moves[job.id] = Move(old, function, job.attempts, state, due, note)
        job.state = state

    def note_attempts(self, job: Job) -> None:
        if self.volatile and not job.stored:
            return
        changes = self.gathering.changes
        earlier = changes.moves.get(job.id)
        if earlier is not None:
            changes.moves[job.id] = earlier._replace(attempts=job.attempts)
        else:
            changes.attempts[job.id] = (key_of(job), job.attempts)

    def remove(self, job: Job) -> None:
        if job.stored or not self.volatile:
            self.gathering.changes.removes[job.id] = new_key((job.function.name, job.priority, job.size, job.state))

    def carry(self, changes: Changes) -> None:
        """Take over what a failed commit wanted to change, beside adding: it happened, and stays to be written."""
        pending = self.gathering.changes
        # The older notes are the larger part when the store stays away: take them and add the newer ones.
        for number, move in pending.moves.items():
            changes.attempts.pop(number, None)
            earlier = changes.moves.get(number)
            changes.moves[number] = move if earlier is None else move._replace(old=earlier.old)
        changes.removes.update(pending.removes)
        changes.attempts.update(pending.attempts)
        changes.settings.update(pending.settings)
        changes.results += pending.results
        pending.removes, pending.moves, pending.attempts = changes.removes, changes.moves, changes.attempts
        pending.settings, pending.results = changes.settings, changes.results
        pending.expire_results = max(pending.expire_results, changes.expire_results)
        if self._unseen is not None:
            self._unseen.append(self._without_adds(pending))

    # -- what reads may miss -------------------------------------------------------------------------------------

    def reads_begin(self) -> None:
        self._unseen = [self._without_adds(batch.changes) for batch in (self.committing, self.gathering)]

    def reads_end(self) -> None:
        self._unseen = None

    def leaving(self, number: int) -> bool:
        """Over, but its row may still be in the store, or in what was just read from it."""
        return any(number in changes.removes for changes in self._latest_first())

    def outdated(self, number: int, function: bytes, state: int) -> bool:
        """What a read says of this job, that it lies in this place, no longer holds."""
        for changes in self._latest_first():
            if number in changes.removes:
                return True
            move = changes.moves.get(number)
            if move is not None:
                return move.function != function or move.state != state
        return False

    def former_places(self, number: int) -> list[JobKey]:
        """Where the job's row may lie besides its place."""
        moves = [changes.moves.get(number) for changes in self._latest_first()]
        return [move.old for move in moves if move is not None]

    def arriving(self, number: int) -> bool:
        """It belongs to a run whose commit is not through: its row, where there is one, is nobody's yet."""
        return any(
            run.first <= number < run.end
            for batch in (self.committing, self.gathering)
            if batch.runs and number >= batch.runs[0].first
            for run in batch.runs
        )

    def moving(self, number: int) -> bool:
        """Its row may not lie in its place yet."""
        return any(number in batch.changes.moves for batch in (self.gathering, self.committing))

    def _latest_first(self) -> list[Changes]:
        if self._unseen is not None:
            return self._unseen[::-1]
        return [self.gathering.changes, self.committing.changes]

    @staticmethod
    def _without_adds(changes: Changes) -> Changes:
        """The same dicts, which go on changing, without the payloads."""
        return Changes(moves=changes.moves, removes=changes.removes)
