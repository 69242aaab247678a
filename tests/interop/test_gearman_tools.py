"""The programs gearman and gearadmin (gearman-tools)."""

from __future__ import annotations

from tests.interop.features import (
    Admin,
    Background,
    BinaryWorkloads,
    Failure,
    Foreground,
    Priorities,
    Unique,
    WorkerKilled,
)
from tests.interop.peers import PROGRAMS, Library

TOOLS = Library(
    "gearman-tools",
    command=("sh", str(PROGRAMS / "tools" / "peer.sh")),
    probe=("sh", "-c", "command -v gearman && command -v gearadmin"),
)


class TestTools(
    Foreground,
    BinaryWorkloads,
    Background,
    Priorities,
    Unique,
    Failure,
    WorkerKilled,
    Admin,
):
    library = TOOLS
    admin = ("status note 0 0 1", "status reverse 1 0 0", "version {version}", "worker - note")
