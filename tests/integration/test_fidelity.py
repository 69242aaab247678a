"""Fidelity (DESIGN section 3): every row decoded from the binlog equals the same row SELECTed.

Each test runs one server configuration over every type family with edge and random values, inserted, updated (both
images are compared) and deleted.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.binlog_tools import final_rows, position_of, read_items, selected_rows, tables_of
from tests.integration.fidelity_cases import Family, families
from tests.servers import SqlServer

MARIADB_MODES: list[dict[str, Any]] = [
    {"binlog_row_metadata": "FULL"},
    {"binlog_row_metadata": "NO_LOG", "binlog_checksum": "NONE"},
    {"binlog_row_metadata": "MINIMAL", "log_bin_compress": True, "log_bin_compress_min_len": 10},
    {"mysql56_temporal_format": False},
]
MYSQL_MODES: list[dict[str, Any]] = [
    {"binlog_row_metadata": "MINIMAL"},
    {"binlog_row_metadata": "FULL", "binlog_checksum": "NONE", "gtid": False},
    {"binlog_row_metadata": "FULL", "binlog_transaction_compression": True},
]


def fill(server: SqlServer, family: Family) -> None:
    """Create the family's table and put it through inserts, an update of every row and some deletes."""
    dice = random.Random(len(family.columns))
    table = f"`{family.name}`"
    definitions = [f"c{index} {type_} NULL" for index, (type_, _) in enumerate(family.columns)]
    names = ", ".join(f"c{index}" for index in range(len(family.columns)))
    count = max(len(values) for _, values in family.columns)
    rows = ["(" + ", ".join(["NULL"] * len(family.columns)) + ")"]
    for number in range(count):
        values = [values[number % len(values)] for _, values in family.columns]
        if number % 3 == 2:
            values = [value if dice.random() < 0.8 else "NULL" for value in values]
        rows.append("(" + ", ".join(values) + ")")
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode='', time_zone='+00:00', innodb_strict_mode=0")
        cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, {', '.join(definitions + family.more)})")
        cursor.execute("BEGIN")
        for number, row in enumerate(rows):
            cursor.execute(f"INSERT IGNORE INTO {table} (id, {names}) VALUES ({number}, {row[1:]}")
        cursor.execute("COMMIT")
        cursor.execute(f"UPDATE {table} SET id = id + 1000000")
        cursor.execute(f"DELETE FROM {table} WHERE id % 10 = 3")


def compare(server: SqlServer) -> int:
    """Run every family on `server`; the number of values compared."""
    start = position_of(server)
    cases = families(server.flavor, seed=20)
    for family in cases:
        fill(server, family)
    tables = tables_of(server, *(family.name for family in cases))
    decoded = final_rows(read_items(server, start, tables))
    compared = 0
    problems: list[str] = []
    for schema in tables.values():
        expected = selected_rows(server, schema)
        rows = decoded[schema.table]
        assert rows.keys() == expected.keys(), schema.table
        for column in schema.columns:
            name = column.name
            differing = [key for key in expected if rows[key][name] != expected[key][name]]
            compared += len(expected)
            if differing:
                key = differing[0]
                problems.append(
                    f"{schema.table}.{name} {column.column_type}: {len(differing)} of {len(expected)}, e.g. "
                    f"binlog {str(rows[key][name])[:300]!r}, SELECT {str(expected[key][name])[:300]!r}"
                )
    assert not problems, "\n".join(problems)
    return compared


@pytest.mark.parametrize("options", MARIADB_MODES, ids=lambda options: "-".join(map(str, options.values())))
def test_mariadb_rows_decode_as_select_prints_them(
    options: dict[str, Any], new_mariadb: Callable[..., SqlServer], record_property: Callable[..., None]
) -> None:
    check(new_mariadb(**options), record_property)


@pytest.mark.parametrize("options", MYSQL_MODES, ids=lambda options: "-".join(map(str, options.values())))
def test_mysql_rows_decode_as_select_prints_them(
    options: dict[str, Any], new_mysql: Callable[..., SqlServer], record_property: Callable[..., None]
) -> None:
    check(new_mysql(**options), record_property)


def check(server: SqlServer, record_property: Callable[..., None]) -> None:
    server.execute("CREATE DATABASE fidelity")
    server.database = "fidelity"
    compared = compare(server)
    record_property("values_compared", compared)
    print(f"{server.flavor}: {compared} values compared")
    assert compared > 50_000
