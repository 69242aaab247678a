"""What a trigger costs its statement: a plain table, one with the outbox trigger, ones whose triggers call our UDF.

    python benchmarks/triggers.py [--seconds 1] [--runs 5] [--only mariadb mysql]

Private servers with durable settings (innodb_flush_log_at_trx_commit=1, sync_binlog=1). The tables are sysbench's;
INSERTs of 1 row and of 1,000 rows, autocommit, over 1 and 8 connections. The UDF sends its jobs to our job server
with a durable and with a volatile queue, and to gearmand; each time as it is, and compiled without its pool of
connections, so that it connects per call. All variants take turns in every run; a row whose job was not accepted fails
the whole.
Rates are rows per second, medians with the range; the database's CPU time per row says more beside other work.

At the end: how long single-row statements take while the job server is well, frozen, stopped, and never answers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.figures import Report, arguments, median
from syncbridge.capture.schema import TableSchema, load_tables
from syncbridge.capture.trigger.install import install
from syncbridge.capture.trigger.render import Trigger, outbox_table, table_triggers
from syncbridge.commands.gearman_udf.build import build
from syncbridge.commands.gearman_udf.source import LIBRARY
from syncbridge.commands.gearman_udf.source import folder as source_folder
from syncbridge.seams import hints_function
from tests.servers import MariaDB, MySQL, ServerProcess, SqlServer
from tests.servers.black_hole import BlackHole
from tests.servers.gearmand import Gearmand
from tests.servers.process import process_cpu
from tests.servers.service import Service

SERVERS: dict[str, type[SqlServer]] = {"mariadb": MariaDB, "mysql": MySQL}
PLAIN, OUTBOX = "plain", "outbox"
#: Job server -> what it is.
QUEUES = {"durable": "ours, durable", "volatile": "ours, volatile", "gearmand": "gearmand, volatile"}
#: The library without its pool; its function goes by another name, so that both fit into one server.
PER_CALL_LIBRARY = "per_call.so"
#: Build -> its library, and the function that its triggers call.
BUILDS = {"pooled": (LIBRARY, "gman_do_background"), "per call": (PER_CALL_LIBRARY, "gman_do_high_background")}
#: Variant -> its table, which has a pipeline of that name: an outbox and a queue function of its own.
VARIANTS = {PLAIN: "plain", OUTBOX: "outboxed"} | {
    f"UDF, {name}: {title}": f"{queue}_{name.replace(' ', '_')}" for queue, title in QUEUES.items() for name in BUILDS
}
TROUBLED = "durable_pooled"
#: Time-outs of the UDF while rates are measured, and as they are, ms.
NEVER, USUAL = 60_000, 200


class Shape(NamedTuple):
    """Who inserts how."""

    connections: int
    rows: int

    def __str__(self) -> str:
        noun = "row" if self.rows == 1 else "rows"
        return f"{self.connections} x {self.rows:,} {noun}"


SHAPES = (Shape(1, 1), Shape(8, 1), Shape(1, 1000), Shape(8, 1000))
#: Measured for so many times as long: a statement of it takes half a second.
LONG, TIMES = SHAPES[-1], 4


class Reading(NamedTuple):
    """One measure: rows, wall seconds, CPU seconds of the database and of the variant's job server."""

    rows: int
    wall: float
    cpu: float
    jobs_cpu: float

    @property
    def rate(self) -> float:
        return self.rows / self.wall


Results = dict[tuple[str, Shape], list[Reading]]


# The server


@contextmanager
def job_servers() -> Iterator[dict[str, ServerProcess]]:
    """By the names of QUEUES."""
    with Service(store="sqlite:///queue.db") as durable, Service(store="memory:") as volatile, Gearmand() as gearmand:
        yield {"durable": durable, "volatile": volatile, "gearmand": gearmand}


@contextmanager
def prepared(kind: type[SqlServer], jobs: dict[str, ServerProcess]) -> Iterator[SqlServer]:
    """A database server with both libraries, pointed to the job servers, and the tables with their triggers."""
    with tempfile.TemporaryDirectory() as folder:
        plugins = build(Path(folder)).parent
        plugins.chmod(0o755)
        per_call(plugins)
        with kind(plugin_dir=str(plugins), innodb_buffer_pool_size="512M", max_connections=50) as server:
            server.execute("CREATE DATABASE bench")
            server.database = "bench"
            for library, function in reversed(BUILDS.values()):
                use_library(server, library)
                server.execute(f"CREATE FUNCTION {function} RETURNS STRING SONAME '{library}'")
                for table in VARIANTS.values():
                    if job_server := queue_of(jobs, table):
                        point_to(server, table, job_server.port)
                patience(server, NEVER)
            make_tables(server)
            yield server


def use_library(server: SqlServer, library: str) -> None:
    """Settings are this library's from here on."""
    for name, kind in (("gman_servers_set", "STRING"), ("gman_option_set", "INTEGER")):
        server.execute(f"DROP FUNCTION IF EXISTS {name}", f"CREATE FUNCTION {name} RETURNS {kind} SONAME '{library}'")


