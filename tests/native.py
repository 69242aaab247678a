"""Tests run without the optional native package, as most users do; some ask for both ways."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from syncbridge import native


def needed() -> native.Functions:
    """The package. The test fails where it is not installed: it never skips."""
    functions = native.load()
    if functions is None:
        pytest.fail("syncbridge-native is not installed; run: make native", pytrace=False)
    return functions


def leave_alone() -> None:
    """Unless the environment asks for it: SYNCBRIDGE_NATIVE=1 make test."""
    if os.environ.setdefault("SYNCBRIDGE_NATIVE", "0") == "0":
        native.functions = None


def in_use(wanted: bool) -> Iterator[None]:
    """In this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "functions", needed() if wanted else None)
        patch.setitem(os.environ, "SYNCBRIDGE_NATIVE", "1" if wanted else "0")
        yield
