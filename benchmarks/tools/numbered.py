"""Tables whose rows follow from their numbers: ten million are made by the source, and compared within Redis."""

from __future__ import annotations

from pathlib import Path

import redis

from benchmarks.tools.workload import BATCH
from tests.servers import MariaDB


def create(server: MariaDB, table: str) -> None:
    server.execute(f"CREATE TABLE bench.{table} (id INT PRIMARY KEY, k INT NOT NULL, c VARCHAR(60) NOT NULL)")


def write(server: MariaDB, table: str, rows: int, together: int, *, logged: bool = True) -> None:
    """What it writes, so many rows in a transaction, is what compare_rows.lua expects. `logged`: in the binlog."""
    with server.connect(database="bench") as connection, connection.cursor() as cursor:
        cursor.execute(f"SET SESSION sql_log_bin={int(logged)}")
        for first in range(0, rows, together):
            cursor.execute(
                f"INSERT INTO {table} SELECT seq, seq * 7919 % 100000, CONCAT('row ', REPEAT(seq, 5))"
                f" FROM seq_{first + 1}_to_{min(rows, first + together)}"
            )


def compare(client: redis.Redis, table: str, rows: int) -> None:
    """Raises RuntimeError unless Redis holds every row, under its table and id."""
    script = client.register_script((Path(__file__).parent / "compare_rows.lua").read_text())
    for first in range(1, rows + 1, BATCH):
        last = min(rows, first + BATCH - 1)
        if different := script(args=[f"{table}:", first, last]):
            raise RuntimeError(f"{different} rows of {table}, {first} to {last}, differ")
