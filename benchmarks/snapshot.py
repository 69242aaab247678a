"""Reading a whole table into Redis, beside mariadb-dump of the same table to /dev/null; and the memory that it takes.

    python benchmarks/snapshot.py [--rows 200000] [--runs 3] [--long]

Private MariaDB and Redis (appendonly, everysec). Ours: from the start of the table's snapshot until every row is a
guarded hash, through the durable job server, two workers, fsync on; then `syncbridge verify` compares every row.
Memory is the most that each process had. Ours uses the native package where it is installed, and does it once in
Python alone. With --long it is all that is looked at: a narrow table of ten million rows is read beside one of a
hundredth of them, and every row is compared within Redis.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import machine, memory, numbered
from benchmarks.tools.figures import Report, arguments, median
from benchmarks.tools.stages import Stages
from benchmarks.tools.ways import ALONE, python_alone
from benchmarks.tools.workload import BATCH, create_tables, inserts, sbtest_row
from tests.servers import MariaDB, Redis

FLOOR, AIM = 0.15, 0.4
LONG, BESIDE = 10_000_000, 100_000
#: MiB that a process may have more for it.
MEMORY = 256
PATIENCE = 3600.0
#: Beside the rows Redis holds meta and marks.
OWN_KEYS = 2


@dataclass(frozen=True, slots=True)
class Passage:
    """How one table came through: rows per second; by process, us of processor time for each row, and MiB at most."""

    rate: float
    cpu: dict[str, float]
    memory: dict[str, float]


def fill(server: MariaDB, rows: int) -> None:
    """In a session that writes no binlog: only the snapshot can bring these rows."""
    dice = random.Random(1)
    with server.connect(database="bench") as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin=0")
        for statement in inserts("sbtest", rows, lambda number: sbtest_row(dice, number)):
            cursor.execute(statement)


def ours(server: MariaDB, table: str, rows: int, compare: Callable[[Stages, redis.Redis], None]) -> Passage:
    """Read a table, then `compare` it. Processor time has starts in it."""
    folder = Path(tempfile.mkdtemp(prefix="snapshot-"))
    mapping = {"table": f"bench.{table}", "key": f"{table}:{{id}}", "type": "hash"}
    try:
        with (
            Redis(appendonly=True, appendfsync="everysec", auto_aof_rewrite_percentage=0) as store,
            store.client() as client,
            Stages(folder, server, store, [mapping]) as stages,
        ):
            stages.start_capture()
            with memory.watched(stages.pids()) as most:
                deadline = time.monotonic() + PATIENCE
                while client.dbsize() < rows + OWN_KEYS:
                    stages.check_running()
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"not read after {PATIENCE:.0f} s:\n{stages.log()}")
                    time.sleep(0.01)
                ended = time.time()
                used = stages.cpu_seconds() | {"Redis": machine.cpu_seconds([store.pid])}
                stages.wait_current(PATIENCE)  # its sweep looks at every key again
            seconds = ended - stages.snapshot_began()
            compare(stages, client)
    finally:
        shutil.rmtree(folder)
    return Passage(rows / seconds, {name: spent / rows * 1e6 for name, spent in used.items()}, most)


def verified(stages: Stages, client: redis.Redis) -> None:
    stages.verify()


def dump(server: MariaDB, rows: int) -> float:
    """Rows per second of mariadb-dump."""
    began = time.perf_counter()
    subprocess.run(
        ["mariadb-dump", "--no-defaults", "--host=127.0.0.1", f"--port={server.port}", "--user=root", "--skip-ssl",
         "--single-transaction", "bench", "sbtest"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return rows / (time.perf_counter() - began)


def beside_dump(report: Report, server: MariaDB, rows: int, runs: int) -> None:
    fill(server, rows)
    mine: list[Passage] = []
    theirs: list[float] = []
    for number in range(runs):
        mine.append(ours(server, "sbtest", rows, verified))
        if not number:
            with python_alone():
                alone = ours(server, "sbtest", rows, verified).rate
        theirs.append(dump(server, rows))
        print(f"run {number + 1}: ours {mine[-1].rate:,.0f}, mariadb-dump {theirs[-1]:,.0f}", flush=True)
    rates = [one.rate for one in mine]
    report.note(f"{rows:,} rows; `verify` found 0 differences after each run of ours.")
    report.table("rows/s", {"ours": rates, "ours" + ALONE: [alone], "mariadb-dump": theirs}, plot=True)
    times = {f"ours: {name}": [one.cpu[name] for one in mine] for name in mine[0].cpu}
    report.table("processor time, us for each row, starts included", times)
    report.table("memory at most, MiB", {name: [one.memory[name] for one in mine] for name in mine[0].memory})
    report.floor("snapshot to mariadb-dump to /dev/null", median(rates) / median(theirs), FLOOR, AIM)


def long_table(report: Report, server: MariaDB) -> None:
    found: dict[int, Passage] = {}
    for rows in (BESIDE, LONG):
        table = f"rows_{rows}"
        numbered.create(server, table)
        numbered.write(server, table, rows, 100_000, logged=False)
        found[rows] = ours(server, table, rows, partial(compared, table, rows))
    report.note(f"{LONG:,} narrow rows; every one was compared within Redis.")
    report.table("rows/s", {f"{rows:,} rows": [one.rate] for rows, one in found.items()})
    sizes = {f"{rows:,} rows": {name: [size] for name, size in one.memory.items()} for rows, one in found.items()}
    report.table("memory at most, MiB", sizes)
    grown = max(size - found[BESIDE].memory[name] for name, size in found[LONG].memory.items())
    report.most(f"memory of any process, {LONG:,} rows to {BESIDE:,}", grown, MEMORY, unit=" MiB more")


def compared(table: str, rows: int, stages: Stages, client: redis.Redis) -> None:
    numbered.compare(client, table, rows)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--long", action="store_true", help=f"{LONG:,} rows instead")
    options = parser.parse_args()
    report = Report(options)
    with MariaDB(binlog_row_metadata="FULL", innodb_buffer_pool_size="512M") as server:
        create_tables(server)
        if options.long:
            long_table(report, server)
        else:
            beside_dump(report, server, max(BATCH, options.rows // BATCH * BATCH), options.runs)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
