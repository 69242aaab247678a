"""Is the sink sick, or is it this row? And when to try again (DESIGN P5). Pure decisions over errors and times."""

from __future__ import annotations

import random
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
    TryAgainError,
)

from syncbridge.config import RetryConfig
from syncbridge.errors import SyncbridgeError
from syncbridge.event import Event

#: First words of error replies that speak about the server, not about the row. apply.lua knows the same ones.
SICK_WORDS = frozenset(
    ("OOM", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "MISCONF", "BUSY", "TRYAGAIN", "NOPERM",
     "NOAUTH", "WRONGPASS", "UNKILLABLE")
)  # fmt: skip
_SICK_ERRORS = (
    ConnectionError, TimeoutError, BusyLoadingError, ClusterDownError, MasterDownError, OutOfMemoryError, ReadOnlyError,
    TryAgainError, NoPermissionError, AuthenticationError, OSError,
)  # fmt: skip
#: Pauses of a lane whose sink is sick, seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


def is_sick(error: Exception) -> bool:
    """Whether waiting can help: nothing is wrong with the row, and no attempt is burnt."""
    return isinstance(error, _SICK_ERRORS) or first_word(str(error)) in SICK_WORDS


def is_lost(text: str) -> bool:
    """Whether a reply says that this Redis is not the one that was filled."""
    return first_word(text) == "SINKLOST"


def first_word(text: str) -> str:
    """The code of an error reply: WRONGTYPE of `WRONGTYPE Operation against …`."""
    return text.partition(" ")[0].lstrip("-")


def error_class(error: Exception | str) -> str:
    """What the retry table shows: the code of an error reply, or the name of our error."""
    if isinstance(error, str):
        word = first_word(error)
        return word if word.isupper() else "ERR"
    return type(error).__name__


def error_text(error: Exception | str) -> str:
    if isinstance(error, SyncbridgeError) and error.hint:
        return f"{error}; {error.hint}"
    return str(error)


def next_pause(pause: float) -> tuple[float, float]:
    """(how long to sleep now, with jitter; the next pause)."""
    return pause * (0.5 + random.random()), min(2 * pause, LONGEST_PAUSE)  # noqa: S311 - jitter


def next_attempt(now: float, attempts: int, retry: RetryConfig) -> float:
    """When a row that has failed `attempts` times is due again."""
    return now + min(retry.backoff * 2.0 ** min(attempts - 1, 60), retry.max_backoff)


def oldest(now: float, tombstone: float) -> float:
    """Payloads captured before (microseconds) must not be applied: what they contradict may be gone (DESIGN P2)."""
    return (now - tombstone / 2) * 1_000_000


def is_old(event: Event, now: float, tombstone: float) -> bool:
    """Whether this payload must not be applied."""
    captured: Any = event.get("ts_us") or 0
    return bool(captured < oldest(now, tombstone))
