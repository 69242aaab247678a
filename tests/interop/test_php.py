"""php-gearman (libgearman)."""

from __future__ import annotations

from tests.interop.features import (
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
from tests.interop.peers import PROGRAMS, Library

PHP = Library(
    "php-gearman",
    command=("php", str(PROGRAMS / "php" / "peer.php")),
    probe=("php", "-r", "exit(extension_loaded('gearman') ? 0 : 1);"),
)


class TestPhp(
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
):
    library = PHP
