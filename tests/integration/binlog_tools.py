"""Reading back what a test did to a server: from the binlog through our reader, and by SELECT."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from math import inf
from typing import Any

from syncbridge.capture.binlog.events import Heartbeat, Item, Rows, Single
from syncbridge.capture.binlog.reader import BinlogReader
from syncbridge.capture.binlog.stream import BinlogStream
from syncbridge.capture.changes import JsonRows
from syncbridge.capture.connection import (
    ConnectionSettings,
    Position,
    connect,
    current_position,
    identify,
    start_dump,
)
from syncbridge.capture.schema import TableSchema, load_tables
from syncbridge.capture.snapshot.packets import json_parser, read_rows, row_parser, select_rows
from syncbridge.capture.snapshot.select import row_values, select_list
from tests.native import needed
from tests.servers import SqlServer

Tables = dict[tuple[str, str], TableSchema]
REPLICA_ID = 99_000


def settings_of(server: SqlServer, **changes: Any) -> ConnectionSettings:
    return ConnectionSettings(**{"host": "127.0.0.1", "port": server.port, "user": "root", **changes})


def position_of(server: SqlServer) -> Position:
    with closing(connect(settings_of(server))) as connection:
        return current_position(connection, identify(connection))


def tables_of(server: SqlServer, *names: str) -> Tables:
    """The schemas of tables in the test's database."""
    with closing(connect(settings_of(server))) as connection:
        return load_tables(connection, [(server.database, name) for name in names])


def read_items(
    server: SqlServer,
    start: Position,
    tables: Tables | Callable[[str, str], TableSchema | None],
    *,
    settings: ConnectionSettings | None = None,
    **dump: Any,
) -> Iterator[Item]:
    """Every item from `start` to the present end of the binlog."""
    end = position_of(server)
    schema_for = tables if callable(tables) else (lambda db, table: tables.get((db, table)))
    connection = connect(settings or settings_of(server))
    with closing(BinlogStream(connection)) as stream:
        start_dump(connection, identify(connection), start, REPLICA_ID, **{"heartbeat_s": 0.05, **dump})
        reader = BinlogReader(schema_for, skip_to=(start.file, start.pos) if start.file else None)
        while stream.receive(10):
            for item in reader.read(stream):
                if isinstance(item, Heartbeat) and (item.file, item.pos) >= (end.file, end.pos):
                    return
                yield from item.parts() if isinstance(item, Single) else (item,)
    raise AssertionError("the dump fell silent")


def receive(stream: BinlogStream, timeout: float) -> int:
    """Wait for bytes of a dump, and count the events that they complete."""
    stream.receive(timeout)
    return sum(1 for _ in iter(stream.take, None))


def final_rows(items: Iterable[Item], key: str = "id") -> dict[str, dict[Any, dict[str, Any]]]:
    """Table name -> key -> row, after applying every change in order."""
    tables: dict[str, dict[Any, dict[str, Any]]] = defaultdict(dict)
    for item in items:
        if not isinstance(item, Rows):
            continue
        table = tables[item.schema.table]
        for row in item.dicts():
            if isinstance(row, tuple):
                before, after = row
                assert table.pop(before[key]) == before, f"before image of {item.schema.table} differs"
                table[after[key]] = after
            elif item.op == "c":
                table[row[key]] = row
            else:
                assert table.pop(row[key]) == row, f"deleted image of {item.schema.table} differs"
    return tables


def selected_rows(server: SqlServer, schema: TableSchema, key: str = "id") -> dict[Any, dict[str, Any]]:
    """key -> row as SELECT shows it, in every way of reading it."""
    decode = row_values(schema)
    sql = f"SELECT {select_list(schema)} FROM `{schema.db}`.`{schema.table}`"
    with closing(connect(settings_of(server), raw=True)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        rows = [decode(row) for row in cursor.fetchall()]
        streamed, _, whole = select_rows(connection, sql, row_parser(schema.columns), inf)
        assert whole
        as_json = JsonRows()
        read_rows(connection, sql, json_parser(needed(), schema, [key]), inf, as_json)
        cursor.execute("SELECT 1")  # the connection is where it should be
        assert cursor.fetchall() == ((b"1",),)
    assert streamed == [tuple(row.values()) for row in rows] == list(as_json)
    return {row[key]: row for row in rows}
