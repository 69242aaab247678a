"""The loop that people write: mysql-replication in, redis-py out, one pipeline for each binlog event."""

from __future__ import annotations

import time
from typing import Any

import redis
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, RowsEvent, UpdateRowsEvent, WriteRowsEvent

from syncbridge.capture.connection import Position
from tests.servers import MariaDB


def mirror(server: MariaDB, start: Position, client: redis.Redis, last: str) -> tuple[float, float]:
    """Seconds from the first event until an event of the table `last` is written, and processor time in them."""
    account = {"host": "127.0.0.1", "port": server.port, "user": "root", "passwd": "", "ssl_disabled": True}
    reader = BinLogStreamReader(
        connection_settings=account,
        server_id=99_004,
        is_mariadb=True,
        auto_position=server.value(f"SELECT BINLOG_GTID_POS('{start.file}', {start.pos})"),
        blocking=True,
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
        only_schemas=["bench"],
    )
    began = used = 0.0
    for event in reader:
        if not began:
            began, used = time.perf_counter(), time.process_time()
        _write(event, client)
        if event.table == last:
            break
    seconds, spent = time.perf_counter() - began, time.process_time() - used
    reader.close()
    return seconds, spent


def _write(event: RowsEvent, client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=False)
    for row in event.rows:
        if isinstance(event, DeleteRowsEvent):
            pipe.delete(f"{event.table}:{row['values']['id']}")
        else:
            values = row["after_values"] if isinstance(event, UpdateRowsEvent) else row["values"]
            pipe.hset(f"{event.table}:{values['id']}", mapping=_texts(values))
    pipe.execute()


def _texts(values: dict[str, Any]) -> dict[Any, Any]:
    return {
        name: value if isinstance(value, (bytes, int, float)) else str(value)
        for name, value in values.items()
        if value is not None
    }
