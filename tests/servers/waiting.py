"""Waiting for a condition instead of sleeping for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Deadlines are written for a machine with nothing else to do; others get this many times as long.
PATIENCE = 3
#: Seconds between two looks at most: of those that cost nothing, and of those that do.
LONGEST_PAUSE, LONGEST_REST = 0.2, 1.0


def eventually(
    condition: Callable[[], T],
    timeout: float = 10.0,  # seconds, where nothing else runs
    message: str | Callable[[], str] = "the condition did not come true",
    interval: float = 0.02,
) -> T:
    """Poll `condition` until it returns something true, and return that.

    A condition may also say "not yet" by raising AssertionError. Any other exception is an error and passes through.
    Raises AssertionError with `message` (text, or a function called at the end) after PATIENCE times `timeout`: a look
    that began before then, however long it took, is followed by another.

    The pause between two looks is `interval` (seconds) at first. It grows with the wait, and with what a look costs:
    the processor is for those who are waited for.
    """
    timeout *= PATIENCE
    began = time.monotonic()
    while True:
        said: AssertionError | None = None
        look = time.monotonic()
        try:
            value = condition()
        except AssertionError as error:
            said = error
        else:
            if value:
                return value
        now = time.monotonic()
        if look > began + timeout:
            text = message if isinstance(message, str) else message()
            raise AssertionError(f"{text} (waited {timeout:g} s)") from said
        time.sleep(max(interval, min(LONGEST_PAUSE, (now - began) / 20), min(2 * (now - look), LONGEST_REST)))
