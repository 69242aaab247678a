"""gearmanode (npm)."""

from __future__ import annotations

from tests.interop.features import (
    Background,
    Exceptions,
    Failure,
    Foreground,
    Priorities,
    Progress,
    Status,
    Unique,
    WorkerKilled,
)
from tests.interop.peers import PROGRAMS, Library

GEARMANODE = Library(
    "gearmanode",
    command=("node", str(PROGRAMS / "node" / "gearmanode.js")),
    probe=("node", "-e", "require('gearmanode')"),
)


class TestGearmaNode(
    Foreground,
    Background,
    Priorities,
    Unique,
    Failure,
    Exceptions,
    Progress,
    Status,
    WorkerKilled,
):
    library = GEARMANODE
