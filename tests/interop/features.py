"""What a client library can do with a Gearman server, each feature as one class of tests.

A test class of a library takes on the features that the library has; clients/README.md says which it has not, and
why. In every test the library is both client and worker.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.interop.peers import LIMIT, Library, Peers
from tests.servers import ServerProcess, eventually
from tests.servers.job_server import Peer


class Interop:
    """Base of all features."""

    library: ClassVar[Library]
    #: Tests that gearmand does not pass, because of a defect of its own that is said there.
    only_ours: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def peers(self, gearman_server: ServerProcess, tmp_path: Path) -> Iterator[Peers]:
        self.library.check()
        peers = Peers(self.library, gearman_server.port, tmp_path)
        yield peers
        peers.end()


class Foreground(Interop):
    def test_foreground(self, peers: Peers) -> None:
        peers.worker("reverse")
        assert peers.foreground("reverse", b"Hello") == b"olleH"
        large = random.Random(1).choices(b"abcdefghijklmnopqrstuvwxyz", k=300_000)
        assert peers.foreground("reverse", bytes(large)) == bytes(reversed(large))

    def test_a_foreground_job_waits_for_a_worker(self, peers: Peers) -> None:
        client = peers.start_foreground("reverse", b"Hello")
        client.until(lambda: peers.status("reverse") == (1, 0, 0))
        peers.worker("reverse")
        assert client.ended() == ["olleH"]


class BinaryWorkloads(Interop):
    def test_binary_workload_and_result(self, peers: Peers) -> None:
        peers.worker("reverse")
        everything = bytes(range(256)) * 4
        assert peers.foreground("reverse", everything) == everything[::-1]


class Background(Interop):
    def test_background(self, peers: Peers) -> None:
        handles = [peers.background("note", f"job {n}") for n in range(3)]
        assert len(set(handles)) == 3 or not any(handles)
        assert peers.status("note") == (3, 0, 0)
        worker = peers.worker("note")
        worker.printed("job 0", "job 1", "job 2")
        eventually(lambda: peers.status("note") == (0, 0, 1), LIMIT)


class Priorities(Interop):
    def test_priorities(self, peers: Peers) -> None:
        for priority in ("low", "normal", "high"):
            peers.background("note", f"{priority} 1", priority)
            peers.background("note", f"{priority} 2", priority)
        peers.worker("note").printed("high 1", "high 2", "normal 1", "normal 2", "low 1", "low 2")


class Unique(Interop):
    def test_background_jobs_with_one_unique_are_one(self, peers: Peers) -> None:
        first = peers.background("note", "one", unique="same")
        assert peers.background("note", "another", unique="same") == first
        assert peers.total("note") == 1
        other = peers.background("note", "two", unique="different")
        assert other != first or not other
        assert peers.total("note") == 2
        peers.worker("note").printed("one", "two")

    def test_foreground_clients_share_the_result_of_one_job(self, peers: Peers) -> None:
        gate = peers.gate()
        worker = peers.worker("hold")
        clients = [peers.start_foreground("hold", bytes(gate), unique="same")]
        worker.printed(str(gate))
        clients.append(peers.start_foreground("hold", b"ignored", unique="same"))
        eventually(lambda: peers.clients_of("same") == 2, LIMIT)
        gate.touch()
        assert [client.ended() for client in clients] == [["released"], ["released"]]
        worker.printed(str(gate))


class Failure(Interop):
    def test_a_failed_job_fails_at_its_client(self, peers: Peers) -> None:
        peers.worker("fail")
        assert peers.foreground("fail", b"x") is None
        eventually(lambda: peers.status("fail") == (0, 0, 1), LIMIT)


class Exceptions(Interop):
    #: What the library shows its user of the exception "boom".
    exception: ClassVar[tuple[str, ...]] = ("exception boom",)

    def test_an_exception_arrives_at_its_client(self, peers: Peers) -> None:
        peers.worker("explode")
        for _ in range(2):  # and the worker survives it
            assert peers.start("events", "explode").ended() == list(self.exception)
        eventually(lambda: peers.status("explode") == (0, 0, 1), LIMIT)


class Progress(Interop):
    #: What the library shows its user of status 1/2, data "half", warning "mind", result "whole".
    progress: ClassVar[tuple[str, ...]] = ("status 1 2", "data half", "warning mind", "complete whole")

    def test_progress_arrives_at_its_client(self, peers: Peers) -> None:
        peers.worker("steps")
        assert peers.start("events", "steps").ended() == list(self.progress)


class Status(Interop):
    #: "known running numerator denominator" of a job that is queued, running at three quarters, gone.
    status: ClassVar[tuple[str, str, str]] = ("1 0 0 0", "1 1 3 4", "0 0 0 0")

    def test_status_of_a_background_job(self, peers: Peers) -> None:
        queued, running, gone = self.status
        gate = peers.gate()
        client = peers.start("status", "hold", str(gate))
        client.printed(queued)
        peers.worker("hold").printed(str(gate))
        client.until(lambda: client.lines[-1] == running, running)
        gate.touch()
        assert client.ended()[-1] == gone


class WorkerKilled(Interop):
    def test_a_background_job_of_a_killed_worker_is_done_by_another(self, peers: Peers) -> None:
        gate = peers.gate()
        peers.background("hold", str(gate))
        self._kill_in_mid_job(peers, gate)
        gate.touch()
        eventually(lambda: peers.status("hold") == (0, 0, 1), LIMIT)

    def test_a_foreground_client_gets_its_result_from_another_worker(self, peers: Peers) -> None:
        gate = peers.gate()
        client = peers.start_foreground("hold", bytes(gate))
        client.until(lambda: peers.total("hold") == 1)
        self._kill_in_mid_job(peers, gate)
        gate.touch()
        assert client.ended() == ["released"]

    def _kill_in_mid_job(self, peers: Peers, gate: Path) -> None:
        victim = peers.worker("hold")
        victim.printed(str(gate))
        victim.kill9()
        eventually(lambda: peers.status("hold") == (1, 0, 0), LIMIT)
        peers.worker("hold").printed(str(gate))
        assert peers.status("hold") == (1, 1, 1)


class Admin(Interop):
    #: The lines that the library's own administration client can tell; the id is what its worker calls itself.
    admin: ClassVar[tuple[str, ...]] = (
        "status note 0 0 1",
        "status reverse 1 0 0",
        "version {version}",
        "worker interop-note note",
    )

    def test_administration(self, peers: Peers) -> None:
        peers.background("reverse", "queued")
        peers.worker("note")
        with Peer(peers.port) as peer:
            version = peer.text("version").removeprefix("OK ").strip()
        expected = [line.format(version=version) for line in self.admin]
        assert peers.admin() == expected
