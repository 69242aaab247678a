"""Scale: workers and lanes against catching up; and what a row costs, in time and memory, when many rows wait.

    python benchmarks/scale.py [--runs 1] [--backlogs 10000,100000,1000000] [--transaction 300000] [--long]

Private MariaDB and Redis (appendonly, everysec), fsync on. First a mixed backlog of the binlog is caught up with by 1,
2 and 4 workers, with a lane each and with 8 lanes. Then rows are captured into the durable queue while no worker runs,
and after that two workers empty it: as many as --backlogs says in transactions of 1,000 rows, and --transaction rows in
a single one. Costs are processor time of all our stages and of Redis; memory is the most that each process had. --long
is 10 k, 1 M, and 10 M rows, and 5 M in one transaction. After each, every hash is compared with what was written, up to
100,000 rows by `syncbridge verify`, too.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import machine, memory, numbered
from benchmarks.tools.catch_up import Ours, create_last, write_backlog
from benchmarks.tools.figures import Report, arguments
from benchmarks.tools.stages import LANES, Stages
from benchmarks.tools.workload import BATCH, create_tables
from tests.servers import MariaDB, Redis

WORKERS = (1, 2, 4)
LONG, LONG_TRANSACTION = "10000,1000000,10000000", 5_000_000
#: How much more a row of the longest backlog may cost than one of the shortest.
COST = 1.5
#: MiB that a process may have more: the job server keeps 128 of payloads in hand at most, and 64 of SQLite's pages.
MEMORY = 256
#: Rows up to which `verify` looks, too: it takes longer than all the rest.
VERIFIED = 100_000
#: Beside the rows Redis holds meta and marks.
OWN_KEYS = 2
#: Ten million rows take minutes.
PATIENCE = 3600.0
REDIS = {"appendonly": True, "appendfsync": "everysec", "auto_aof_rewrite_percentage": 0}


# Workers and lanes


def workers_and_lanes(report: Report, server: MariaDB, folder: Path, runs: int, wanted: int) -> None:
    create_tables(server)
    create_last(server)
    rates: dict[str, list[float]] = {}
    with Redis(**REDIS) as store:
        ours = {lanes: Ours(server, store, folder / f"lanes-{lanes}", lanes) for lanes in {*WORKERS, LANES}}
        for one in ours.values():
            one.prepare()
        _, rows = write_backlog(server, wanted)
        for _ in range(runs):
            for workers in WORKERS:
                for lanes in (workers, LANES):
                    name = f"ours: workers {workers}, lanes {lanes}"
                    rates.setdefault(name, []).append(rows / ours[lanes].run(workers).seconds)
    report.note(f"{rows:,} row changes wait for 1, 2 and 4 workers.")
    report.table("catching up, rows/s", rates, plot=True)


# Rows that wait


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows of a table of its own, so many in a transaction."""

    rows: int
    together: int

    @property
    def table(self) -> str:
        return f"rows_{self.rows}_{self.together}"

    def __str__(self) -> str:
        return f"{self.rows:,} rows" + (" in one transaction" if self.together == self.rows else "")

    def create(self, server: MariaDB) -> None:
        numbered.create(server, self.table)

    def write(self, server: MariaDB) -> None:
        numbered.write(server, self.table, self.rows, self.together)

    def compare(self, client: redis.Redis) -> None:
        """Raises RuntimeError unless Redis holds every row."""
        numbered.compare(client, self.table, self.rows)


@dataclass(frozen=True, slots=True)
class Passage:
    """How a backlog came through: seconds into the queue and out of it, processor time and memory (MiB) by process."""

    captured: float
    applied: float
    cpu: dict[str, float]
    memory: dict[str, float]


