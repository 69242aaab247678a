"""The schedule: jobs that wait for their time, the earliest of them in memory, the rest in the store.

A job enters in memory. When there are too many, the latest go: their rows are in the store, `horizon` says from where
on. A job that is due keeps its row as it is (SCHEDULED): should the process end before the job is over, it is due
again at the next start. The schedule reads no store: reading.py brings the next page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from syncbridge.dispatch.job import Job

#: Below this many dead entries the heap is not cleaned up.
_MIN_GARBAGE = 64

#: (due in wall clock microseconds, job id): the order of the schedule.
Place = tuple[int, int]


class Schedule:
    """`window`: jobs in memory after a trim; twice as many before."""

    __slots__ = ("_garbage", "_heap", "_members", "_window", "horizon", "on_disk", "reading")

    def __init__(self, window: int) -> None:
        self._window = window
        self._heap: list[tuple[int, int, Job]] = []
        #: Job ids in memory; an entry of the heap whose job is not here, or has another due time, is dead.
        self._members: dict[int, Job] = {}
        self._garbage = 0
        #: Jobs that only the store has; all of them have (due, id) > horizon.
        self.on_disk = 0
        self.horizon: Place = (0, 0)
        #: A page is being read: nothing is left to the store meanwhile.
        self.reading = False

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, job: Job) -> bool:
        return self._members.get(job.id) is job

    def __iter__(self) -> Iterator[Job]:
        return iter(self._members.values())

    def add(self, job: Job) -> None:
        """Take in a job with its `due`."""
        self._members[job.id] = job
        heappush(self._heap, (job.due, job.id, job))

    def remove(self, job: Job) -> bool:
        """Forget a job in memory. False: it is not here."""
        if self._members.get(job.id) is not job:
            return False
        del self._members[job.id]
        self._garbage += 1
        if self._garbage > _MIN_GARBAGE and self._garbage * 2 > len(self._heap):
            self._rebuild()
        return True

    def pop(self, now: int) -> Job | None:
        """A job that is due at `now` (wall clock, microseconds), earliest first."""
        due = self.next()
        if due is None or due > now:
            return None
        job = heappop(self._heap)[2]
        del self._members[job.id]
        return job

    def next(self) -> int | None:
        """When the next job is due; None: nothing, or the store knows."""
        self._sweep_head()
        if not self._heap or (self.on_disk and self._heap[0][:2] > self.horizon):
            return None
        return self._heap[0][0]

    @property
    def hungry(self) -> bool:
        """The store has more, and what is in memory runs out."""
        if not self.on_disk or self.reading:
            return False
        self._sweep_head()
        return len(self._members) * 2 < self._window or self._heap[0][:2] > self.horizon

    def trim(self, may_go: Callable[[Job], bool]) -> list[Job]:
        """Let go of the latest jobs when there are too many; returns those that now only the store has."""
        if self.reading or len(self._members) <= 2 * self._window:
            return []
        self._rebuild()
        self._heap.sort()
        kept, rest = self._heap[: self._window], self._heap[self._window :]
        gone = [entry[2] for entry in rest if may_go(entry[2])]
        if not gone:
            return []
        for job in gone:
            del self._members[job.id]
        self._heap = kept + [entry for entry in rest if entry[1] in self._members]  # sorted is a heap too
        last = kept[-1][:2]
        self.horizon = min(self.horizon, last) if self.on_disk else last
        self.on_disk += len(gone)
        return gone

    def page(self, jobs: list[Job], horizon: Place | None) -> int:
        """Take in what was read; `horizon`: how far the page went, None: to the end.

        Returns how many jobs the store turned out to lack (0 unless it was tampered with).
        """
        for job in jobs:
            self.add(job)
        self.on_disk -= len(jobs)
        missing = 0
        if horizon is None:
            missing, self.on_disk = self.on_disk, 0
        else:
            self.horizon = horizon
        return missing

    def _sweep_head(self) -> None:
        heap = self._heap
        while heap and not self._lives(heap[0]):
            heappop(heap)
            self._garbage -= 1

    def _lives(self, entry: tuple[int, int, Job]) -> bool:
        return self._members.get(entry[1]) is entry[2] and entry[2].due == entry[0]

    def _rebuild(self) -> None:
        self._heap = [entry for entry in self._heap if self._lives(entry)]
        heapify(self._heap)
        self._garbage = 0
