"""Decode speed: our reader (rows, and rows as orjson event envelopes) against other people's on the same binlog.

    python benchmarks/decode.py [--scale 0.3] [--runs 3]

Starts a private MariaDB, writes the mixed workload (multi-row inserts, single-row update transactions, rich types,
multi-row deletes), then reads it over the network from the start, each reader several times, taking turns. Rates are
medians with the range. Floors are ratios of events as JSON, by processor time: each reader keeps one core busy.
Ours uses the native package where it is installed, and is measured without it, too.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import zongji
from benchmarks.tools.figures import Report, arguments, median
from benchmarks.tools.job_maker import job_maker
from benchmarks.tools.missing import MissingPeer
from benchmarks.tools.ways import ALONE, python_alone
from benchmarks.tools.workload import TABLES, create_tables, write_workload
from syncbridge.capture.binlog.events import Gtid, Rows, Single
from syncbridge.capture.binlog.reader import BinlogReader
from syncbridge.capture.binlog.stream import BinlogStream
from syncbridge.capture.capture import COLLECT_SECONDS
from syncbridge.capture.changes import Shape, Transaction
from syncbridge.capture.connection import ConnectionSettings, Position, connect, identify, start_dump
from syncbridge.capture.schema import load_tables
from syncbridge.capture.start import file_number
from syncbridge.garbage import relax_garbage_collection
from tests.servers import MariaDB

ROWS, JSON = "ours: rows as tuples", "ours: events as JSON"
LIBRARY = "mysql-replication"
#: (segment, reader) -> how many times as fast we are at least, JSON included, and what we aim at.
FLOORS = {("all", LIBRARY): (8.0, 12.0), ("updates", LIBRARY): (15.0, 25.0), ("all", zongji.POWERSYNC): (0.7, 1.0)}
LANES = 8
TYPES: dict[str, dict[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a range of the binlog. CPU time is the reader's own: it says more on a machine with other work."""

    rows: int
    wall: float
    cpu: float


#: reader -> segment -> its readings
Results: TypeAlias = dict[str, dict[str, list[Reading]]]


class Stopwatch:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, rows: int) -> Reading:
        return Reading(rows, time.perf_counter() - self._wall, time.process_time() - self._cpu)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--scale", type=float, default=0.2, help="1 is 300,000 rows")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    report = Report(options)
    with MariaDB(binlog_row_metadata="FULL", innodb_buffer_pool_size="256M") as server:
        create_tables(server)
        ranges = write_workload(server, options.scale)
        readers: dict[str, Callable[[MariaDB, Position, Position], Reading]] = {
            ROWS: read_rows,
            JSON: read_json,
            JSON + ALONE: python_alone()(read_json),
            LIBRARY: read_library,
        }
        for package in (zongji.VLASKY, zongji.POWERSYNC):
            if report.has(package, partial(zongji.install, package)):
                readers[package] = partial(read_zongji, package)
        results: Results = {name: {} for name in readers}
        for _ in range(options.runs):
            for name, read in list(readers.items()):
                for segment, (start, end) in ranges.items():
                    gc.collect()
                    try:
                        reading = read(server, start, end)
                    except MissingPeer as reason:
                        report.missing(name, str(reason))
                        del readers[name], results[name]
                        break
                    results[name].setdefault(segment, []).append(reading)
    summarise(report, results)
    return report.finish()


def summarise(report: Report, results: Results) -> None:
    def rates(name: str, segment: str, clock: str) -> list[float]:
        return [reading.rows / getattr(reading, clock) for reading in results[name][segment]]

    for title, clock in (("rows/s", "wall"), ("rows/s of processor time", "cpu")):
        table = {name: {s: rates(name, s, clock) for s in segments} for name, segments in results.items()}
        report.table(title, table, plot=clock == "cpu")
    for (segment, name), (least, aim) in FLOORS.items():
        if name in results:
            wall, cpu = (median(rates(JSON, segment, c)) / median(rates(name, segment, c)) for c in ("wall", "cpu"))
            what = "mixed binlog" if segment == "all" else "single-row transactions"
            report.floor(f"decode + JSON, {what}, to {name} (by wall time {wall:.2g}x)", cpu, least, aim)


# Readers of `start` to `end`, timed from the first bytes received


