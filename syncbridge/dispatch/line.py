"""A line: the queued jobs of one function and priority, handed out in the order of their ids.

Only a window at its head is in memory; the rest is counted here and lies in the store. Foreground jobs are not
stored, so those behind the window wait in `later`. The line reads no store: reading.py refills it.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import islice

from syncbridge.dispatch.job import Job

#: Below this many dead entries a line is not cleaned up.
_MIN_GARBAGE = 64


class Line:
    """`count` jobs wait in ready + returned (memory), later (memory) and on_disk (store).

    ready     the window, ascending
    returned  jobs whose workers gave them back, that were due, or that moved here
    later     jobs the store does not have, younger than `loaded`
    on_disk   number of stored jobs with loaded < id <= last
    """

    __slots__ = ("count", "garbage", "last", "later", "lean", "loaded", "on_disk", "reading", "ready", "returned")

    def __init__(self) -> None:
        self.count = 0
        self.ready: deque[Job] = deque()
        self.returned: list[tuple[int, Job]] = []
        self.later: deque[Job] = deque()
        self.on_disk = 0
        self.loaded = 0
        self.last = 0
        self.garbage = 0
        #: A read of its next jobs is under way; only reading.py says so.
        self.reading = False
        #: Its next jobs have no payload in memory: they are read a few ahead.
        self.lean = False

    def append(self, job: Job, window: int) -> bool:
        """Queue a new job, younger than all before it; False when it is left to the store."""
        self.count += 1
        self.last = job.id
        if not self.on_disk and (len(self.ready) < window or not job.stored):
            self.ready.append(job)
            self.loaded = job.id
            return True
        if job.stored:
            self.on_disk += 1
            return False
        self.later.append(job)
        return True

    def extend(self, jobs: list[Job]) -> None:
        """append() of some that all lie within the window, while nothing is on disk."""
        self.count += len(jobs)
        self.ready.extend(jobs)
        self.last = self.loaded = jobs[-1].id

    def leave(self, count: int, last: int) -> None:
        """append() of some that are left to the store: more than the window takes, or behind others there."""
        self.count += count
        self.on_disk += count
        self.last = last

    def put_back(self, job: Job) -> None:
        """Queue a job again, at the place its id gives it."""
        self.count += 1
        heappush(self.returned, (job.id, job))

    def spill(self, job: Job) -> None:
        """Leave a job of `returned`, whose row is READY in the store by now, to the store."""
        self.drop(job)
        self.count += 1
        self.on_disk += 1
        self.loaded = min(self.loaded, job.id - 1)
        self.last = max(self.last, job.id)

    def forget_stored(self) -> None:
        """One job that only the store had is no longer wanted."""
        self.count -= 1
        self.on_disk -= 1
        if not self.on_disk:
            self.loaded = self.last
            self.ready.extend(self.later)
            self.later.clear()

    @property
    def in_memory(self) -> int:
        """About as many of its jobs can be handed out without the store."""
        return len(self.ready) + len(self.returned)

    @property
    def hungry(self) -> bool:
        """The next job is in the store only."""
        return bool(self.on_disk) and self.head() is None

    def refill(self, jobs: list[Job], loaded: int) -> int:
        """Take the stored jobs up to id `loaded` into the window.

        Returns how many jobs the store turned out to lack (0 unless its file was tampered with); they are uncounted.
        """
        self.on_disk -= len(jobs)
        missing = max(0, self.on_disk) if loaded >= self.last else 0
        self.on_disk -= missing
        self.count -= missing
        self.loaded = loaded = loaded if self.on_disk else self.last
        newest = self.ready[-1].id if self.ready else 0
        window = []
        for job in jobs:
            if job.id > newest:
                window.append(job)
            else:  # left to the store after younger ones were loaded
                heappush(self.returned, (job.id, job))
        foreground = []
        while self.later and self.later[0].id <= loaded:
            foreground.append(self.later.popleft())
        self.ready.extend(sorted([*window, *foreground], key=lambda job: job.id) if foreground else window)
        return missing

    def head(self) -> Job | None:
        """The next job, without taking it; None when it is not in memory."""
        ready, returned = self.ready, self.returned
        while ready and ready[0].dropped:
            ready.popleft()
            self.garbage -= 1
        if returned:
            while returned and returned[0][1].dropped:
                heappop(returned)
                self.garbage -= 1
            if returned and (not ready or returned[0][0] < ready[0].id):
                # Jobs in the store may be older than one that moved here.
                return None if self.on_disk and returned[0][0] > self.loaded and not ready else returned[0][1]
        return ready[0] if ready else None

    def ahead(self, count: int) -> list[Job]:
        """The next jobs, up to `count` of the window and of what returned."""
        found = [job for job in islice(self.ready, count) if not job.dropped]
        if self.returned:
            found += [job for _, job in self.returned[:count] if not job.dropped]
            found.sort(key=lambda job: job.id)
        return found[:count]

    def take(self, job: Job) -> None:
        """Remove what head() returned."""
        self.count -= 1
        if self.ready and self.ready[0] is job:
            self.ready.popleft()
        else:
            heappop(self.returned)

    def drop(self, job: Job) -> None:
        """Forget a queued job in memory: marked now, swept when half of the line is dead."""
        job.dropped = True
        self.count -= 1
        self.garbage += 1
        if self.garbage > _MIN_GARBAGE and self.garbage * 2 > len(self.ready) + len(self.later) + len(self.returned):
            self.ready = deque(job for job in self.ready if not job.dropped)
            self.later = deque(job for job in self.later if not job.dropped)
            self.returned = sorted(entry for entry in self.returned if not entry[1].dropped)  # sorted is a heap too
            self.garbage = 0
