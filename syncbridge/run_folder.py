"""The private folder of one `syncbridge run`: its children's copy of sync.yaml, and their metrics.

It has a fixed place beside the queue's store, so that what a killed supervisor left behind is emptied by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from syncbridge.errors import ConfigError


class RunFolder:
    """`run-<name>` in the folder given, for its owner only, empty. One process at a time has it."""

    def __init__(self, parent: Path, name: str) -> None:
        """Raises ConfigError when it cannot be written, or another supervisor of this pipeline has it."""
        self._path = parent / f"run-{name}"
        self.metrics = self._path / "metrics"
        self.config = self._path / "sync.yaml"
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.mkdir(mode=0o700, exist_ok=True)
            self._path.chmod(0o700)
            self._lock = self._take()
            for left in self._path.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            self.metrics.mkdir()
        except OSError as error:
            raise ConfigError(
                f"queue.store: cannot use {parent}: {error.strerror}", hint="set queue.store to a writable path"
            ) from error

    def _take(self) -> int:
        lock = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigError(
                "syncbridge run is already running with this queue.store", hint="stop it first, or name another store"
            ) from None
        return lock

    def write_config(self, text: str) -> None:
        """Replace the children's sync.yaml: it may hold passwords."""
        fresh = self.config.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.config)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self._path, ignore_errors=True)
        os.close(self._lock)
