"""A line: the queued jobs of one function and priority, handed out in the order of their ids.

Only a window at its head is in memory; the rest is counted here and lies in the store. Foreground jobs are not
stored, so those behind the window wait in `later`. The line reads no store: queue.py refills it.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from syncbridge.dispatch.job import Job

#: Below this many dead entries a line is not cleaned up.
_MIN_GARBAGE = 64


class Line:
    """`count` jobs wait in ready + returned (memory), later (memory) and on_disk (store).

    ready     the window, ascending
    returned  jobs whose workers gave them back, or that moved here; each goes before any younger one
    later     jobs the store does not have, younger than `loaded`
    on_disk   number of stored jobs with loaded < id <= last
    """

    __slots__ = ("count", "garbage", "last", "later", "loaded", "on_disk", "ready", "returned")

    def __init__(self) -> None:
        self.count = 0
        self.ready: deque[Job] = deque()
        self.returned: list[tuple[int, Job]] = []
        self.later: deque[Job] = deque()
        self.on_disk = 0
        self.loaded = 0
        self.last = 0
        self.garbage = 0

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

    def put_back(self, job: Job) -> None:
        """Queue a job again, at the place its id gives it."""
        self.count += 1
        heappush(self.returned, (job.id, job))

    @property
    def hungry(self) -> bool:
        """The window is used up and the store has more."""
        return bool(self.on_disk) and not self.ready

    def refill(self, jobs: list[Job], loaded: int) -> int:
        """Take the stored jobs up to id `loaded` into the window.

        Returns how many jobs the store turned out to lack (0 unless its file was tampered with); they are uncounted.
        """
        self.on_disk -= len(jobs)
        missing = self.on_disk if loaded >= self.last else 0
        self.on_disk -= missing
        self.count -= missing
        self.loaded = loaded = loaded if self.on_disk else self.last
        foreground = []
        while self.later and self.later[0].id <= loaded:
            foreground.append(self.later.popleft())
        self.ready.extend(sorted([*jobs, *foreground], key=lambda job: job.id) if foreground else jobs)
        return missing

    def head(self) -> Job | None:
        """The next job, without taking it; None when the window is empty."""
        ready, returned = self.ready, self.returned
        while ready and ready[0].dropped:
            ready.popleft()
            self.garbage -= 1
        while returned and returned[0][1].dropped:
            heappop(returned)
            self.garbage -= 1
        if returned and (not ready or returned[0][0] < ready[0].id):
            return returned[0][1]
        return ready[0] if ready else None

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
