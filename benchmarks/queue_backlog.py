"""A start with a long queue: seconds and memory of the job server with millions of queued jobs, and how it drains.

    python benchmarks/queue_backlog.py [--jobs 10000000] [--payload 200] [--functions 10] [--drain 100000]

Writes the queue file by SQL, drops it from the page cache, starts the server on it beside one with an empty queue, and
lets a worker take some jobs. Floors: a start takes at most 3 s more than an empty one and 50 MiB more memory.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.figures import Report, arguments
from syncbridge.dispatch import packets as p
from syncbridge.dispatch.job import NORMAL
from syncbridge.dispatch.store import READY
from syncbridge.dispatch.store.sqlite import SqliteStore
from syncbridge.dispatch.store.sqlite_places import ID_BITS
from tests.servers.job_server import JobServerProcess, Peer

SECONDS, MEMORY = 3.0, 50
#: Grabs that the draining worker keeps in flight.
PIPELINE = 64


def write(path: Path, jobs: int, payload: int, functions: list[bytes]) -> None:
    """A queue file with this many jobs, evenly over the functions."""
    SqliteStore(path).close()
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-262144"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("BEGIN")
    each = jobs // len(functions)
    for place, function in enumerate(functions, 1):
        total = each + (jobs % len(functions) if place == 1 else 0)
        database.execute(
            "INSERT INTO place VALUES (?,?,?,?,?,?)", (place, function, NORMAL, READY, total, total * payload)
        )
        first = (place << ID_BITS) + place
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) "
            "INSERT INTO job (id, submitted, payload) SELECT ? + i * ?, ? + i, randomblob(?) FROM n",
            (total, first, len(functions), time.time_ns() // 1000, payload),
        )
    database.execute("UPDATE meta SET value=? WHERE name='next_id'", (jobs + len(functions) + 1,))
    database.execute("COMMIT")
    database.close()
    forget(path)


def forget(path: Path) -> None:
    """Out of the page cache, so that the start reads the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def start(server: JobServerProcess) -> tuple[float, int]:
    """Seconds until it answers, and its resident bytes then."""
    started = time.perf_counter()
    server.start()
    server.status()
    return time.perf_counter() - started, server.memory()


def drain(server: JobServerProcess, functions: list[bytes], jobs: int) -> float:
    """Jobs per second of one worker that completes `jobs` of them."""
    started, done, asked = time.perf_counter(), 0, min(PIPELINE, jobs)
    with Peer(server.port, timeout=60) as worker:
        worker.can_do(*functions)
        worker.socket.sendall(p.request(p.GRAB_JOB) * asked)
        while done < jobs:
            handle, _, _ = worker.expect(p.JOB_ASSIGN, 3)
            done += 1
            answer = p.request(p.WORK_COMPLETE, handle, b"")
            if asked < jobs:
                answer += p.request(p.GRAB_JOB)
                asked += 1
            worker.socket.sendall(answer)
        worker.sync()
    return jobs / (time.perf_counter() - started)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=10_000_000)
    parser.add_argument("--payload", type=int, default=200, help="bytes")
    parser.add_argument("--functions", type=int, default=10)
    parser.add_argument("--drain", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the queue file is written")
    options = parser.parse_args()
    report = Report(options)
    functions = [b"backlog-%d" % number for number in range(options.functions)]
    folder = Path(tempfile.mkdtemp(prefix="queue-backlog-", dir=options.folder))
    path = folder / "queue.db"
    empty, full = (JobServerProcess(f"sqlite:///{file}") for file in (folder / "empty.db", path))
    try:
        needed = options.jobs * (options.payload + 40) * 5 // 4
        if shutil.disk_usage(folder).free < needed * 2:
            sys.exit(f"{folder} has less than {needed * 2 >> 20} MiB free: choose another --folder or fewer --jobs")
        seconds, baseline = start(empty)
        print(f"empty queue: start {seconds:.2f} s, {baseline / 2**20:.0f} MiB")
        began = time.perf_counter()
        write(path, options.jobs, options.payload, functions)
        size, began = path.stat().st_size, time.perf_counter() - began
        print(f"{options.jobs:,} jobs of {options.payload} B in {options.functions} functions, "
              f"{size / 2**20:,.0f} MiB, written in {began:.0f} s")  # fmt: skip
        took, memory = start(full)
        held = sum(total for total, _, _ in full.status().values())
        print(f"start with {held:,} queued jobs, cold: {took:.2f} s, {memory / 2**20:.0f} MiB "
              f"({(memory - baseline) / options.jobs:.2f} B per queued job above an empty queue)")  # fmt: skip
        rate = drain(full, functions, min(options.drain, options.jobs))
        print(f"drained {min(options.drain, options.jobs):,}: {rate:,.0f} jobs/s, then {full.memory() / 2**20:.0f} MiB")
        if held != options.jobs:
            raise RuntimeError(f"{held:,} jobs are queued, {options.jobs:,} were written")
        report.table("start", {
            "empty queue": {"s": [seconds], "MiB": [baseline / 2**20]},
            f"{held:,} jobs": {"s": [took], "MiB": [memory / 2**20], "then drained, jobs/s": [rate]},
        })  # fmt: skip
        report.most(
            f"start with {held:,} queued jobs, cold, to an empty queue", took - seconds, SECONDS, unit=" s more"
        )
        report.most("memory then", (memory - baseline) / 2**20, MEMORY, unit=" MiB more")
        return report.finish()
    finally:
        for server in (empty, full):
            server.destroy()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
