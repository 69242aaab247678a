"""Perl's Gearman::Client and Gearman::Worker"""

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
from tests.interop.peers import PROGRAMS, Library, Peers

PERL = Library(
    "Gearman::Client",
    command=("perl", str(PROGRAMS / "perl" / "peer.pl")),
    probe=("perl", "-MGearman::Client", "-MGearman::Worker", "-e", "1"),
)


class TestPerl(
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
    library = PERL
    admin = ("status note 0 0 1", "status reverse 1 0 0")
    only_ours: ClassVar[frozenset[str]] = frozenset(
        {
            # gearmand answers the WORK_FAIL after WORK_EXCEPTION with an ERROR, and the worker dies of it.
            "test_a_worker_goes_on_after_its_job_died",
            # The worker leaves an empty result out of WORK_COMPLETE; gearmand then hands out the job for ever.
            "test_an_empty_result_ends_the_job",
        }
    )

    def test_a_worker_goes_on_after_its_job_died(self, peers: Peers) -> None:
        peers.worker("die")
        for _ in range(2):
            assert peers.foreground("die", b"x") is None
        assert peers.status("die") == (0, 0, 1)

    def test_an_empty_result_ends_the_job(self, peers: Peers) -> None:
        worker = peers.worker("empty")
        assert peers.foreground("empty", b"once") == b""
        worker.printed("once")
        assert peers.status("empty") == (0, 0, 1)
