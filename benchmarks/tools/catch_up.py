"""Our stages catching up with a backlog of the mixed workload: made ready once, put back to its start for every run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import redis
from pymysql.cursors import Cursor

from benchmarks.tools import machine
from benchmarks.tools.stages import LANES, WORKERS, Stages
from benchmarks.tools.workload import ROWS, TABLES, total, write_workload
from syncbridge.capture.connection import Position
from tests.servers import MariaDB, Redis

#: The last transaction: a row for every lane, many times over. Once all are there, everything before them is, too.
LAST, LAST_ROWS = "last", 256
MAPPINGS = [{"table": f"bench.{table}", "key": f"{table}:{{id}}", "type": "hash"} for table in (*TABLES, LAST)]
#: Catching up takes seconds; a machine with other work gets its time.
PATIENCE = 600.0
#: What goes on while stages catch up; name -> process id.
During = Callable[[dict[str, int]], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class CatchUp:
    """One run of ours. CPU: seconds of processor time, by process."""

    seconds: float
    cpu: dict[str, float]


class Ours:
    """Our stages, made ready once at the start of the backlog and put back there before every run."""

    def __init__(self, server: MariaDB, store: Redis, folder: Path, lanes: int = LANES) -> None:
        self._server, self._redis, self._lanes = server, store, lanes
        self._folder, self._ready = folder / "pipeline", folder / "ready"
        self._kept: dict[bytes, bytes] = {}

    def prepare(self) -> None:
        """Read the empty tables; keep the state, and what Redis holds."""
        with self._redis.client() as client:
            client.flushdb()
        with self._stages(WORKERS) as stages:
            stages.start_capture()
            stages.wait_current()
        shutil.copytree(self._folder, self._ready)
        with self._redis.client() as client:
            self._kept = {key: client.dump(key) for key in client.scan_iter("*")}

    def _stages(self, workers: int) -> Stages:
        return Stages(self._folder, self._server, self._redis, MAPPINGS, workers=workers, lanes=self._lanes)

    def run(self, workers: int = WORKERS, during: During = nullcontext) -> CatchUp:
        """Catch up, within `during` of the stages' processes, then verify. Raises RuntimeError on a difference."""
        shutil.rmtree(self._folder)
        shutil.copytree(self._ready, self._folder)
        with self._redis.client() as client, self._server.connect() as connection:
            client.flushdb()
            for key, value in self._kept.items():
                client.restore(key, 0, value)
            with self._stages(workers) as stages, connection.cursor() as cursor:
                known = dumps(cursor)
                stages.start_capture()
                while not dumps(cursor) - known:
                    stages.check_running()
                    time.sleep(0.005)
                with during(stages.pids()):
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


def create_last(server: MariaDB) -> None:
    server.execute(f"CREATE TABLE bench.{LAST} (id INT PRIMARY KEY)")


def write_last(server: MariaDB) -> None:
    values = ",".join(f"({number})" for number in range(LAST_ROWS))
    server.execute(f"INSERT INTO bench.{LAST} VALUES {values}")


def write_backlog(server: MariaDB, rows: int) -> tuple[Position, int]:
    """Where it begins, and how many row changes it has."""
    ranges = write_workload(server, rows / ROWS)
    write_last(server)
    return ranges["all"][0], total(rows / ROWS) + LAST_ROWS
