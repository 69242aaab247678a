"""abraxas (npm)."""

from __future__ import annotations

import time
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

ABRAXAS = Library(
    "abraxas",
    command=("node", str(PROGRAMS / "node" / "abraxas.js")),
    probe=("node", "-e", "require('abraxas')"),
)


class TestAbraxas(
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
    library = ABRAXAS
    exception = ("exception Error: boom",)
    progress = ("status 0.5", "warning mind", "complete whole")
    status = ("1 0 0", "1 1 0.75", "0 0 0")
    admin = ("status note 0 0 1", "status reverse 1 0 0", "worker interop-note note")
    only_ours: ClassVar[frozenset[str]] = frozenset(
        {
            # gearmand answers the WORK_FAIL after WORK_EXCEPTION with an ERROR, and the worker ends.
            "test_an_exception_arrives_at_its_client",
            # gearmand wakes no worker for a job that is due.
            "test_a_job_for_later_waits_for_its_second",
        }
    )

    def test_a_job_for_later_waits_for_its_second(self, peers: Peers) -> None:
        worker = peers.worker("note")
        submitted = time.time()
        peers.start("later", "note", "on time").ended()
        worker.until(lambda: worker.lines == ["on time"], "job")
        assert time.time() >= int(submitted) + 1
