"""Ours comes in two ways: with the optional native package where it is installed, and in Python alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from syncbridge import native

#: What the second way is called behind a name of ours.
ALONE = ", Python alone"


def described() -> str:
    return "with syncbridge-native" if native.functions is not None else "without syncbridge-native"


@contextmanager
def python_alone() -> Iterator[None]:
    """In this process, and in those that it starts."""
    functions, setting = native.functions, os.environ.get("SYNCBRIDGE_NATIVE")
    native.functions, os.environ["SYNCBRIDGE_NATIVE"] = None, "0"
    try:
        yield
    finally:
        native.functions = functions
        del os.environ["SYNCBRIDGE_NATIVE"]
        if setting is not None:
            os.environ["SYNCBRIDGE_NATIVE"] = setting
