"""Waiting for a condition instead of sleeping for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Deadlines are written for a machine with nothing else to do; others get this many times as long.
PATIENCE = 3


def eventually(
    condition: Callable[[], T],
    timeout: float = 10.0,  # seconds, where nothing else runs
    message: str | Callable[[], str] = "the condition did not come true",
    interval: float = 0.02,
) -> T:
    """Poll `condition` until it returns something true, and return that.

    A condition may also say "not yet" by raising AssertionError. Any other exception is an error and passes through.
    Raises AssertionError with `message` (text, or a function called at the end) after PATIENCE times `timeout`.
    """
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        said: AssertionError | None = None
        try:
            value = condition()
        except AssertionError as error:
            said = error
        else:
            if value:
                return value
        if time.monotonic() > deadline:
            text = message if isinstance(message, str) else message()
            raise AssertionError(f"{text} (waited {timeout:g} s)") from said
        time.sleep(interval)
