"""node-gearman (npm)."""

from __future__ import annotations

from tests.interop.features import (
    Background,
    BinaryWorkloads,
    Failure,
    Foreground,
    Priorities,
    Progress,
    Unique,
    WorkerKilled,
)
from tests.interop.peers import PROGRAMS, Library

NODE_GEARMAN = Library(
    "node-gearman",
    command=("node", str(PROGRAMS / "node" / "node_gearman.js")),
    probe=("node", "-e", "require('node-gearman')"),
)


class TestNodeGearman(
    Foreground,
    BinaryWorkloads,
    Background,
    Priorities,
    Unique,
    Failure,
    Progress,
    WorkerKilled,
):
    library = NODE_GEARMAN
    progress = ("data half", "data whole", "complete")
