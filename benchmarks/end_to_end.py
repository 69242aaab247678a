"""Catching up: a mixed backlog from the binlog through the durable job server into guarded hashes in Redis.

    python benchmarks/end_to_end.py [--rows 300000] [--runs 3] [--without debezium naive] [--profile]

Private MariaDB and Redis (appendonly, everysec). The backlog is written while nothing reads. Then, taking turns: our
stages (job server with fsync, capture, two workers), timed from the moment the source begins to send until the last row
of every lane is in Redis; the loop that people write (mysql-replication, redis-py), and Debezium's engine with no sink
at all, both timed from their first event. After each of ours `syncbridge verify` compares every row.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import debezium, naive, profile
from benchmarks.tools.catch_up import LAST, Ours, create_last, write_backlog
from benchmarks.tools.debezium import Debezium
from benchmarks.tools.figures import Report, arguments, median
from benchmarks.tools.missing import MissingPeer
from benchmarks.tools.workload import ROWS, create_tables
from tests.servers import MariaDB, Redis

#: Peer -> what it is; how many times as fast we are at least, and what we aim at.
PEERS = {"debezium": "Debezium's engine, no sink", "naive": "mysql-replication + redis-py"}
FLOORS = {"debezium": (2.0, 3.6), "naive": (5.0, 10.0)}
OURS = "ours, durable and guarded"


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="in the backlog")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without", nargs="+", default=[], choices=FLOORS, help="leave peers out")
    parser.add_argument("--profile", action="store_true", help="one more run of ours under py-spy")
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
            ours = compare(report, server, store, folder, peers, options.rows, options.runs)
            if options.profile and report.has("profiles", profile.install):
                profiler = profile.Profiler()
                ours.run(during=profiler.watch)
                for process, functions in profiler.found.items():
                    report.table(f"time of {process}, %", functions)
    finally:
        shutil.rmtree(folder)
    return report.finish()


def compare(
    report: Report, server: MariaDB, store: Redis, folder: Path, peers: list[str], wanted: int, runs: int
) -> Ours:
    create_tables(server)
    create_last(server)
    ours, engine = Ours(server, store, folder), Debezium(server, folder / "debezium")
    if "debezium" in peers and not report.has(PEERS["debezium"], engine.prepare):
        peers.remove("debezium")
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
        for name in list(peers):
            try:
                seconds, spent = others[name]()
            except MissingPeer as reason:
                report.missing(PEERS[name], str(reason))
                peers.remove(name)
                del rates[name], theirs[name]
                continue
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
    alone = {
        f"ours: {name}": [median([rows / max(spent[name], 0.01) for spent in used])]
        for name in used[0]
        if name != "together"
    }
    report.table("with a core of its own, rows/s (on paper)", alone)
    for name in peers:
        ratio = median(rates["ours"]) / median(rates[name])
        report.floor(f"end to end, mixed backlog, to {PEERS[name]}", ratio, *FLOORS[name])
    return ours


if __name__ == "__main__":
    sys.exit(main())
