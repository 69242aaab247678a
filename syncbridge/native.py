"""The optional package syncbridge-native (native/): hot steps in C, where their callers have Python for it without.

Redis shows the same either way (tests/unit/test_native.py, and every test with the fixture `native_or_not`). What it
buys is in docs/performance.md. Environment: SYNCBRIDGE_NATIVE=0 leaves it alone though it is installed.
"""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import Any, Protocol, cast

log = logging.getLogger(__name__)

#: What this version of syncbridge is written for: signatures and answers.
VERSION = 1


class Functions(Protocol):
    """The package. Each function is described at the head of its C file."""

    def transaction(self, buffer: bytes, at: int, checksum: bool, /) -> tuple[Any, ...] | None:
        """A transaction with one event of rows, see native/src/transaction.c."""

    def rows(
        self, buffer: bytes, at: int, kinds: bytes, keys: bytes, start: int, out: list[bytes], hashes: list[int], /
    ) -> int:
        """Rows of a SELECT as JSON, see native/src/rows.c."""

    def hashes(
        self, texts: list[Any], each: int, fields: list[bytes], raws: list[Any], most: int, /
    ) -> list[bytes] | None:
        """Rows as Redis' RESTORE takes hashes, see native/src/hashes.c."""

    def texts(self, values: list[Any], each: int, padding: int, /) -> tuple[bytes, bool] | None:
        """Values as one argument of apply.lua, see native/src/texts.c."""


def load() -> Functions | None:
    """The package if it is installed, and of this version."""
    try:
        package = import_module("syncbridge_native")
    except ImportError:
        return None
    if package.VERSION != VERSION:
        log.warning(
            "syncbridge-native is of version %s, not %s, and left alone: install it again", package.VERSION, VERSION
        )
        return None
    return cast(Functions, package)


#: None: everything is done in Python.
functions = None if os.environ.get("SYNCBRIDGE_NATIVE") == "0" else load()
