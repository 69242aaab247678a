"""`snapshot --wait` waits for what its own request began, whenever capture takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from syncbridge.commands import snapshot
from syncbridge.state import Request, SnapshotRow, State
from syncbridge.state.requests import SNAPSHOT
from syncbridge.state.snapshots import DONE, WAITING

EARLIER = SnapshotRow(db="shop", table="orders", status=DONE, rows_done=3, started_at=1.0, finished_at=2.0)
NOW = replace(EARLIER, status=WAITING, rows_done=0, started_at=3.0)


class Capture:
    """Takes the request within the very look at it, and is done with its table two looks later."""

    def __init__(self, state: State, pending: Callable[[str], list[Request]]) -> None:
        self._state, self._pending = state, pending
        self.looks = 0

    def __call__(self, kind: str) -> list[Request]:
        self.looks += 1
        if self.looks == 1:
            self._state.snapshots.save(NOW)
            self._state.requests.done(*(request.id for request in self._pending(kind)))
        if self.looks == 3:
            self._state.snapshots.save(replace(NOW, status=DONE, rows_done=7))
        return self._pending(kind)


def test_a_request_that_is_taken_between_two_looks_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State.open(f"sqlite:///{tmp_path}/state.db", "shop")
    state.snapshots.save(EARLIER)
    state.requests.file(SNAPSHOT, payload={"reason": "by hand"})
    capture = Capture(state, state.requests.pending)
    monkeypatch.setattr(state.requests, "pending", capture)
    monkeypatch.setattr(snapshot, "LOOK", 0.0)
    rows = snapshot._wait(state, "", "", {("shop", "orders"): 1.0}, timeout=10, quiet=True)
    state.close()
    assert [(row.status, row.rows_done) for row in rows] == [(DONE, 7)]
    assert capture.looks == 3
