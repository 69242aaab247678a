"""The mixed workload: multi-row inserts, single-row update transactions, rich types, multi-row deletes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import orjson

from syncbridge.capture.connection import Position
from tests.servers import MariaDB

#: Segment -> its rows at scale 1: 300,000 altogether.
SEGMENTS = {"inserts": 150_000, "updates": 50_000, "rich": 70_000, "deletes": 30_000}
ROWS = sum(SEGMENTS.values())
TABLES = ("sbtest", "rich")
BATCH = 1000
WORDS = ("alpha", "beta", "Grüße", "delta epsilon", "日本語", "zeta")

Ranges = dict[str, tuple[Position, Position]]


def create_tables(server: MariaDB) -> None:
    server.execute(
        "CREATE DATABASE bench",
        "CREATE TABLE bench.sbtest (id INT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL)",
        "CREATE TABLE bench.rich (id BIGINT UNSIGNED PRIMARY KEY, amount DECIMAL(12,2), made DATETIME(6),"
        " name VARCHAR(100), doc JSON, state ENUM('new','paid','sent'), photo BLOB, note VARCHAR(50), ratio DOUBLE)",
    )


def sizes_at(scale: float) -> dict[str, int]:
    """Segment -> its rows."""
    return {name: max(BATCH, int(rows * scale) // BATCH * BATCH) for name, rows in SEGMENTS.items()}


def total(scale: float) -> int:
    return sum(sizes_at(scale).values())


def write_workload(server: MariaDB, scale: float) -> Ranges:
    """Write each segment into a binlog file of its own; segment -> (start, end), and "all"."""
    dice = random.Random(1)
    sizes = sizes_at(scale)
    top = sizes["inserts"]
    segments: dict[str, Iterator[str]] = {
        "inserts": inserts("sbtest", top, lambda number: sbtest_row(dice, number)),
        "updates": (f"UPDATE sbtest SET k = k + 1 WHERE id = {dice.randrange(top)}" for _ in range(sizes["updates"])),
        "rich": inserts("rich", sizes["rich"], lambda number: rich_row(dice, number)),
        "deletes": (
            f"DELETE FROM sbtest WHERE id BETWEEN {first} AND {first + BATCH - 1}"
            for first in range(0, sizes["deletes"], BATCH)
        ),
    }
    ranges: Ranges = {}
    with server.connect(database="bench") as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL sync_binlog=0, GLOBAL innodb_flush_log_at_trx_commit=0")
        for name, statements in segments.items():
            cursor.execute("FLUSH BINARY LOGS")
            start = Position(*server.binlog_position())
            for statement in statements:
                cursor.execute(statement)
            ranges[name] = (start, Position(*server.binlog_position()))
    ranges["all"] = (ranges["inserts"][0], ranges["deletes"][1])
    return ranges


def inserts(table: str, count: int, row: Callable[[int], str]) -> Iterator[str]:
    for start in range(0, count, BATCH):
        yield f"INSERT INTO {table} VALUES " + ",".join(row(number) for number in range(start, start + BATCH))


def sbtest_row(dice: random.Random, number: int) -> str:
    digits = "-".join(f"{dice.randrange(10**11):011d}" for _ in range(10))
    return f"({number},{dice.randrange(10**6)},'{digits}','{digits[:59]}')"


def rich_row(dice: random.Random, number: int) -> str:
    document = orjson.dumps({"tags": [dice.choice(WORDS), dice.choice(WORDS)], "count": number}).decode()
    note = "NULL" if number % 3 == 0 else f"'{dice.choice(WORDS)}'"
    made = f"20{dice.randrange(10, 30)}-0{dice.randrange(1, 10)}-11 12:13:14.{dice.randrange(10**6):06d}"
    return (
        f"({number},{dice.randrange(10**10) / 100},'{made}','{dice.choice(WORDS)} {number}','{document}',"
        f"{dice.randrange(1, 4)},x'{dice.randbytes(40).hex()}',{note},{dice.random()})"
    )
