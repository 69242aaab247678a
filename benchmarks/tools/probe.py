"""From commit to Redis: rows written at an even pace, and when the hash of each was there, as Redis tells it."""

from __future__ import annotations

import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier

import pymysql

from benchmarks.tools.workload import sbtest_row
from tests.servers import Redis

MAPPING = {"table": "bench.sbtest", "key": "sbtest:{id}", "type": "hash"}
#: One connection alone waits for every fsync.
WRITERS = 4
#: Nothing is told for so long, and the run is over, seconds.
SILENCE = 20.0


def write(port: int, first: int, count: int, rate: float) -> tuple[float, list[float]]:
    """Insert rows `first`… one by one at an even pace; commits a second, and when each was answered (monotonic)."""
    dice = random.Random(first)
    statements = [f"INSERT INTO sbtest VALUES {sbtest_row(dice, first + number)}" for number in range(count)]
    answered = [0.0] * count
    barrier = Barrier(WRITERS)

    def one(writer: int) -> float:
        connection = pymysql.connect(host="127.0.0.1", port=port, user="root", database="bench", autocommit=True)
        with connection, connection.cursor() as cursor:
            barrier.wait()
            began = time.monotonic()
            for number in range(writer, count, WRITERS):
                pause = began + number / rate - time.monotonic()
                if pause > 0:
                    time.sleep(pause)
                cursor.execute(statements[number])
                answered[number] = time.monotonic()
        return began

    with ThreadPoolExecutor(WRITERS) as threads:
        began = min(threads.map(one, range(WRITERS)))
    return count / (max(answered) - began), answered


def arrivals(store: Redis, first: int, count: int, writer: Future[tuple[float, list[float]]]) -> list[float]:
    """When each row's hash was written, as Redis tells it (monotonic)."""
    seen: dict[int, float] = {}
    with store.client() as client, client.pubsub(ignore_subscribe_messages=True) as told:
        told.psubscribe("__keyspace@0__:sbtest:*")
        last = time.monotonic()
        while len(seen) < count:
            message = told.get_message(timeout=1.0)
            now = time.monotonic()
            if message is not None:
                seen.setdefault(int(message["channel"].rpartition(b":")[2]), now)
                last = now
            elif now - last > SILENCE:
                if writer.done():
                    writer.result()
                raise RuntimeError(f"only {len(seen)} of {count} rows came to Redis")
    return [seen[first + number] for number in range(count)]


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
