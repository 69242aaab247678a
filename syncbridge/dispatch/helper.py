"""A thread that does what the event loop must not wait for, one thing after another: commits, or reads of the store.

asyncio's executors do the same with three more hand-overs per call; here they are most of what a lone submit waits for
besides its fsync.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


class Helper:
    """Belongs to one event loop. `stop()` waits until everything asked for is done."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._asked: SimpleQueue[tuple[Callable[[Any], Any], Any, asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, work: Callable[[_T], _R], what: _T) -> asyncio.Future[_R]:
        """work(what), in the thread."""
        done: asyncio.Future[_R] = self._loop.create_future()
        self._asked.put((work, what, done))
        return done

    def stop(self) -> None:
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            work, what, done = asked
            try:
                result = work(what)
            except BaseException as error:
                self._loop.call_soon_threadsafe(done.set_exception, error)
            else:
                self._loop.call_soon_threadsafe(done.set_result, result)
