"""How long to wait before trying again: doubled with every failure, with jitter so that peers do not come in step."""

from __future__ import annotations

import random

FIRST, LONGEST = 0.05, 5.0


class Backoff:
    """next() gives seconds: between half of `first`, doubled each time up to `longest`, and the whole of it."""

    def __init__(self, first: float = FIRST, longest: float = LONGEST) -> None:
        self._first = self._delay = first
        self._longest = longest

    def next(self) -> float:
        delay, self._delay = self._delay, min(self._delay * 2, self._longest)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret

    def reset(self) -> None:
        self._delay = self._first
