"""Waiting for a condition instead of sleeping for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    condition: Callable[[], T],
    timeout: float = 10.0,  # seconds
    message: str | Callable[[], str] = "the condition did not come true",
    interval: float = 0.02,
) -> T:
    """Poll `condition` until it returns something true, and return that.

    A condition may also say "not yet" by raising AssertionError. Any other exception is an error and passes through.
    Raises AssertionError with `message` (text, or a function called at the end) after `timeout` seconds.
    """
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
