"""Reading a whole table into Redis, beside mariadb-dump of the same table to /dev/null.

    python benchmarks/snapshot.py [--rows 200000] [--runs 3]

Private MariaDB and Redis (appendonly, everysec). Ours: from the start of the table's snapshot until every row is a
guarded hash, through the durable job server, two workers, fsync on; then `syncbridge verify` compares every row.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import machine
from benchmarks.tools.figures import Report, arguments, median
from benchmarks.tools.stages import Stages
from benchmarks.tools.workload import BATCH, create_tables, inserts, sbtest_row
from tests.servers import MariaDB, Redis

FLOOR, AIM = 0.15, 0.4
PATIENCE = 600.0
#: Beside the rows Redis holds meta and marks.
OWN_KEYS = 2
MAPPINGS = [{"table": "bench.sbtest", "key": "sbtest:{id}", "type": "hash"}]


def fill(server: MariaDB, rows: int) -> None:
    """In a session that writes no binlog: only the snapshot can bring these rows."""
    dice = random.Random(1)
    with server.connect(database="bench") as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin=0")
        for statement in inserts("sbtest", rows, lambda number: sbtest_row(dice, number)):
            cursor.execute(statement)


def ours(server: MariaDB, folder: Path, rows: int) -> tuple[float, dict[str, float]]:
    """Rows per second; processor time of each stage in us for each row, starts included."""
    with (
        Redis(appendonly=True, appendfsync="everysec", auto_aof_rewrite_percentage=0) as store,
        store.client() as client,
    ):
        with Stages(folder, server, store, MAPPINGS) as stages:
            stages.start_capture()
            deadline = time.monotonic() + PATIENCE
            while client.dbsize() < rows + OWN_KEYS:
                stages.check_running()
                if time.monotonic() > deadline:
                    raise RuntimeError(f"not read after {PATIENCE:.0f} s:\n{stages.log()}")
                time.sleep(0.01)
            ended = time.time()
            used = stages.cpu_seconds() | {"Redis": machine.cpu_seconds([store.pid])}
            stages.wait_current()
            seconds = ended - stages.snapshot_began()
        stages.verify()
    return rows / seconds, {name: spent / rows * 1e6 for name, spent in used.items()}


def dump(server: MariaDB, rows: int) -> float:
    """Rows per second of mariadb-dump."""
    began = time.perf_counter()
    subprocess.run(
        ["mariadb-dump", "--no-defaults", "--host=127.0.0.1", f"--port={server.port}", "--user=root", "--skip-ssl",
         "--single-transaction", "bench", "sbtest"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return rows / (time.perf_counter() - began)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rows = max(BATCH, options.rows // BATCH * BATCH)
    report = Report(options)
    mine, theirs, used = [], [], []
    with MariaDB(binlog_row_metadata="FULL", innodb_buffer_pool_size="512M") as server:
        create_tables(server)
        fill(server, rows)
        for number in range(options.runs):
            folder = Path(tempfile.mkdtemp(prefix="snapshot-"))
            try:
                rate, spent = ours(server, folder, rows)
            finally:
                shutil.rmtree(folder)
            mine.append(rate)
            used.append(spent)
            theirs.append(dump(server, rows))
            print(f"run {number + 1}: ours {mine[-1]:,.0f}, mariadb-dump {theirs[-1]:,.0f}", flush=True)
    report.note(f"{rows:,} rows; `verify` found 0 differences after each run of ours.")
    report.table("rows/s", {"ours": mine, "mariadb-dump": theirs}, plot=True)
    times = {f"ours: {name}": [spent[name] for spent in used] for name in used[0]}
    report.table("processor time, us for each row, starts included", times)
    report.floor("snapshot to mariadb-dump to /dev/null", median(mine) / median(theirs), FLOOR, AIM)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
