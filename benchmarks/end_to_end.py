"""Catching up: a mixed backlog from the binlog through the durable job server into guarded hashes in Redis.

    python benchmarks/end_to_end.py [--rows 300000] [--runs 3] [--without debezium naive]

Private MariaDB and Redis (appendonly, everysec). The backlog is written while nothing reads. Then, taking turns: our
stages (job server with fsync, capture, two workers), timed from the moment the source begins to send until the last row
of every lane is in Redis; the loop that people write (mysql-replication, redis-py), and Debezium's engine with no sink
at all, both timed from their first event. After each of ours `syncbridge verify` compares every row.
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
from pymysql.cursors import Cursor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import debezium, machine, naive
from benchmarks.tools.debezium import Debezium
from benchmarks.tools.figures import Report, arguments, median
from benchmarks.tools.stages import Stages
from benchmarks.tools.workload import ROWS, TABLES, create_tables, total, write_workload
from syncbridge.capture.connection import Position
from tests.servers import MariaDB, Redis

#: Peer -> what it is; how many times as fast we are at least, and what we aim at.
PEERS = {"debezium": "Debezium's engine, no sink", "naive": "mysql-replication + redis-py"}
FLOORS = {"debezium": (2.0, 3.6), "naive": (5.0, 10.0)}
OURS = "ours, durable and guarded"
#: The last transaction: a row for every lane, many times over. Once all are there, everything before them is, too.
LAST, LAST_ROWS = "last", 256
MAPPINGS = [{"table": f"bench.{table}", "key": f"{table}:{{id}}", "type": "hash"} for table in (*TABLES, LAST)]
#: Catching up takes seconds; a machine with other work gets its time.
PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class CatchUp:
    """One run of ours. CPU: seconds of processor time, by process."""

    seconds: float
    cpu: dict[str, float]


class Ours:
    """Our stages, made ready once at the start of the backlog and put back there before every run."""

    def __init__(self, server: MariaDB, store: Redis, folder: Path) -> None:
        self._server, self._redis = server, store
        self._folder, self._ready = folder / "pipeline", folder / "ready"
        self._kept: dict[bytes, bytes] = {}

    def prepare(self) -> None:
        """Read the empty tables; keep the state, and what Redis holds."""
        with self._stages() as stages:
            stages.start_capture()
            stages.wait_current()
        shutil.copytree(self._folder, self._ready)
        with self._redis.client() as client:
            self._kept = {key: client.dump(key) for key in client.scan_iter("*")}

    def _stages(self) -> Stages:
        return Stages(self._folder, self._server, self._redis, MAPPINGS)

    def run(self) -> CatchUp:
        """Catch up, then verify. Raises RuntimeError on a difference."""
        shutil.rmtree(self._folder)
        shutil.copytree(self._ready, self._folder)
        with self._redis.client() as client, self._server.connect() as connection:
            client.flushdb()
            for key, value in self._kept.items():
                client.restore(key, 0, value)
            with self._stages() as stages, connection.cursor() as cursor:
                known = dumps(cursor)
                stages.start_capture()
                while not dumps(cursor) - known:
                    stages.check_running()
                    time.sleep(0.005)
                began, before = time.perf_counter(), self._cpu(stages)
                wait_for_last(client, stages)
                seconds, after = time.perf_counter() - began, self._cpu(stages)
        stages.verify()
        return CatchUp(seconds, {name: used - before[name] for name, used in after.items()})

    def _cpu(self, stages: Stages) -> dict[str, float]:
        servers = {"MariaDB": self._server.pid, "Redis": self._redis.pid}
        return stages.cpu_seconds() | {name: machine.cpu_seconds([pid]) for name, pid in servers.items()}


def dumps(cursor: Cursor) -> set[int]:
    """Connections to which the source sends its binlog."""
    cursor.execute("SHOW PROCESSLIST")
    return {row[0] for row in cursor.fetchall() if row[4] == "Binlog Dump"}


def wait_for_last(client: redis.Redis, stages: Stages) -> None:
    names = [f"{LAST}:{number}" for number in range(LAST_ROWS)]
    deadline = time.monotonic() + PATIENCE
    while client.exists(*names) < LAST_ROWS:
        stages.check_running()
        if time.monotonic() > deadline:
            raise RuntimeError(f"not caught up after {PATIENCE:.0f} s:\n{stages.log()}")
        time.sleep(0.005)


def write_backlog(server: MariaDB, rows: int) -> tuple[Position, int]:
    """Where it begins, and how many row changes it has."""
    ranges = write_workload(server, rows / ROWS)
    values = ",".join(f"({number})" for number in range(LAST_ROWS))
    server.execute(f"INSERT INTO bench.{LAST} VALUES {values}")
    return ranges["all"][0], total(rows / ROWS) + LAST_ROWS


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="in the backlog")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without", nargs="+", default=[], choices=FLOORS, help="leave peers out")
    options = parser.parse_args()
    report = Report(options)
    peers = [name for name in FLOORS if name not in options.without]
    if "debezium" in peers and not report.has(PEERS["debezium"], debezium.install):
        peers.remove("debezium")
    folder = Path(tempfile.mkdtemp(prefix="end-to-end-"))
    try:
        with (
            MariaDB(binlog_row_metadata="FULL", innodb_buffer_pool_size="512M") as server,
            Redis(appendonly=True, appendfsync="everysec", auto_aof_rewrite_percentage=0) as store,
        ):
            compare(report, server, store, folder, peers, options.rows, options.runs)
    finally:
        shutil.rmtree(folder)
    return report.finish()


def compare(
    report: Report, server: MariaDB, store: Redis, folder: Path, peers: list[str], wanted: int, runs: int
) -> None:
    create_tables(server)
    server.execute(f"CREATE TABLE bench.{LAST} (id INT PRIMARY KEY)")
    ours, engine = Ours(server, store, folder), Debezium(server, folder / "debezium")
    if "debezium" in peers:
        engine.prepare()
    ours.prepare()
    start, rows = write_backlog(server, wanted)
    print(f"{rows:,} row changes wait", flush=True)

    def mirror_naively() -> tuple[float, float]:
        with store.client(db=1) as client:
            client.flushdb()
            times = naive.mirror(server, start, client, LAST)
            client.flushdb()
        return times

    others: dict[str, Callable[[], tuple[float, float]]] = {
        "debezium": lambda: engine.read(rows),
        "naive": mirror_naively,
    }
    rates: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
    used: list[dict[str, float]] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(runs):
        catch_up = ours.run()
        rates["ours"].append(rows / catch_up.seconds)
        used.append(catch_up.cpu)
        for name in peers:
            seconds, spent = others[name]()
            rates[name].append(rows / seconds)
            theirs[name].append(spent / rows * 1e6)
        print(
            f"run {number + 1}: " + ", ".join(f"{name} {figures[-1]:,.0f}" for name, figures in rates.items()),
            flush=True,
        )
    report.note(f"{rows:,} row changes; `verify` found 0 differences after each run of ours.")
    report.table("rows/s", {PEERS.get(name, OURS): figures for name, figures in rates.items()}, plot=True)
    used = [spent | {"together": sum(spent.values())} for spent in used]
    table = {f"ours: {name}": [spent[name] / rows * 1e6 for spent in used] for name in used[0]}
    table |= {f"{PEERS[name]}, itself": figures for name, figures in theirs.items()}
    report.table("processor time, us for each row", table, plot=True)
    for name in peers:
        ratio = median(rates["ours"]) / median(rates[name])
        report.floor(f"end to end, mixed backlog, to {PEERS[name]}", ratio, *FLOORS[name])


if __name__ == "__main__":
    sys.exit(main())
