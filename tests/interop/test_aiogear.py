"""aiogear (PyPI)."""

from __future__ import annotations

from tests.interop.features import (
    Admin,
    Background,
    Exceptions,
    Failure,
    Foreground,
    Priorities,
    Status,
    Unique,
    WorkerKilled,
)
from tests.interop.peers import INSTALLED, PROGRAMS, Library

AIOGEAR = Library(
    "aiogear",
    command=(str(INSTALLED / "python" / "bin" / "python"), str(PROGRAMS / "python" / "aiogear_peer.py")),
    probe=(str(INSTALLED / "python" / "bin" / "python"), "-c", "import aiogear"),
)


class TestAioGear(
    Foreground,
    Background,
    Priorities,
    Unique,
    Failure,
    Exceptions,
    Status,
    WorkerKilled,
    Admin,
):
    library = AIOGEAR
