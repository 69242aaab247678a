"""What triggers write into the outbox is what SELECT shows: every type, whatever the settings of the user's session."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from syncbridge.capture.schema import TableSchema
from syncbridge.capture.trigger.columns import reader
from syncbridge.capture.trigger.render import outbox_statements, table_triggers
from tests.integration.binlog_tools import selected_rows, tables_of
from tests.integration.fidelity_cases import Family, families
from tests.servers import SqlServer


def fill(server: SqlServer, family: Family) -> TableSchema:
    """Make the family's table with its triggers, and write to it from a session with settings of its own."""
    table = f"`{family.name}`"
    definitions = [f"c{index} {type_} NULL" for index, (type_, _) in enumerate(family.columns)]
    names = ", ".join(f"c{index}" for index in range(len(family.columns)))
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode='', time_zone='+00:00', innodb_strict_mode=0")
        cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, {', '.join(definitions + family.more)})")
        (schema,) = tables_of(server, family.name).values()
        for trigger in table_triggers("shop", schema, ("id",), mariadb=server.flavor == "mariadb"):
            cursor.execute(trigger.statement)
        cursor.execute(f"INSERT INTO {table} (id) VALUES (0)")
        for number in range(1, 1 + max(len(values) for _, values in family.columns)):
            row = ", ".join(values[number % len(values)] for _, values in family.columns)
            cursor.execute(f"INSERT IGNORE INTO {table} (id, {names}) VALUES ({number}, {row})")
        cursor.execute("SET NAMES latin1")
        cursor.execute("SET time_zone='-04:30', sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'")
        cursor.execute(f"UPDATE {table} SET id = id + 1000000")
    return schema


def test_every_type_arrives_as_select_prints_it(source: SqlServer) -> None:
    source.execute("DROP DATABASE IF EXISTS syncbridge", *outbox_statements("shop"))
    compared = 0
    problems: list[str] = []
    for family in families(source.flavor, seed=21):
        schema = fill(source, family)
        expected = selected_rows(source, schema)
        read = reader(schema)
        written = source.execute(
            f"SELECT new_row FROM syncbridge.outbox_shop WHERE op = 'u' AND name = '{family.name}'"
        )
        rows = {row["id"]: row for row in (read(text) for (text,) in written)}
        found = {key if isinstance(key, int) else key[0]: row for key, row in expected.items()}
        assert rows.keys() == found.keys(), family.name
        for column in schema.columns:
            differing = [key for key in found if rows[key][column.name] != found[key][column.name]]
            compared += len(found)
            if differing:
                got, shown = rows[differing[0]][column.name], found[differing[0]][column.name]
                problems.append(f"{family.name}.{column.name} {column.column_type}: {got!r:.200} for {shown!r:.200}")
    source.execute("DROP DATABASE syncbridge")
    assert not problems, "\n".join(problems)
    print(f"{source.flavor}: {compared} values compared")
    assert compared > 50_000


def test_the_time_of_a_change_is_right_while_clocks_are_set_back(
    new_source: Callable[..., SqlServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    source = new_source()
    source.execute("CREATE DATABASE shop", *outbox_statements("shop"))
    source.database = "shop"
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    (schema,) = tables_of(source, "t").values()
    for trigger in table_triggers("shop", schema, ("id",), mariadb=source.flavor == "mariadb"):
        source.execute(trigger.statement)
    night = int(datetime(2026, 10, 25, tzinfo=UTC).timestamp())  # it is half past two twice
    seconds = [night + half_hours * 1800 for half_hours in range(-1, 5)]
    for second in seconds:
        source.execute(f"SET timestamp = {second}.654321", f"INSERT INTO t VALUES ({second})")
    clocks = source.execute("SELECT DISTINCT FROM_UNIXTIME(id, '%H:%i') FROM t ORDER BY 1")
    assert [text for (text,) in clocks] == ["01:30", "02:00", "02:30", "03:00"], "the server has that time zone"
    written = source.execute("SELECT written_us FROM syncbridge.outbox_shop ORDER BY id")
    assert [us for (us,) in written] == [second * 1_000_000 + 654_321 for second in seconds]
