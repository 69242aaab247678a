"""The wish to stop, as a signal handler may say it."""

from __future__ import annotations

import time

#: Longest time that a wish goes unnoticed by wait(), seconds.
_SLICE = 0.05


class StopFlag:
    """Like threading.Event without its lock: the thread that a signal interrupts may hold that, and then wait for
    itself for ever. Set once."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> bool:
        """At most so long; whether it is set."""
        deadline = time.monotonic() + seconds
        while not self._set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
        return self._set
