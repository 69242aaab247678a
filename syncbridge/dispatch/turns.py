"""Turns: every client hears its answers in the order of its requests, also where one of them has to wait."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from syncbridge.dispatch.job import Client, JobRecord
from syncbridge.dispatch.reading import Read, Reading
from syncbridge.dispatch.store import JobStore

logger = logging.getLogger(__name__)

#: What a lookup found, by join key.
Found = dict[bytes, JobRecord]


class Turn:
    """What is to be done for a client once it is ready and everything before it is done.

    `size`: payload bytes of what it submits.
    """

    __slots__ = ("act", "ready", "size")

    def __init__(self, act: Callable[[], None], *, ready: bool = True, size: int = 0) -> None:
        self.act = act
        self.ready = ready
        self.size = size


class Lookup:
    """Join keys of one function that one read looks for, and the turns that wait for it."""

    __slots__ = ("found", "keys", "turns")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.turns: list[tuple[Client, Turn]] = []
        self.found: Found = {}


class Turns:
    """`behind`: clients of which a turn waits, and all their turns from that one on. `size`: of all of them."""

    __slots__ = ("_lookups", "_reading", "behind", "size")

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.behind: dict[Client, deque[Turn]] = {}
        self.size = 0
        #: By function: what the next reads will look for.
        self._lookups: dict[bytes, Lookup] = {}

    def add(self, client: Client, turn: Turn) -> None:
        """The client's last one."""
        self.size += turn.size
        self.behind.setdefault(client, deque()).append(turn)

    def look(
        self, client: Client, function: bytes, keys: Sequence[bytes], act: Callable[[Found], None], size: int
    ) -> None:
        """Act with what the store knows of these join keys; nothing where it cannot be read: two jobs rather than none.

        Whatever is looked for in a function until reads are taken is one read.
        """
        lookup = self._lookups.get(function) or self._new_lookup(function)
        turn = Turn(lambda: act(lookup.found), ready=False, size=size)
        lookup.keys += keys
        lookup.turns.append((client, turn))
        self.add(client, turn)

    def _new_lookup(self, function: bytes) -> Lookup:
        lookup = self._lookups[function] = Lookup()

        def done(found: Found) -> None:
            lookup.found = found
            for client, turn in lookup.turns:
                try:
                    self._ready(client, turn)
                except Exception:  # the others shall not wait for ever
                    logger.exception("what was looked for could not be taken in")

        def ask(store: JobStore) -> Found:
            return store.joinable(function, lookup.keys)

        self._reading.wanted.append(Read(ask, done, lambda error: done({})))
        return lookup

    def ask(self, client: Client, ask: Callable[[JobStore], Any], act: Callable[[Any], None]) -> None:
        """Act with the result of a read; None when the store is away."""
        found: list[Any] = [None]
        turn = Turn(lambda: act(found[0]), ready=False)
        self.add(client, turn)

        def done(value: Any) -> None:
            found[0] = value
            self._ready(client, turn)

        self._reading.wanted.append(Read(ask, done, lambda error: done(None)))

    def reads_begin(self) -> None:
        """What is looked for from now on is not among the reads taken."""
        self._lookups.clear()

    def _ready(self, client: Client, turn: Turn) -> None:
        """It waits for nothing any more but those before it."""
        turn.ready = True
        turns = self.behind[client]
        while turns and turns[0].ready:
            turn = turns.popleft()
            self.size -= turn.size
            turn.act()
        if not turns:
            del self.behind[client]
