"""Our job server beside Debian's gearmand: the same load on both, rates, memory, and their ratios in one run.

    python benchmarks/job_server.py [--seconds 1] [--runs 3] [--only NAME …] [--long]

gearmand keeps its queue in memory, in SQLite, in MariaDB; ours in SQLite (fsync before JOB_CREATED) and in memory. Each
gets fresh data for every run, they take turns, and the load comes from a process of its own. Jobs carry 200 bytes.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import gearman_load as load
from benchmarks.tools.figures import Report, arguments, median
from tests.servers import MariaDB, ServerProcess
from tests.servers.gearmand import Gearmand
from tests.servers.service import Service

#: Measure -> its title, in order.
MEASURES = {
    "pipelined": f"submits/s, {load.BATCH} pipelined",
    "one": "submits/s, one at a time",
    "e2e32": "end to end jobs/s, 32 grabs",
    "e2e1": "end to end jobs/s, 1 grab",
    "bytes": "bytes per queued job",
}
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


@dataclass
class Results:
    """Measure -> server -> its figures, one for each run."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=lambda: {name: {} for name in MEASURES})

    def add(self, measure: str, server: str, figure: float) -> None:
        self.figures[measure].setdefault(server, []).append(figure)

    def ratio(self, measure: str, ours: str, theirs: str) -> float | None:
        figures = self.figures[measure]
        if ours not in figures or theirs not in figures:
            return None
        return median(figures[ours]) / median(figures[theirs])


def measure(name: str, results: Results, process: ProcessPoolExecutor, seconds: float) -> None:
    """One run of one kind of server: a fresh one is filled, another passes jobs through."""
    with SERVERS[name]() as server:
        before = resident(server)
        submits = process.submit(load.pipelined, server.port, b"many", seconds).result()
        results.add("pipelined", name, submits.per_second)
        if submits.jobs >= FEW:
            results.add("bytes", name, (resident(server) - before) / submits.jobs)
    with SERVERS[name]() as server:
        one = process.submit(load.one_at_a_time, server.port, b"one", seconds / 2).result()
        results.add("one", name, one.per_second)
        for grabs in (1, 32):
            rate = process.submit(load.end_to_end, server.port, b"e2e%d" % grabs, seconds, grabs).result()
            results.add(f"e2e{grabs}", name, rate.per_second)


def resident(server: ServerProcess) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096


def summarise(report: Report, results: Results) -> None:
    for measured, title in MEASURES.items():
        report.table(title, results.figures[measured], plot=True)
    for what, measured, mine, theirs, least in (
        ("end to end, durable: SQLite to sqlite3", "e2e32", "ours, SQLite", "gearmand, sqlite3", 30),
        ("end to end, durable: SQLite to MySQL", "e2e32", "ours, SQLite", "gearmand, MySQL", 8),
        ("one submit at a time, durable: SQLite to sqlite3", "one", "ours, SQLite", "gearmand, sqlite3", 2),
        ("end to end, in memory", "e2e32", "ours, memory", "gearmand, memory", 0.5),
    ):
        found = results.ratio(measured, mine, theirs)
        if found is not None:
            report.floor(what, found, least)


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
    parser.add_argument("--only", nargs="+", choices=SERVERS, help="these servers")
    parser.add_argument("--long", action="store_true", help="memory over millions of jobs")
    parser.add_argument("--jobs", type=int, default=LONG, help="with --long")
    options = parser.parse_args()
    report = Report(options)
    names = options.only or list(SERVERS)
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
                measure(name, results, process, options.seconds)
    summarise(report, results)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