def patience(server: SqlServer, milliseconds: int) -> None:
    for option in ("connect_timeout", "reply_timeout"):
        server.execute(f"SELECT gman_option_set('{option}', {milliseconds})")


def per_call(folder: Path) -> None:
    """The library that closes its connection after each call."""
    command = ["cc", "-O2", "-std=gnu11", "-fPIC", "-fvisibility=hidden", "-pthread", "-shared", "-DMAX_IDLE=0"]
    subprocess.run([*command, "-o", folder / PER_CALL_LIBRARY, source_folder() / "syncbridge_udf.c"], check=True)


def point_to(server: SqlServer, table: str, port: int) -> None:
    server.execute(f"SELECT gman_servers_set('127.0.0.1:{port}', '{hints_function(table)}')")


def make_tables(server: SqlServer) -> None:
    for table in VARIANTS.values():
        server.execute(
            f"CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, k INT NOT NULL, c CHAR(120) NOT NULL,"
            " pad CHAR(60) NOT NULL, KEY k (k))"
        )
    with server.connect() as connection:
        schemas = load_tables(connection, [("bench", table) for table in VARIANTS.values()])
        for table in list(VARIANTS.values())[1:]:
            install(connection, table, triggers(server, schemas["bench", table]))


def triggers(server: SqlServer, schema: TableSchema) -> list[Trigger]:
    """As `syncbridge triggers install` makes them; the call goes to the build that the table is for."""
    transport = "outbox" if schema.table == VARIANTS[OUTBOX] else "udf"
    made = table_triggers(schema.table, schema, ("id",), mariadb=server.flavor == "mariadb", transport=transport)
    pooled, other = (function for _, function in BUILDS.values())
    if not schema.table.endswith("per_call"):
        return made
    return [one._replace(statement=one.statement.replace(pooled, other)) for one in made]


def empty(server: SqlServer, table: str) -> None:
    """Each measure begins with an empty table, and with an outbox that capture has emptied."""
    server.execute(f"TRUNCATE {table}")
    if table != VARIANTS[PLAIN]:
        server.execute(f"TRUNCATE {outbox_table(table)}")


# Load


def statement(table: str, rows: int) -> str:
    values = ", ".join(f"({n * 7919 % 100_000}, '{'c' * 110}{n:010d}', '{'p' * 50}{n:010d}')" for n in range(rows))
    return f"INSERT INTO {table} (k, c, pad) VALUES {values}"


def measure(server: SqlServer, jobs: ServerProcess | None, table: str, shape: Shape, seconds: float) -> Reading:
    """Insert for about `seconds`."""

    def cpu() -> tuple[float, float]:
        return process_cpu(server.pid), process_cpu(jobs.pid) if jobs else 0.0

    sql, done = statement(table, shape.rows), [0] * shape.connections
    barrier = threading.Barrier(shape.connections + 1)
    over = threading.Event()

    def insert(me: int) -> None:
        with barrier_kept(barrier), server.connect() as connection:
            connection.query(sql)
            barrier.wait()
            while not over.is_set():
                connection.query(sql)
                done[me] += shape.rows
            barrier.wait()

    threads = [threading.Thread(target=insert, args=(me,)) for me in range(shape.connections)]
    for thread in threads:
        thread.start()
    barrier.wait()
    before, started = cpu(), time.perf_counter()
    over.wait(seconds)
    over.set()
    barrier.wait()
    wall, after = time.perf_counter() - started, cpu()
    for thread in threads:
        thread.join()
    return Reading(sum(done), wall, after[0] - before[0], after[1] - before[1])


@contextmanager
def barrier_kept(barrier: threading.Barrier) -> Iterator[None]:
    """Nobody waits for a session that failed."""
    try:
        yield
    except BaseException:
        barrier.abort()
        raise


def compare(server: SqlServer, jobs: dict[str, ServerProcess], runs: int, seconds: float) -> Results:
    results: Results = {}
    for run in range(runs):
        print(f"run {run + 1}", flush=True)
        for shape in SHAPES:
            for variant, table in VARIANTS.items():
                empty(server, table)
                span = seconds * TIMES if shape == LONG else seconds
                reading = measure(server, queue_of(jobs, table), table, shape, span)
                results.setdefault((variant, shape), []).append(reading)
                if variant not in (PLAIN, OUTBOX) and (lost := fallen_back(server, table)):
                    sys.exit(f"{lost} jobs of {variant} were not accepted")
    return results


def queue_of(jobs: dict[str, ServerProcess], table: str) -> ServerProcess | None:
    """The job server of a variant's table."""
    return jobs.get(table.partition("_")[0])


def fallen_back(server: SqlServer, table: str) -> int:
    """Changes that went into the outbox because no job server took them."""
    return int(server.value(f"SELECT COUNT(*) FROM {outbox_table(table)}"))


