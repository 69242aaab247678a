"""The programs gearman and gearadmin (gearman-tools)."""

from __future__ import annotations

import subprocess

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
from tests.interop.peers import LIMIT, PROGRAMS, Library, Peers
from tests.servers import ServerProcess, eventually

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

    def test_every_option_of_gearadmin(self, peers: Peers, gearman_server: ServerProcess) -> None:
        note, made, unique = peers.function("note"), peers.function("made"), peers.function("unique")
        assert gearadmin(peers, "getpid") == [str(gearman_server.pid)]
        assert gearadmin(peers, "server-verbose") == ["INFO"]
        before = set(gearadmin(peers, "show-jobs"))
        peers.background("note", "x", "high", unique="unique")
        assert f"{note}\t1\t0\t0\t0" in gearadmin(peers, "priority-status")
        assert unique in gearadmin(peers, "show-unique-jobs")
        (job,) = set(gearadmin(peers, "show-jobs")) - before
        handle, *rest = job.split("\t")
        assert rest == ["0", "0", "1"]
        assert gearadmin(peers, f"cancel-job={handle}") == ["OK"]
        worker = peers.worker("note")
        eventually(lambda: peers.status("note") == (0, 0, 1), LIMIT)
        assert worker.lines == []
        assert gearadmin(peers, f"create-function={made}") == ["OK"]
        assert f"{made}\t0\t0\t0" in gearadmin(peers, "status")
        assert gearadmin(peers, f"drop-function={made}") == ["OK"]
        assert f"{made}\t0\t0\t0" not in gearadmin(peers, "status")

    def test_a_job_for_each_line(self, peers: Peers) -> None:
        peers.worker("reverse")
        command = ["gearman", "-h", "127.0.0.1", "-p", str(peers.port), "-N", "-f", peers.function("reverse")]
        asked = subprocess.run(command, input=b"abc\ndef\nghi\n", stdout=subprocess.PIPE, timeout=60, check=True)
        assert asked.stdout == b"cbafedihg"


def gearadmin(peers: Peers, option: str) -> list[str]:
    command = ["gearadmin", "-h", "127.0.0.1", "-p", str(peers.port), f"--{option}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
    return done.stdout.decode(errors="replace").splitlines()  # jobs of other tests have any bytes as their uniques