def passage(server: MariaDB, folder: Path, backlog: Backlog) -> Passage:
    """Capture a backlog into the queue, then let workers have it, then verify. Who is not on stands frozen."""
    mapping = {"table": f"bench.{backlog.table}", "key": f"{backlog.table}:{{id}}", "type": "hash"}
    backlog.create(server)
    with (
        Redis(**REDIS) as store,
        store.client() as client,
        Stages(folder / backlog.table, server, store, [mapping], queue={"max_bytes": "64GiB"}) as stages,
    ):
        stages.start_capture()
        stages.wait_current()
        stages.freeze("capture")
        stages.freeze("worker")
        backlog.write(server)
        end, before = server.binlog_position(), cpu(stages, store)
        with memory.watched(stages.pids()) as most:
            stages.thaw("capture")
            captured = until(lambda: stages.captured() >= end, stages)
            stages.thaw("worker")
            applied = until(lambda: client.dbsize() >= backlog.rows + OWN_KEYS, stages)
        used = {name: spent - before[name] for name, spent in cpu(stages, store).items()}
        backlog.compare(client)
        if backlog.rows <= VERIFIED:
            stages.verify()
    return Passage(captured, applied, used, most)


def cpu(stages: Stages, store: Redis) -> dict[str, float]:
    return stages.cpu_seconds() | {"Redis": machine.cpu_seconds([store.pid])}


def until(done: Callable[[], bool], stages: Stages) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    while not done():
        stages.check_running()
        if time.perf_counter() - began > PATIENCE:
            raise RuntimeError(f"not done after {PATIENCE:.0f} s:\n{stages.log()}")
        time.sleep(0.01)
    return time.perf_counter() - began


def backlogs(report: Report, server: MariaDB, folder: Path, scenes: list[Backlog]) -> None:
    """The last scene is the single transaction, the one before it the longest backlog."""
    found = {scene: passage(server, folder, scene) for scene in scenes}
    rates: dict[str, dict[str, list[float]]] = {}
    costs: dict[str, dict[str, list[float]]] = {}
    sizes: dict[str, dict[str, list[float]]] = {}
    for scene, passed in found.items():
        name, cost = f"ours: {scene}", {name: used / scene.rows * 1e6 for name, used in passed.cpu.items()}
        rates[name] = {"into the queue": [scene.rows / passed.captured], "out of it": [scene.rows / passed.applied]}
        costs[name] = {name: [us] for name, us in cost.items()} | {"together": [sum(cost.values())]}
        sizes[name] = {name: [size] for name, size in passed.memory.items()}
    report.table("queued rows/s", rates, plot=True)
    report.table("processor time, us for each row", costs)
    report.table("memory at most, MiB", sizes)

    def cost(scene: Backlog) -> float:
        return sum(found[scene].cpu.values()) / scene.rows

    first, longest, single = scenes[0], scenes[-2], scenes[-1]
    report.most(f"cost of a row, {longest} to {first}", cost(longest) / cost(first), COST, unit="x")
    for scene in (longest, single):
        grown = max(size - found[first].memory[name] for name, size in found[scene].memory.items())
        report.most(f"memory of any process, {scene} to {first}", grown, MEMORY, unit=" MiB more")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="of the mixed backlog")
    parser.add_argument("--runs", type=int, default=1, help="of each number of workers")
    parser.add_argument("--backlogs", default="10000,100000,1000000", help="rows")
    parser.add_argument("--transaction", type=int, default=300_000, help="rows")
    parser.add_argument("--long", action="store_true", help=f"--backlogs {LONG} --transaction {LONG_TRANSACTION}")
    options = parser.parse_args()
    report = Report(options)
    sizes = [int(size) for size in (LONG if options.long else options.backlogs).split(",")]
    single = LONG_TRANSACTION if options.long else options.transaction
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        with MariaDB(binlog_row_metadata="FULL", innodb_buffer_pool_size="1G", net_write_timeout=3600) as server:
            workers_and_lanes(report, server, folder, options.runs, options.rows)
            backlogs(report, server, folder, [*(Backlog(size, BATCH) for size in sizes), Backlog(single, single)])
    finally:
        shutil.rmtree(folder)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
