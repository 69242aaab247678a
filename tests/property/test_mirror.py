"""Any transactions, with DDL in between: afterwards every row in Redis is what SELECT shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from tests.capturing import BINLOG, Capturing
from tests.pipeline import wait_same
from tests.servers import Redis, SqlServer

KEYS = st.integers(0, 12)
TEXT = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12))
NUMBER = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))

ROW = st.one_of(
    st.tuples(st.just("put"), KEYS, TEXT, NUMBER),
    st.tuples(st.just("put"), KEYS, TEXT, NUMBER),
    st.tuples(st.just("change"), KEYS, TEXT, NUMBER),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("move"), KEYS, KEYS),
    st.tuples(st.just("many"), KEYS, TEXT),
    st.tuples(st.just("savepoint"), KEYS),
)
TRANSACTION = st.tuples(st.lists(ROW, min_size=1, max_size=6), st.booleans())
DDL = st.sampled_from(
    (
        "ALTER TABLE items ADD COLUMN extra{n} VARCHAR(10) NOT NULL DEFAULT 'x{n}'",
        "ALTER TABLE items ADD COLUMN extra{n} INT FIRST",
        "ALTER TABLE items DROP COLUMN extra{last}",
        "ALTER TABLE items MODIFY n BIGINT UNSIGNED",
        "ALTER TABLE items MODIFY n BIGINT",
        "ALTER TABLE items MODIFY v VARCHAR(30) CHARACTER SET latin1",
        "ALTER TABLE items MODIFY v VARCHAR(40) CHARACTER SET utf8mb4",
        "ALTER TABLE items CHANGE v w VARCHAR(40), CHANGE w v VARCHAR(40)",
        "ALTER TABLE items ADD INDEX extra_index{n} (n)",
        "TRUNCATE TABLE items",
        "RENAME TABLE items TO items_away, items_away TO items",
        "CREATE TABLE items_new LIKE items",
    )
)
TRANSACTIONS = st.lists(TRANSACTION, min_size=1, max_size=12)
STEPS = st.lists(st.one_of(TRANSACTION, TRANSACTION, TRANSACTION, DDL), min_size=1, max_size=12)
#: Examples of each. Without a binlog DDL is noticed within seconds, and so long an example with DDL takes.
EXAMPLES = ((25, STEPS),)
TRIGGER_EXAMPLES = ((30, TRANSACTIONS), (3, STEPS))


class Writer:
    """Carries steps out; a statement that the server refuses is simply one that did nothing."""

    def __init__(self, source: SqlServer, after_ddl: Callable[[], None]) -> None:
        self.connection = source.connect(autocommit=False)
        self.after_ddl = after_ddl
        self.count = 0
        self.extras: list[int] = []
        self.transactions = self.statements = 0

    def step(self, step: Any) -> None:
        if isinstance(step, str):
            self.ddl(step)
            return
        rows, commit = step
        with self.connection.cursor() as cursor:
            for row in rows:
                self.attempt(cursor, row)
        if commit:
            self.connection.commit()
        else:
            self.connection.rollback()
        self.transactions += 1

    def attempt(self, cursor: Any, row: Any) -> None:
        try:
            match row:
                case ("put", key, text, number):
                    cursor.execute("REPLACE INTO items (id, v, n) VALUES (%s, %s, %s)", (key, text, number))
                case ("change", key, text, number):
                    cursor.execute("UPDATE items SET v = %s, n = %s WHERE id = %s", (text, number, key))
                case ("delete", key):
                    cursor.execute("DELETE FROM items WHERE id = %s", (key,))
                    cursor.execute("INSERT INTO items (id, v) VALUES (%s, 'again')", (key,))
                    cursor.execute("DELETE FROM items WHERE id = %s AND id %% 2 = 0", (key,))
                case ("move", key, other):
                    cursor.execute("UPDATE items SET id = %s WHERE id = %s", (other, key))
                case ("many", key, text):
                    cursor.execute("UPDATE items SET v = %s WHERE id >= %s", (text, key))
                case ("savepoint", key):
                    cursor.execute("SAVEPOINT here")
                    cursor.execute("REPLACE INTO items (id, v) VALUES (%s, 'undone')", (key,))
                    cursor.execute("ROLLBACK TO here")
        except pymysql.err.MySQLError:
            pass

    def ddl(self, statement: str) -> None:
        self.count += 1
        last = self.extras[-1] if self.extras else 0
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(statement.format(n=self.count, last=last))
        except pymysql.err.MySQLError:
            return
        self.statements += 1
        self.after_ddl()
        if "ADD COLUMN" in statement:
            self.extras.append(self.count)
        elif "DROP COLUMN" in statement:
            self.extras.pop()


@pytest.fixture
def source(new_source: Callable[..., SqlServer], capturing: Capturing) -> SqlServer:
    server = new_source(**capturing.options)
    server.execute("CREATE DATABASE mirrored")
    server.database = "mirrored"
    return server


@pytest.mark.usefixtures("one_way_each")
def test_any_transactions_with_ddl_between_are_mirrored(
    source: SqlServer, redis_server: Redis, tmp_path: Path, capturing: Capturing
) -> None:
    source.execute("CREATE TABLE items (id INT PRIMARY KEY, v VARCHAR(40) CHARACTER SET utf8mb4, n BIGINT)")
    mappings = [{"table": f"{source.database}.items", "key": "i:{id}"}]
    pipeline = capturing.pipeline(tmp_path, source, redis_server, mappings, sink={"workers": 2})
    capturing.install(pipeline)
    writer = Writer(source, lambda: capturing.install(pipeline))
    examples = compared = 0

    def check(steps: list[Any]) -> None:
        nonlocal examples, compared
        for step in steps:
            writer.step(step)
        compared += wait_same(pipeline, "items", "i:", timeout=30)
        examples += 1

    with pipeline.running():
        for count, strategy in EXAMPLES if capturing is BINLOG else TRIGGER_EXAMPLES:
            chosen = settings(
                max_examples=count,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            )
            chosen(hypothesis_given(strategy)(check))()
        verified = pipeline.command("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
    writer.connection.close()
    print(
        f"\n{source.flavor}, {capturing.name}: {examples} examples, {writer.transactions} transactions,"
        f" {writer.statements} DDL statements, {compared} rows compared"
    )
    assert writer.transactions > 10