@contextmanager
def garbage_as_in_capture() -> Iterator[None]:
    """Our stages look for reference cycles less often than Python by itself does; others are left as they come."""
    before = gc.get_threshold()
    relax_garbage_collection()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def dump(server: MariaDB, start: Position) -> tuple[BinlogStream, BinlogReader]:
    settings = ConnectionSettings(host="127.0.0.1", port=server.port, user="root", ssl_verify="off")
    connection = connect(settings)
    tables = load_tables(connection, [("bench", table) for table in TABLES])
    TYPES.update({table: schema.types() for (_, table), schema in tables.items()})
    start_dump(connection, identify(connection), start, 99_001)
    return BinlogStream(connection), BinlogReader(lambda db, table: tables.get((db, table)))


@garbage_as_in_capture()
def read_rows(server: MariaDB, start: Position, end: Position) -> Reading:
    stream, reader = dump(server, start)
    count = 0
    stream.receive(10)
    watch = Stopwatch()
    while True:
        for item in reader.read(stream):
            if isinstance(item, Rows):
                count += len(item.rows)
        if (reader.file, reader.pos) >= (end.file, end.pos):
            break
        stream.receive(10)
    reading = watch.read(count)
    stream.close()
    return reading


@garbage_as_in_capture()
def read_json(server: MariaDB, start: Position, end: Position) -> Reading:
    """Every row in the jobs that capture makes, cut at the same moments."""
    stream, reader = dump(server, start)
    count = 0
    shapes: dict[str, Shape] = {}
    lanes, _ = job_maker(LANES)
    transaction: Transaction | None = None
    flush_by = 0.0
    stream.receive(10)
    watch = Stopwatch()
    while True:
        for item in reader.read(stream):
            if type(item) is Gtid or type(item) is Single:
                pos = item.start if isinstance(item, Single) else item.pos
                gtid, file, ts_us = item.gtid or "", item.file, item.ts * 1_000_000
                transaction = Transaction("bench", 1, 1, gtid, file, file_number(file), pos, ts_us)
            if isinstance(item, Rows):
                assert transaction is not None
                name, number = item.schema.table, len(item.rows)
                if name not in shapes:
                    shapes[name] = Shape("bench", name, ("id",), TYPES[name], (), item.columns)
                now = time.time_ns() // 1000
                lanes.add_rows(transaction, shapes[name], item.op, item.rows, now, 2 * item.size // number + 16)
                count += number
        if time.monotonic() > flush_by:
            lanes.flush()
            flush_by = time.monotonic() + COLLECT_SECONDS
        if (reader.file, reader.pos) >= (end.file, end.pos):
            break
        stream.receive(10)
    lanes.flush()
    reading = watch.read(count)
    stream.close()
    return reading


def read_library(server: MariaDB, start: Position, end: Position) -> Reading:
    """mysql-replication's own iteration over rows. On MariaDB it ignores a start position: it starts by GTID."""
    expected = expected_rows(server, start, end)
    reader = BinLogStreamReader(
        connection_settings={
            "host": "127.0.0.1",
            "port": server.port,
            "user": "root",
            "passwd": "",
            "ssl_disabled": True,
        },
        server_id=99_002,
        is_mariadb=True,
        auto_position=server.value(f"SELECT BINLOG_GTID_POS('{start.file}', {start.pos})"),
        blocking=True,
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
        only_schemas=["bench"],
    )
    count = skipped = len(next(iter(reader)).rows)  # connects, which is not timed with ours either
    watch = Stopwatch()
    for event in reader:
        count += len(event.rows)
        if count >= expected:
            break
    reading = watch.read(count - skipped)
    reader.close()
    return reading


def read_zongji(package: str, server: MariaDB, start: Position, end: Position) -> Reading:
    """The rows of a reader for Node; it makes no JSON."""
    rows = expected_rows(server, start, end)
    return Reading(rows, *zongji.read(package, server, start, rows))


_counts: dict[tuple[Position, Position], int] = {}


def expected_rows(server: MariaDB, start: Position, end: Position) -> int:
    """How many rows a range has: our first reading of it counted them."""
    if (start, end) not in _counts:
        _counts[start, end] = read_rows(server, start, end).rows
    return _counts[start, end]


if __name__ == "__main__":
    sys.exit(main())
