"""How far behind the binlog we are, and how long the source will keep what is unread (DESIGN P6)."""

from __future__ import annotations

import math
import time
from typing import Any

from syncbridge import metrics
from syncbridge.capture.connection import MARIADB, Server, binary_logs, fetch_one
from syncbridge.capture.start import file_number

#: Asking for every file's size walks the server's index file: not every second.
INTERVAL = 5.0


class Retention:
    """Feeds two gauges from what the server says about its binlog files."""

    def __init__(self) -> None:
        self._next = 0.0

    def observe(self, control: Any, server: Server, file: str, pos: int, read_ts_us: int) -> None:
        """`file`, `pos`: read up to here; `read_ts_us`: when the source wrote what was read last."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + INTERVAL
        logs = binary_logs(control)
        metrics.LAG_BYTES.set(unread_bytes(logs, file, pos))
        newest = not logs or file_number(file) >= file_number(logs[-1][0])
        age = 0.0 if newest else max(0.0, time.time() - read_ts_us / 1e6)
        metrics.RETENTION_HEADROOM.set(expire_seconds(control, server) - age)


def unread_bytes(logs: list[tuple[str, int]], file: str, pos: int) -> int:
    """Bytes behind (file, pos) in these files. Pure."""
    number = file_number(file)
    return sum(
        max(0, size - pos) if file_number(name) == number else size
        for name, size in logs
        if file_number(name) >= number
    )


def expire_seconds(control: Any, server: Server) -> float:
    """How long the server keeps a binlog file after its last write; infinity: until somebody purges it."""
    row = fetch_one(control, "SHOW GLOBAL VARIABLES LIKE 'binlog_expire_logs_seconds'")
    seconds = float(row[1]) if row else 0.0
    if not seconds and server.flavor == MARIADB:
        row = fetch_one(control, "SELECT @@global.expire_logs_days")
        seconds = float(row[0]) * 86400 if row else 0.0
    return seconds or math.inf
