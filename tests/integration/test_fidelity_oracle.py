"""The same binlog through our reader and through mysql-replication, for what that library decodes rightly."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from syncbridge.capture.binlog.events import Rows
from tests.integration.binlog_tools import position_of, read_items, tables_of
from tests.servers import SqlServer

STATEMENTS = 300
COLUMNS = (
    "id BIGINT UNSIGNED PRIMARY KEY, a TINYINT, b SMALLINT UNSIGNED, c MEDIUMINT, d INT UNSIGNED, e BIGINT,"
    " price DECIMAL(20,6), name VARCHAR(300), note TEXT, day DATE, moment DATETIME(6), ratio DOUBLE, doc JSON"
)


def random_row(dice: random.Random, key: int) -> str:
    values = (
        key, dice.randint(-128, 127), dice.randint(0, 65535), dice.randint(-(2**23), 2**23 - 1),
        dice.randint(0, 2**32 - 1), dice.randint(-(2**63), 2**63 - 1), Decimal(dice.randint(-(10**19), 10**19)) / 10**6,
        "".join(dice.choice("abc äß中\U0001f600'") for _ in range(dice.randint(0, 60))), "x" * dice.randint(0, 3000),
        datetime.date(dice.randint(1000, 9999), dice.randint(1, 12), dice.randint(1, 28)),
        datetime.datetime(dice.randint(1000, 9999), 5, 17, 3, 2, 1, dice.randint(0, 999999)),
        dice.uniform(-1e9, 1e9), json.dumps({"k": [dice.randint(0, 9), None, "v"], "f": dice.random()}),
    )  # fmt: skip
    texts = ["NULL" if number and dice.random() < 0.15 else literal(value) for number, value in enumerate(values)]
    return "(" + ", ".join(texts) + ")"


def literal(value: Any) -> str:
    return str(value) if isinstance(value, int | Decimal | float) else "'" + str(value).replace("'", "''") + "'"


def random_changes(server: SqlServer, dice: random.Random) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        for number in range(STATEMENTS):
            kind = dice.random()
            if kind < 0.5:
                rows = ", ".join(random_row(dice, number * 10 + more) for more in range(dice.randint(1, 9)))
                cursor.execute(f"INSERT INTO t VALUES {rows}")
            elif kind < 0.8:
                cursor.execute(f"UPDATE t SET b = b ^ 1, note = 'changed' WHERE id % 7 = {dice.randrange(7)} LIMIT 20")
            else:
                cursor.execute(f"DELETE FROM t WHERE id % 11 = {dice.randrange(11)} LIMIT 5")


def as_ours(column: str, value: Any) -> Any:
    """The library's value in the form of an event's."""
    if column == "doc" and value is not None:
        return parsed(value)
    if isinstance(value, Decimal):
        return f"{value:.6f}"
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ", "microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def parsed(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {parsed(key): parsed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [parsed(item) for item in value]
    return value


def our_row(row: dict[str, Any]) -> dict[str, Any]:
    ratio, doc = row["ratio"], row["doc"]
    return {**row, "ratio": ratio and float(ratio), "doc": doc and json.loads(doc)}


def library_changes(server: SqlServer, file: str, pos: int, gtid: str, count: int) -> list[tuple[str, Any]]:
    where: dict[str, Any] = {"log_file": file, "log_pos": pos, "resume_stream": True}
    if server.flavor == "mariadb":
        where = {"is_mariadb": True, "auto_position": gtid}
    reader = BinLogStreamReader(
        connection_settings={"host": "127.0.0.1", "port": server.port, "user": "root", "charset": "utf8mb4"},
        server_id=99_100,
        blocking=True,
        only_schemas=[server.database],
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
        **where,
    )
    changes: list[tuple[str, Any]] = []
    try:
        for event in reader:
            for row in event.rows:
                if isinstance(event, UpdateRowsEvent):
                    changes.append(("u", (library_row(row["before_values"]), library_row(row["after_values"]))))
                else:
                    op = "c" if isinstance(event, WriteRowsEvent) else "d"
                    changes.append((op, library_row(row["values"])))
            if len(changes) >= count:
                return changes
    finally:
        reader.close()
    return changes


def library_row(values: dict[str, Any]) -> dict[str, Any]:
    row = {name: as_ours(name, value) for name, value in values.items()}
    if isinstance(row["doc"], str):  # MariaDB: JSON is text
        row["doc"] = json.loads(row["doc"])
    return row


# The library passes PyMySQL argument names that are deprecated.
@pytest.mark.filterwarnings("ignore:'(db|passwd)' is deprecated:DeprecationWarning")
def test_mysql_replication_sees_the_same_changes(
    new_source: Callable[..., SqlServer], record_property: Callable[..., None]
) -> None:
    server = new_source(binlog_row_metadata="FULL")
    server.execute("CREATE DATABASE oracle", f"CREATE TABLE oracle.t ({COLUMNS})")
    server.database = "oracle"
    start = position_of(server)
    random_changes(server, random.Random(5))
    ours: list[tuple[str, Any]] = []
    for item in read_items(server, start, tables_of(server, "t")):
        if isinstance(item, Rows):
            for row in item.dicts():
                both = (our_row(row[0]), our_row(row[1])) if isinstance(row, tuple) else our_row(row)
                ours.append((item.op, both))
    theirs = library_changes(server, start.file, start.pos, start.gtid_set, len(ours))
    assert len(ours) > 1000
    assert ours == theirs
    record_property("rows_compared", len(ours))
    print(f"{server.flavor}: {len(ours)} rows compared with mysql-replication")
