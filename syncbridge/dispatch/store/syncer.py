"""Syncs a file some time after it was written: durability `batch` bounds what a power cut takes."""

from __future__ import annotations

import logging
import os
import threading

logger = logging.getLogger(__name__)

#: Longest time between a commit and its fdatasync, without the fdatasync itself; seconds.
_INTERVAL = 1.0


class Syncer:
    """A thread that calls fdatasync at most once a second, and only after written()."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-sync", daemon=True)
        self._thread.start()

    def written(self) -> None:
        """What was written up to now is to be synced soon."""
        self._dirty.set()

    def close(self) -> None:
        """Without a last sync: whoever closes the file does that."""
        self._closing.set()
        self._dirty.set()
        self._thread.join()

    def _run(self) -> None:
        while self._dirty.wait() and not self._closing.wait(_INTERVAL):
            self._dirty.clear()
            try:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fdatasync(descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                logger.error("%s cannot be synced: %s", self._path, error.strerror)
