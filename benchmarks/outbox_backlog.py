"""Trigger capture with a backlog: what a row of the outbox costs with 1 k, 100 k and 1 M others in the table.

    python benchmarks/outbox_backlog.py [--server mariadb|mysql] [--backlogs 1000,100000,1000000] [--take 10000]

Three kinds of others: rows that a crash left, waiting; rows that were deleted and that InnoDB cannot purge because
somebody's read view needs them; rows of a transaction that is still open. The cost of a row that waits is CPU time of
the server and of this process, so that other load does not count, and rows/s is wall time; beside unpurged and
uncommitted rows it is the time of a poll that finds a few. Rounds visit every backlog in turn. Floor: with the longest
backlog a row that waits costs at most 1.5 times what it costs with the shortest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.figures import Report, arguments, median
from syncbridge.capture.trigger.outbox import Outbox
from syncbridge.capture.trigger.render import outbox_statements
from tests.servers import MariaDB, MySQL, SqlServer

MOST = 1.5
ROUNDS = 3
#: Polls with a few new rows each.
POLLS, FEW = 30, 5
#: The same durability for all; what is measured is not the disk.
OPTIONS = {"sync_binlog": 0, "innodb_flush_log_at_trx_commit": 2, "innodb_buffer_pool_size": "2G"}


class Box:
    """One outbox that is kept at `rows` rows."""

    def __init__(self, server: SqlServer, name: str, rows: int) -> None:
        self.server, self.name, self.rows = server, name, rows
        server.execute(*outbox_statements(name))
        #: Of each round: microseconds of CPU a row and rows a second; or milliseconds a poll.
        self.cost: list[float] = []
        self.rate: list[float] = []

    @contextmanager
    def reading(self) -> Iterator[Outbox]:
        """As a capture that starts behind a crash: everything that is there was read once."""
        outbox = Outbox(self.name, lambda: self.server.connect(read_timeout=60))
        outbox.last = self.server.value(f"SELECT MAX(id) FROM syncbridge.outbox_{self.name}")
        with closing(outbox):
            yield outbox

    def add(self, rows: int, cursor: Any) -> None:
        head = f"INSERT INTO syncbridge.outbox_{self.name} (written_us, op, db, name, new_key, new_row) VALUES "
        row = "(1, 'c', 'shop', 'orders', '{\"id\": 1}', REPEAT('x', 300))"
        for start in range(0, rows, 1000):
            cursor.execute(head + ",".join([row] * min(1000, rows - start)))

    def fill(self, rows: int) -> None:
        with self.server.connect() as connection, connection.cursor() as cursor:
            self.add(rows, cursor)

    def take(self, outbox: Outbox, rows: int) -> None:
        """Read and delete so many."""
        used, began, done = cpu_seconds(self.server), time.perf_counter(), 0
        while done < rows:
            found = [row.id for row in outbox.poll()]
            outbox.delete(found)
            done += len(found)
        self.cost.append((cpu_seconds(self.server) - used) / done * 1e6)
        self.rate.append(done / (time.perf_counter() - began))

    def poll_few(self, outbox: Outbox) -> None:
        """Milliseconds of a poll that finds a few rows: the median."""
        times = []
        while len(times) < POLLS:
            self.fill(FEW)
            began = time.perf_counter()
            found = [row.id for row in outbox.poll()]
            took = (time.perf_counter() - began) * 1000
            if found:  # after a slow poll it rests
                times.append(took)
                outbox.delete(found)
        self.cost.append(median(times))


def cpu_seconds(server: SqlServer) -> float:
    """Of the server and of this process so far."""
    spent = (process.cpu_times() for process in (psutil.Process(server.pid), psutil.Process()))
    return sum(times.user + times.system for times in spent)


def waiting(boxes: list[Box], take: int) -> None:
    for box in boxes:
        with box.reading() as outbox:
            box.take(outbox, take)
        box.fill(take)


def unpurged(boxes: list[Box], _: int) -> None:
    for box in boxes:
        with box.server.connect(autocommit=False) as viewer, viewer.cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM syncbridge.outbox_{box.name} LIMIT 1")  # makes its read view
            with box.reading() as outbox:
                box.server.execute(f"DELETE FROM syncbridge.outbox_{box.name} WHERE id > 0")
                box.poll_few(outbox)
        box.fill(box.rows)


def uncommitted(boxes: list[Box], _: int) -> None:
    for box in boxes:
        box.server.execute(f"DELETE FROM syncbridge.outbox_{box.name} WHERE id > 0")
        box.fill(1)
        with box.reading() as outbox, box.server.connect(autocommit=False) as other, other.cursor() as cursor:
            box.add(box.rows, cursor)
            box.poll_few(outbox)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--backlogs", default="1000,100000,1000000")
    parser.add_argument("--take", type=int, default=10_000)
    options = parser.parse_args()
    sizes = [int(size) for size in options.backlogs.split(",")]
    kind = MariaDB if options.server == "mariadb" else MySQL
    report = Report(options)
    with kind(**OPTIONS) as server:
        boxes = [Box(server, f"b{size}", size) for size in sizes]
        for box in boxes:
            box.fill(max(box.rows, options.take))
        for scene, unit in ((waiting, "us of CPU a row"), (unpurged, "ms a poll"), (uncommitted, "ms a poll")):
            for box in boxes:
                box.cost, box.rate = [], []
            for _ in range(ROUNDS if scene is waiting else 1):
                scene(boxes, options.take)
            figures = {f"{box.rows:,} others": {unit: box.cost, "rows/s": box.rate} for box in boxes}
            report.table(f"the others are {scene.__name__}", figures)
            if scene is waiting:
                ratio = median(boxes[-1].cost) / median(boxes[0].cost)
                report.most("outbox row, longest backlog to shortest", ratio, MOST, unit="x")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
