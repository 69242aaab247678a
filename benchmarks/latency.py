"""From commit to Redis: how long a single-row transaction takes at 1,000 of them a second.

    python benchmarks/latency.py [--rate 1000] [--seconds 15] [--runs 3]

Private MariaDB (fsync at every commit) and Redis (appendonly, everysec). Four connections of one process insert rows at
an even pace and note when each commit was answered; Redis tells of each hash as it is written (keyspace notifications).
At the end `syncbridge verify` compares every row. Floors: half of the rows within 10 ms, 99 % within 60 ms.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.figures import Report, arguments, median
from benchmarks.tools.probe import MAPPING, arrivals, percentile, write
from benchmarks.tools.stages import Stages
from benchmarks.tools.workload import create_tables
from tests.servers import MariaDB, Redis

#: Percentile -> milliseconds at most, and what we aim at.
FLOORS = {50: (10.0, 4.0), 99: (60.0, 20.0)}
#: A run says nothing when the source fell further behind the asked rate.
REACHED = 0.95
#: Rows at the start that are not counted, seconds: connections and caches get warm.
WARM_UP = 1.0


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rate", type=float, default=1000, help="transactions a second")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    report = Report(options)
    count, ignored = int(options.rate * (options.seconds + WARM_UP)), int(options.rate * WARM_UP)
    figures: dict[float, list[float]] = {50: [], 90: [], 99: [], 100: []}
    rates: list[float] = []
    folder = Path(tempfile.mkdtemp(prefix="latency-"))
    try:
        with (
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process,
            MariaDB(binlog_row_metadata="FULL") as server,
            Redis(appendonly=True, appendfsync="everysec", notify_keyspace_events="Kh") as store,
        ):
            create_tables(server)
            with Stages(folder / "pipeline", server, store, [MAPPING]) as stages:
                stages.start_capture()
                stages.wait_current()
                for run in range(options.runs):
                    first = run * count
                    writer = process.submit(write, server.port, first, count, options.rate)
                    came = arrivals(store, first, count, writer)
                    rate, answered = writer.result()
                    rates.append(rate)
                    waits = [1000 * (there - here) for here, there in zip(answered, came, strict=True)][ignored:]
                    for percent, found in figures.items():
                        found.append(percentile(waits, percent))
                    latest = ", ".join(f"p{percent:g} {found[-1]:.1f} ms" for percent, found in figures.items())
                    print(f"run {run + 1}: {rate:,.0f} transactions/s, {latest}", flush=True)
            stages.verify()
    finally:
        shutil.rmtree(folder)
    report.note("`verify` found 0 differences.")
    report.table("commit to Redis, ms", {f"p{percent}": found for percent, found in figures.items()}, plot=True)
    report.table("transactions/s", {"source": rates})
    report.floor("transactions/s that the source reached, to those asked for", median(rates) / options.rate, REACHED)
    for percent, (most, aim) in FLOORS.items():
        what = f"commit to Redis at {options.rate:,.0f} single-row transactions/s, p{percent}"
        report.most(what, median(figures[percent]), most, aim, " ms")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
