"""pygearman (PyPI)."""

from __future__ import annotations

from typing import ClassVar

from tests.interop.features import (
    Admin,
    Background,
    BinaryWorkloads,
    Exceptions,
    Failure,
    Foreground,
    Priorities,
    Progress,
    Status,
    Unique,
    WorkerKilled,
)
from tests.interop.peers import INSTALLED, PROGRAMS, Library

PYGEARMAN = Library(
    "pygearman",
    command=(str(INSTALLED / "python" / "bin" / "python"), str(PROGRAMS / "python" / "peer.py"), "gearman"),
    probe=(str(INSTALLED / "python" / "bin" / "python"), "-c", "import gearman"),
)


class TestPyGearman(
    Foreground,
    BinaryWorkloads,
    Background,
    Priorities,
    Unique,
    Failure,
    Exceptions,
    Progress,
    Status,
    WorkerKilled,
    Admin,
):
    library = PYGEARMAN
    #: Its client does not ask for exceptions, so that it hears of a failure.
    exception = ("fail",)
    only_ours: ClassVar[frozenset[str]] = frozenset(
        {
            # gearmand ends the handle in this WORK_FAIL with a stray NUL, and the client stumbles over it.
            "test_an_exception_arrives_at_its_client",
        }
    )
