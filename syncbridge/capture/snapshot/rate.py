"""How fast a source may be read: rows per second, over all readers together. The time is an argument."""

from __future__ import annotations

import threading


class Rate:
    """Whoever has read rows says so, and the next one waits until they are paid for. Shared by threads."""

    def __init__(self, rows_per_second: int) -> None:
        """0: as fast as it goes."""
        self.rows_per_second = rows_per_second
        self._free_at = 0.0
        self._lock = threading.Lock()

    def wait(self, now: float) -> float:
        """Seconds from `now` until more may be read."""
        return max(0.0, self._free_at - now)

    def spend(self, rows: int, now: float) -> None:
        """`rows` rows were read."""
        if self.rows_per_second:
            with self._lock:
                self._free_at = max(self._free_at, now) + rows / self.rows_per_second
