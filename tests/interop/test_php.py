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
from tests.interop.peers import LIMIT, PROGRAMS, Library, Peers
from tests.servers import eventually

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

    def test_three_tasks_at_once(self, peers: Peers) -> None:
        peers.worker("reverse")
        assert sorted(peers.start("tasks", "reverse").ended()) == ["abc cba", "def fed", "ghi ihg"]

    def test_status_by_unique(self, peers: Peers) -> None:
        gate = peers.gate()
        unique = str(gate)[-40:]
        peers.start("background", "hold", str(gate), "normal", unique).ended()
        assert peers.start("unique-status", "hold", unique).ended() == ["1 0 0 0"]
        peers.worker("hold").printed(str(gate))
        assert peers.start("unique-status", "hold", unique).ended() == ["1 1 3 4"]
        gate.touch()
        eventually(lambda: peers.status("hold") == (0, 0, 1), LIMIT)
        assert peers.start("unique-status", "hold", unique).ended() == ["0 0 0 0"]
