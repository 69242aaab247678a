"""Guarded hash writes against redis-benchmark: our sink beside HSET of the same 8 fields, pipelined, on one Redis.

    python benchmarks/apply.py [--rows 80000] [--runs 3]

Private Redis (appendonly, everysec). Ours: operations of eight lanes side by side, packed, sent and answered as workers
do it, each write only where its version is newer; fresh keys, then the same keys again. Beside them the whole way of a
worker from job bytes on (JSON, mapping, packing, script). redis-benchmark: 4 connections, 100 commands in flight on
each. Processor time is that of Redis, and of the process that sends. After every run all hashes are compared. Ours uses
the native package where it is installed, and is measured without it, too.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.figures import Report, arguments, median
from benchmarks.tools.job_maker import job_maker
from benchmarks.tools.machine import cpu_seconds
from benchmarks.tools.ways import ALONE, python_alone
from syncbridge.capture.changes import Shape, Transaction
from syncbridge.config import Config, parse_config
from syncbridge.sinks.connection import connect
from syncbridge.sinks.plan import Plan
from syncbridge.sinks.sink import Sink
from syncbridge.state import State
from tests.servers import Redis

FLOOR, AIM = 0.28, 0.5
LANES, JOBS_TOGETHER = 8, 8
FIELDS = {f"field{number}": f"value{number:020d}" for number in range(8)}
FRESH, AGAIN, WORKER = "ours: fresh keys", "ours: the same keys again", "ours: again, from job bytes on"
WAYS = (FRESH, AGAIN, WORKER)
PEER = "redis-benchmark HSET"


@dataclass(frozen=True, slots=True)
class Reading:
    """Rows per second; processor time in us for each row."""

    rate: float
    redis: float
    sender: float


class Clock:
    """Runs from its making on."""

    def __init__(self, server: Redis) -> None:
        self._pids = (server.pid, os.getpid())
        self._began, self._used = time.perf_counter(), [cpu_seconds([pid]) for pid in self._pids]

    def read(self, rows: int) -> Reading:
        rate = rows / (time.perf_counter() - self._began)
        used = [cpu_seconds([pid]) - before for pid, before in zip(self._pids, self._used, strict=True)]
        return Reading(rate, *(seconds / rows * 1e6 for seconds in used))


class Silent:
    def applied(self, table: str, op: str, outcome: str, count: int) -> None: ...

    def apply_seconds(self, seconds: float) -> None: ...

    def queue_wait_seconds(self, seconds: float) -> None: ...


def jobs(rows: int, place: int) -> list[list[bytes]]:
    """Lane -> its jobs: every row once, in a transaction at this place of the binlog."""
    now = time.time_ns() // 1000
    transaction = Transaction(
        pipeline="bench", epoch=1, server_id=1, gtid="0-1-1", file="binlog.000001", file_number=1, pos=place, ts_us=now
    )
    fields = {**FIELDS, "field0": f"value{place:020d}"}
    shape = Shape("bench", "wide", ("id",), {}, (), ("id", *fields))
    lanes, kept = job_maker(LANES, keep=True)
    lanes.add_rows(transaction, shape, "c", [(number, *fields.values()) for number in range(rows)], now, 300)
    lanes.flush()
    return kept.by_lane


async def apply_plans(sink: Sink, lanes: Sequence[Sequence[Plan]]) -> None:
    async def one(number: int, plans: Sequence[Plan]) -> None:
        for plan in plans:
            await sink.perform(plan, number)

    await asyncio.gather(*(one(number, plans) for number, plans in enumerate(lanes)))


async def work(sink: Sink, lanes: Sequence[Sequence[bytes]]) -> None:
    async def one(number: int, jobs: Sequence[bytes]) -> None:
        for first in range(0, len(jobs), JOBS_TOGETHER):
            await sink.perform(sink.planner.plan(jobs[first : first + JOBS_TOGETHER], time.time()), number)

    await asyncio.gather(*(one(number, jobs) for number, jobs in enumerate(lanes)))


def planned(sink: Sink, lanes: Sequence[Sequence[bytes]]) -> list[list[Plan]]:
    return [
        [sink.planner.plan(jobs[n : n + JOBS_TOGETHER], time.time()) for n in range(0, len(jobs), JOBS_TOGETHER)]
        for jobs in lanes
    ]


def compare(server: Redis, rows: int, place: int) -> None:
    """Raises RuntimeError unless every hash is what the last write said."""
    expected = {name.encode(): text.encode() for name, text in {**FIELDS, "field0": f"value{place:020d}"}.items()}
    with server.client() as client:
        for first in range(0, rows, 5000):
            pipe = client.pipeline(transaction=False)
            for number in range(first, min(rows, first + 5000)):
                pipe.hgetall(f"wide:{number}")
            for number, found in enumerate(pipe.execute(), first):
                del found[b"_v"]
                if found.pop(b"id") != b"%d" % number or found != expected:
                    raise RuntimeError(f"wide:{number} holds {found}")


def peer(server: Redis, rows: int) -> Reading:
    """HSETs; the sender's processor time is not its own."""
    clock = Clock(server)
    pairs = [text for pair in FIELDS.items() for text in pair]
    done = subprocess.run(
        ["redis-benchmark", "-p", str(server.port), "-P", "100", "-c", "4", "-n", str(rows), "-r", str(rows), "--csv",
         "HSET", "peer:__rand_int__", *pairs],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    rate = float(done.stdout.splitlines()[-1].split('","')[1].strip('"'))
    return replace(clock.read(rows), rate=rate)


async def one_run(server: Redis, config: Config, rows: int, run: int) -> dict[str, Reading]:
    state = State.open(config.state, config.name)
    sink = Sink(config, await connect(config.sink), state, Silent())
    readings: dict[str, Reading] = {}
    for step, what in enumerate(WAYS):
        place = 10 * run + step + 1
        lanes = jobs(rows, place)
        plans = planned(sink, lanes) if what != WORKER else []
        clock = Clock(server)
        await (work(sink, lanes) if what == WORKER else apply_plans(sink, plans))
        readings[what] = clock.read(rows)
        compare(server, rows, place)
    await sink.link.close()
    state.close()
    return readings


@contextmanager
def private_redis() -> Iterator[tuple[Redis, Config]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Redis(appendonly=True, appendfsync="everysec", auto_aof_rewrite_percentage=0) as server,
    ):
        yield (
            server,
            parse_config(
                f'{{name: bench, source: {{url: "mysql://u@127.0.0.1:1"}}, sink: {{url: "{server.url()}"}},'
                f' state: "sqlite:///{folder}/state.db", mappings: [{{table: bench.wide, key: "wide:{{id}}"}}]}}'
            ),
        )


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    report = Report(options)
    readings: dict[str, list[Reading]] = {what: [] for what in (*WAYS, *(what + ALONE for what in WAYS), PEER)}
    for run in range(options.runs):
        with private_redis() as (server, config):
            found = uvloop.run(one_run(server, config, options.rows, run))  # as workers run
            for what, reading in (found | {PEER: peer(server, options.rows)}).items():
                readings[what].append(reading)
        with private_redis() as (server, config), python_alone():
            for what, reading in uvloop.run(one_run(server, config, options.rows, run)).items():
                readings[what + ALONE].append(reading)
    report.note(f"{options.rows:,} hashes, each compared after every run.")
    rates = {what: [reading.rate for reading in each] for what, each in readings.items()}
    report.table("rows/s", rates, plot=True)
    times = {
        what: {"Redis": [one.redis for one in each]}
        | ({} if what == PEER else {"sender": [one.sender for one in each]})
        for what, each in readings.items()
    }
    report.table("processor time, us for each row", times)
    for what in (FRESH, AGAIN):
        ratio = median(rates[what]) / median(rates[PEER])
        report.floor(f"guarded hash apply, {what.removeprefix('ours: ')}, to {PEER}", ratio, FLOOR, AIM)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
