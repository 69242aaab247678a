"""Our job server beside Debian's gearmand, and submits beside other durable queues: rates, memory, ratios in one run.

    python benchmarks/job_server.py [--seconds 1] [--runs 3] [--only NAME …] [--long]

gearmand keeps its queue in memory, in SQLite, in MariaDB; ours in SQLite (fsync before JOB_CREATED) and in memory. Each
gets fresh data for every run, they take turns, and the load comes from a process of its own. Jobs carry 200 bytes,
and a unique each: gearmand's stores keep one job for each. Redis Streams (appendonly, appendfsync always) and
beanstalkd (-f0) take submits only; their jobs have no uniques, so ours are measured without, too. What a durable queue
has accepted must be there after a kill -9.
--long passes five million jobs through our server and watches its memory instead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import gearman_load as load
from benchmarks.tools import machine, queues, submit_load
from benchmarks.tools.figures import Report, arguments, median
from benchmarks.tools.submit_load import Dialect
from tests.servers import MariaDB, ServerProcess
from tests.servers.gearmand import Gearmand
from tests.servers.job_server import Peer
from tests.servers.service import Service

#: Measure -> its title, in order.
MEASURES = {
    "pipelined": f"submits/s, {load.BATCH} pipelined",
    "unnamed": f"submits/s, {load.BATCH} pipelined, without uniques",
    "cpu": "µs of the server's processor time for a submit without unique",
    "one": "submits/s, one at a time",
    "e2e32": "end to end jobs/s, 32 grabs",
    "e2e1": "end to end jobs/s, 1 grab",
    "bytes": "bytes per queued job",
}
#: With these, all jobs of a function without unique are one job.
ONE_UNIQUE_ONLY = ("gearmand, sqlite3", "gearmand, MySQL")
#: Fewer queued jobs say nothing about the memory of one.
FEW = 20_000
LONG = 5_000_000
#: --long: what the server may grow by after its first tenth, MiB.
GROWTH = 32


@contextmanager
def gearmand(**options: object) -> Iterator[ServerProcess]:
    with Gearmand(threads=4, verbose="ERROR", **options) as server:
        yield server


@contextmanager
def gearmand_mysql() -> Iterator[ServerProcess]:
    """Durable like ours: InnoDB writes through at every commit; without a binlog, which nobody reads."""
    with MariaDB(log_bin=None, sync_binlog=None, binlog_format=None, innodb_buffer_pool_size="256M") as database:
        database.execute("CREATE DATABASE gearman")
        database.create_user("gearman", "gearman", "ALL ON gearman.*")
        address = {"mysql_host": "127.0.0.1", "mysql_port": database.port}
        account = {"mysql_user": "gearman", "mysql_password": "gearman", "mysql_db": "gearman"}
        with gearmand(queue_type="MySQL", **address, **account) as server:
            yield server


@contextmanager
def ours(store: str) -> Iterator[ServerProcess]:
    with Service(store=store) as server:
        yield server


SERVERS: dict[str, Callable[[], AbstractContextManager[ServerProcess]]] = {
    "gearmand, memory": gearmand,
    "gearmand, sqlite3": lambda: gearmand(queue_type="libsqlite3"),
    "gearmand, MySQL": gearmand_mysql,
    "ours, SQLite": lambda: ours("sqlite:///queue.db"),
    "ours, memory": lambda: ours("memory:"),
}


#: Durable queues that take no Gearman: how to start one, to speak to it, and to count what it holds.
QUEUES: dict[str, tuple[Callable[[], AbstractContextManager[ServerProcess]], Dialect, Callable[[Any], int]]] = {
    "Redis Streams": (queues.redis_streams, submit_load.redis_streams(), queues.stream_length),
    "beanstalkd": (queues.Beanstalkd, submit_load.beanstalkd(), queues.Beanstalkd.jobs),
}


@dataclass
class Results:
    """Measure -> server -> its figures, one for each run."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=lambda: {name: {} for name in MEASURES})
    #: Jobs that were accepted and not there after a kill -9.
    lost: dict[str, int] = field(default_factory=dict)

    def add(self, measure: str, server: str, figure: float) -> None:
        self.figures[measure].setdefault(server, []).append(figure)

    def survived(self, name: str, server: ServerProcess, jobs: int, held: Callable[[Any], int]) -> None:
        """Kill the server that accepted so many jobs; it must hold them all when it is back."""
        server.kill9()
        server.start()
        found = held(server)
        self.lost[name] = self.lost.get(name, 0) + jobs - found
        print(f"  {name}: {found:,} of {jobs:,} jobs are there after kill -9", flush=True)

    def ratio(self, measure: str, ours: str, theirs: str) -> float | None:
        figures = self.figures[measure]
        if ours not in figures or theirs not in figures:
            return None
        return median(figures[ours]) / median(figures[theirs])


