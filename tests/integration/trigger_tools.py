"""What tests of trigger capture share: a table, its pipeline, and sessions that change it at random."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql

from tests.pipeline import Pipeline
from tests.servers import Redis, SqlServer

ORDERS = "CREATE TABLE orders (id INT PRIMARY KEY, customer INT, total DECIMAL(10,2), note TEXT, at TIMESTAMP(3) NULL)"

#: Deadlock, lock wait time-out, record changed since it was read (MariaDB); killed, gone away, lost.
_THEIRS = (1213, 1205, 1020, 1927, 2003, 2006, 2013)


def triggered(
    folder: Path, source: SqlServer, redis: Redis, mappings: list[dict[str, Any]], **trigger: Any
) -> Pipeline:
    """A pipeline with `capture: trigger`; `trigger`: that section of sync.yaml."""
    pipeline = Pipeline(folder, source, redis, mappings)
    pipeline.settings["source"] |= {"capture": "trigger", "trigger": trigger}
    pipeline.write_config()
    return pipeline


def orders_pipeline(folder: Path, source: SqlServer, redis: Redis) -> Pipeline:
    """The table `orders`, mapped, on a source that knows nothing of us."""
    source.execute(ORDERS)
    mappings: list[dict[str, Any]] = [{"table": f"{source.database}.orders", "key": "order:{id}"}]
    pipeline = triggered(folder, source, redis, mappings)
    source.execute("DROP DATABASE IF EXISTS syncbridge")
    return pipeline


def insert(source: SqlServer, *numbers: int) -> None:
    rows = ",".join(f"({n}, {n % 7}, {n}.5, 'note {n} ü', '2026-03-29 01:30:00.123')" for n in numbers)
    columns = "id, customer, total, note, at"
    source.execute("SET time_zone = '+02:00'", f"INSERT INTO orders ({columns}) VALUES {rows}")


def end_in_part(connection: Any, cursor: Any) -> None:
    """Roll back the transaction under way, then commit one that keeps order 1 and takes back order 2."""
    connection.rollback()
    cursor.execute("UPDATE orders SET note = 'kept' WHERE id = 1")
    cursor.execute("SAVEPOINT s")
    cursor.execute("UPDATE orders SET note = 'not kept' WHERE id = 2")
    cursor.execute("ROLLBACK TO s")
    connection.commit()


def installed(pipeline: Pipeline) -> None:
    done = pipeline.command("triggers", "install")
    assert done.returncode == 0, done.stderr
    assert "3 triggers made" in done.stdout


class Sessions:
    """Eight sessions that change 300 orders, with rollbacks, savepoints and deadlocks."""

    COUNT = 8

    def __init__(self, source: SqlServer) -> None:
        self._source = source
        self._over = threading.Event()
        #: Transactions, rolled back ones included.
        self.done = 0
        self.failures: list[pymysql.MySQLError] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(seed,)) for seed in range(self.COUNT)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _work(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self._over.is_set():
            try:
                with self._source.connect(autocommit=False) as connection, connection.cursor() as cursor:
                    while not self._over.is_set():
                        self._transaction(dice, seed, connection, cursor)
            except pymysql.MySQLError as error:  # a deadlock, or a server that was killed: theirs, not ours
                if error.args[0] not in _THEIRS:
                    self.failures.append(error)

    def _transaction(self, dice: random.Random, seed: int, connection: Any, cursor: Any) -> None:
        for _ in range(dice.randrange(1, 4)):
            number = dice.randrange(300)
            cursor.execute(
                dice.choice(
                    (
                        f"UPDATE orders SET total = total + 1 WHERE id = {number}",
                        f"DELETE FROM orders WHERE id = {number}",
                        f"REPLACE INTO orders (id, customer, total) VALUES ({number}, {seed}, {self.done})",
                        f"INSERT INTO orders (id, note) VALUES ({number}, 'x') "
                        f"ON DUPLICATE KEY UPDATE note = CONCAT('n', {self.done})",
                    )
                )
            )
            if dice.random() < 0.05:
                cursor.execute("SAVEPOINT t")
                cursor.execute(f"UPDATE orders SET customer = customer + 1 WHERE id > {number} ORDER BY id LIMIT 5")
                cursor.execute("ROLLBACK TO t")
        connection.rollback() if dice.random() < 0.25 else connection.commit()
        self.done += 1
