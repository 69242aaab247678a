"""Live: sysbench's oltp_write_only at full speed, mirrored meanwhile; how far behind Redis is, and for how long after.

    python benchmarks/live.py [--seconds 15] [--runs 2] [--threads 4] [--rows 20000] [--rate 0]

Private MariaDB (fsync at every commit) and Redis (appendonly, everysec). sysbench runs once alone, then while the
pipeline mirrors its tables, on the same cores. A probe inserts rows at an even pace into a table of its own; its lag is
the time from a row's commit to its hash. Catching up is timed from sysbench's end until every lane is empty. At the end
`syncbridge verify` compares every row. --rate: transactions a second that sysbench tries; 0 is as many as it can.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from subprocess import Popen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import sysbench
from benchmarks.tools.catch_up import LAST, create_last, wait_for_last, write_last
from benchmarks.tools.figures import Report, arguments
from benchmarks.tools.probe import MAPPING, arrivals, percentile, write
from benchmarks.tools.stages import Stages
from benchmarks.tools.workload import create_tables
from tests.servers import MariaDB, Redis

#: Rows a second of the probe.
PROBES = 50
#: Seconds that sysbench runs longer, so that no probe is without it.
LONGER = 2
NAMES = [*(f"sbtest{number + 1}" for number in range(sysbench.TABLES)), LAST]
MAPPINGS = [MAPPING] + [{"table": f"bench.{name}", "key": f"{name}:{{id}}", "type": "hash"} for name in NAMES]


@dataclass(slots=True)
class Runs:
    """Figures of each run: rows written a second; percentiles of the probe's lag, s; seconds until all was in Redis."""

    alone: list[float] = field(default_factory=list)
    mirrored: list[float] = field(default_factory=list)
    lag: dict[float, list[float]] = field(default_factory=lambda: {50: [], 99: [], 100: []})
    behind: list[float] = field(default_factory=list)


def mirrored(
    server: MariaDB, store: Redis, stages: Stages, load: Callable[[], Popen[str]], seconds: int, runs: Runs
) -> None:
    """One run of sysbench and the probe beside it."""
    server.execute(f"DELETE FROM bench.{LAST}")
    count = PROBES * seconds
    first = len(runs.mirrored) * count
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process, store.client() as client:
        running = load()
        writer = process.submit(write, server.port, first, count, PROBES)
        came = arrivals(store, first, count, writer)
        wrote = sysbench.result(running)
        began = time.perf_counter()
        write_last(server)
        wait_for_last(client, stages)
        runs.behind.append(time.perf_counter() - began)
        waits = [there - here for here, there in zip(writer.result()[1], came, strict=True)]
    runs.mirrored.append(wrote.row_changes / wrote.seconds)
    for percent, found in runs.lag.items():
        found.append(percentile(waits, percent))


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=int, default=15, help="of each run")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=4, help="of sysbench")
    parser.add_argument("--rows", type=int, default=20_000, help="in each of its tables")
    parser.add_argument("--rate", type=int, default=0, help="its transactions a second; 0: no limit")
    options = parser.parse_args()
    report = Report(options)
    if not report.has("sysbench", sysbench.install):
        return report.finish()
    outlasting = options.seconds + LONGER
    settings = [f"--threads={options.threads}", f"--rate={options.rate}", f"--time={outlasting}"]
    runs = Runs()
    with (
        tempfile.TemporaryDirectory(prefix="live-") as folder,
        MariaDB(binlog_row_metadata="FULL", innodb_buffer_pool_size="512M") as server,
        Redis(appendonly=True, appendfsync="everysec", notify_keyspace_events="Kh") as store,
    ):
        create_tables(server)
        create_last(server)
        sysbench.prepare(server, options.rows)
        load = partial(sysbench.start, server, options.rows, "run", *settings)
        for _ in range(options.runs):
            wrote = sysbench.result(load())
            runs.alone.append(wrote.row_changes / wrote.seconds)
        with Stages(Path(folder), server, store, MAPPINGS) as stages:
            stages.start_capture()
            stages.wait_current()
            for _ in range(options.runs):
                mirrored(server, store, stages, load, options.seconds, runs)
        stages.verify()
    report.note(f"{options.threads} connections of sysbench; `verify` found 0 differences.")
    report.table("rows written/s", {"sysbench alone": runs.alone, "sysbench, mirrored": runs.mirrored}, plot=True)
    report.table("lag, s", {f"commit to Redis, p{percent}": found for percent, found in runs.lag.items()}, plot=True)
    report.table("after sysbench's end, s", {"until everything is in Redis": runs.behind})
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