def measure(name: str, results: Results, process: ProcessPoolExecutor, seconds: float) -> None:
    """One run of one kind of server: a fresh one is filled, another passes jobs through."""
    with SERVERS[name]() as server:
        before = resident(server)
        submits = process.submit(submit_load.pipelined, server.port, submit_load.gearman(b"many"), seconds).result()
        results.add("pipelined", name, submits.per_second)
        if submits.jobs >= FEW:
            results.add("bytes", name, (resident(server) - before) / submits.jobs)
        if name == "ours, SQLite":
            results.survived(name, server, submits.jobs, queued)
    if name not in ONE_UNIQUE_ONLY:
        with SERVERS[name]() as server:
            submit_unnamed(name, server, submit_load.gearman(b"many", named=False), results, process, seconds)
    with SERVERS[name]() as server:
        one = process.submit(load.one_at_a_time, server.port, b"one", seconds / 2).result()
        results.add("one", name, one.per_second)
        for grabs in (1, 32):
            rate = process.submit(load.end_to_end, server.port, b"e2e%d" % grabs, seconds, grabs).result()
            results.add(f"e2e{grabs}", name, rate.per_second)


def submit_unnamed(
    name: str, server: ServerProcess, dialect: Dialect, results: Results, process: ProcessPoolExecutor, seconds: float
) -> int:
    """Returns how many jobs were accepted."""
    before = machine.cpu_seconds([server.pid])
    submits = process.submit(submit_load.pipelined, server.port, dialect, seconds).result()
    results.add("unnamed", name, submits.per_second)
    results.add("cpu", name, (machine.cpu_seconds([server.pid]) - before) / submits.jobs * 1e6)
    return submits.jobs


def measure_queue(name: str, results: Results, process: ProcessPoolExecutor, seconds: float) -> None:
    start, dialect, held = QUEUES[name]
    with start() as server:
        jobs = submit_unnamed(name, server, dialect, results, process, seconds)
        results.survived(name, server, jobs, held)


def queued(server: ServerProcess) -> int:
    """Jobs of a Gearman server, of all functions."""
    with Peer(server.port) as peer:
        lines = peer.text("status", end="\n.\n").splitlines()
        return sum(int(line.split("\t")[1]) for line in lines if line != ".")


def resident(server: ServerProcess) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096


def summarise(report: Report, results: Results) -> None:
    for measured, title in MEASURES.items():
        report.table(title, results.figures[measured], plot=True)
    for what, measured, mine, theirs, least, aim in (
        ("durable submits: SQLite to gearmand in memory", "pipelined", "ours, SQLite", "gearmand, memory", 0.3, 0.7),
        ("durable submits: SQLite to Redis Streams", "unnamed", "ours, SQLite", "Redis Streams", 0.5, 1.0),
        ("end to end, durable: SQLite to gearmand in memory", "e2e32", "ours, SQLite", "gearmand, memory", 0.3, 0.6),
        ("end to end, durable: SQLite to sqlite3", "e2e32", "ours, SQLite", "gearmand, sqlite3", 30, 60),
        ("end to end, durable: SQLite to MySQL", "e2e32", "ours, SQLite", "gearmand, MySQL", 10, 20),
        ("one submit at a time, durable: SQLite to sqlite3", "one", "ours, SQLite", "gearmand, sqlite3", 2, None),
        ("end to end, in memory", "e2e32", "ours, memory", "gearmand, memory", 0.5, None),
    ):
        found = results.ratio(measured, mine, theirs)
        if found is not None:
            report.floor(what, found, least, aim)
    for name, lost in results.lost.items():
        if name.startswith("ours"):
            report.most(f"{name}: accepted jobs lost by kill -9", lost, 0)


def long_run(report: Report, process: ProcessPoolExecutor, name: str, jobs: int) -> None:
    """Memory of our server while millions of jobs pass."""
    print(f"\n{jobs:,} jobs through {name}:")
    with SERVERS[name]() as server:
        sizes = [resident(server)]
        print(f"  {0:>12,} jobs {sizes[0] / 2**20:8.1f} MiB")
        started = time.perf_counter()
        for tenth in range(1, 11):
            process.submit(load.end_to_end, server.port, b"long", 0, 32, jobs // 10).result()
            sizes.append(resident(server))
            rate = tenth * (jobs // 10) / (time.perf_counter() - started)
            print(f"  {tenth * (jobs // 10):>12,} jobs {sizes[-1] / 2**20:8.1f} MiB, {rate:,.0f} jobs/s", flush=True)
    grown = (sizes[-1] - sizes[1]) / 2**20
    report.most(f"{name}: memory grown after the first tenth of {jobs:,} jobs", grown, GROWTH, unit=" MiB")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measure")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*SERVERS, *QUEUES], help="these servers")
    parser.add_argument("--long", action="store_true", help="memory over millions of jobs")
    parser.add_argument("--jobs", type=int, default=LONG, help="with --long")
    options = parser.parse_args()
    report = Report(options)
    names = options.only or [*SERVERS, *QUEUES]
    if not ("beanstalkd" in names and report.has("beanstalkd", queues.install_beanstalkd)):
        names = [name for name in names if name != "beanstalkd"]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        if options.long:
            for name in names:
                if name.startswith("ours"):
                    long_run(report, process, name, options.jobs)
            return report.finish()
        results = Results()
        for run in range(options.runs):
            for name in names:
                print(f"run {run + 1}: {name}", flush=True)
                (measure_queue if name in QUEUES else measure)(name, results, process, options.seconds)
    summarise(report, results)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