# Job servers that do not answer


def latencies(server: SqlServer, seconds: float) -> list[float]:
    """Milliseconds of each single-row statement under the UDF's trigger, ascending."""
    sql, found, started = statement(TROUBLED, 1), [], time.perf_counter()
    with server.connect() as connection:
        while time.perf_counter() - started < seconds:
            at = time.perf_counter()
            connection.query(sql)
            found.append((time.perf_counter() - at) * 1000)
    return sorted(found)


def trouble(report: Report, server: SqlServer, jobs: ServerProcess, seconds: float) -> None:
    """What a user's statement waits, with the time-outs as they are, and how many changes the outbox took."""
    found: dict[str, dict[str, list[float]]] = {}

    def show(what: str) -> None:
        empty(server, TROUBLED)
        took = latencies(server, seconds)
        times = {name: [took[int(len(took) * part)]] for name, part in (("median", 0.5), ("99 %", 0.99))}
        more = {"slowest": [took[int(len(took) * 0.9999)]], "mean": [sum(took) / len(took)]}
        found[what] = times | more | {"rows in the outbox": [fallen_back(server, TROUBLED)]}

    patience(server, USUAL)
    show("job server well")
    jobs.freeze()
    show("job server frozen")
    jobs.thaw()
    jobs.stop()
    show("job server stopped")
    with BlackHole() as hole:
        point_to(server, TROUBLED, hole.port)
        show("never answers")
    jobs.start()
    report.table(f"{server.flavor}: single-row INSERT with the UDF's trigger, ms", found)


# Figures


def summarise(report: Report, results: Results, server: str) -> None:
    def table(title: str, figure: Callable[[Reading], float]) -> None:
        rows = {v: {str(shape): [figure(r) for r in results[v, shape]] for shape in SHAPES} for v in VARIANTS}
        report.table(f"{server}: {title}", rows)

    table("rows/s", lambda reading: reading.rate)
    table("us for each row", lambda reading: 1e6 / reading.rate)
    table("processor time of the database, us for each row", lambda reading: 1e6 * reading.cpu / reading.rows)
    table("processor time of the job server, us for each row", lambda r: 1e6 * r.jobs_cpu / r.rows)


def ratio(results: Results, of: str, to: str, shape: Shape, figure: Callable[[Reading], float]) -> float:
    """The median of the runs' own ratios, since what slows a run slows both."""
    pairs = zip(results[of, shape], results[to, shape], strict=True)
    return median([figure(one) / figure(other) for one, other in pairs])


def added(results: Results, variant: str, shape: Shape) -> float:
    """Microseconds of a row beyond those of the plain table."""
    return 1e6 * median(
        [1 / it.rate - 1 / plain.rate for it, plain in zip(results[variant, shape], results[PLAIN, shape], strict=True)]
    )


def floors(report: Report, results: Results, server: str) -> None:
    """Medians of the ratios of each run. MySQL's are told without a floor.

    The pool's floor is for sessions that write at the same time, and for rows that cost a call. One that costs an fsync
    costs it either way; and one session alone waits for a round trip, to which a connection over loopback adds another.
    """

    def check(what: str, found: float, least: float | None) -> None:
        if least is None or server != "mariadb":
            report.note(f"{server}, {what}: {found:.1f}x.")
        else:
            report.floor(what, found, least)

    for shape in SHAPES:
        found = ratio(results, OUTBOX, PLAIN, shape, lambda reading: reading.rate)
        check(f"outbox to plain, {shape}", found, 0.7 if shape.rows == 1 else 0.25)
    for queue, title in QUEUES.items():
        for shape in SHAPES:
            variants = f"UDF, pooled: {title}", f"UDF, per call: {title}"
            found = ratio(results, *variants, shape, lambda reading: reading.rate)
            cpu = 1 / ratio(results, *variants, shape, lambda reading: (reading.cpu + reading.jobs_cpu) / reading.rows)
            what = f"UDF pooled to per call, {title}, {shape} (by CPU {cpu:.1f}x)"
            check(what, found, 3 if queue == "volatile" and shape == LONG else None)
        pooled, per_call = (added(results, variant, LONG) for variant in variants)
        report.note(f"{server}, what the UDF adds to the time of a row, per call to pooled, {title}, {LONG}: "
                    f"{per_call / pooled:.1f}x ({per_call:.0f} and {pooled:.0f} us).")  # fmt: skip


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measure")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=list(SERVERS), help="these databases")
    options = parser.parse_args()
    report = Report(options)
    for name in options.only:
        with job_servers() as jobs, prepared(SERVERS[name], jobs) as server:
            print(f"== {server.value('SELECT VERSION()')} ({name})")
            results = compare(server, jobs, options.runs, options.seconds)
            summarise(report, results, name)
            floors(report, results, name)
            trouble(report, server, jobs["durable"], 2.5 * options.seconds)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
