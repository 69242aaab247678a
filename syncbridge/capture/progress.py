"""Progress: what may happen once the queue has made a submission durable (DESIGN P1). Pure: numbers in, calls out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Progress:
    """Actions bound to sequence numbers of submissions; each runs once, in order, when the queue accepted that far."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def when_accepted(self, sequence: int, action: Callable[[], None]) -> None:
        """Run `action` once every submission up to `sequence` is durable. Sequences never go down."""
        self._waiting.append((sequence, action))

    def accepted(self, sequence: int) -> None:
        """The queue says: everything up to `sequence` is durable."""
        while self._waiting and self._waiting[0][0] <= sequence:
            self._waiting[0][1]()  # one that raises is run again: what it writes must not be forgotten
            self._waiting.popleft()

    def clear(self) -> None:
        """Forget what waits: the session ended, its transactions will be captured again."""
        self._waiting.clear()
