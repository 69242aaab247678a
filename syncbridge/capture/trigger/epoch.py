"""The epoch in trigger capture: what places a chunk of a table between the changes (DESIGN section 5, Triggers).

An outbox id cannot place a chunk: a transaction may hold a lower id and commit after the chunk was read. So the epoch
rises before each chunk, never while the outbox is being read: every change read later carries the new epoch and wins
over the chunk, and every change read before is contained in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from syncbridge.capture.snapshot.watermark import Place


class Epoch:
    """`save(epoch)` makes it durable, in the state and in Redis, before it is used."""

    def __init__(self, value: int, save: Callable[[int], None]) -> None:
        self._value = value
        self._save = save
        #: Held while the outbox is read and its rows get their versions.
        self.reading = threading.Lock()

    @property
    def value(self) -> int:
        return self._value

    @property
    def place(self) -> Place:
        """The place of a chunk that is read now."""
        return Place(f"outbox.{self._value}", 0)

    def rise(self) -> Place:
        with self.reading:
            self._save(self._value + 1)
            self._value += 1
            return self.place


class EpochPlacing:
    """Placing for ChunkReader (snapshot/watermark.py); called in its threads."""

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch

    def begin(self, reader: Any, catalog: Any, token: int) -> Place:
        return self._epoch.rise()

    def settle(self, catalog: Any) -> None:
        """Nothing to wait for."""

    def end(self, reader: Any) -> None:
        """Nothing to do: every SELECT has a read view of its own, made after the epoch rose."""

    def close(self) -> None:
        """Nothing to do."""
