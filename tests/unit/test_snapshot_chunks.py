"""The thread that reads chunks: how it waits while the source is away."""

from __future__ import annotations

import queue
import select

import pytest

from syncbridge.capture.bell import Bell
from syncbridge.capture.snapshot import reader
from syncbridge.capture.snapshot.chunks import ChunkReader
from syncbridge.capture.snapshot.orders import ChunkOrder
from syncbridge.errors import TransientError
from tests.servers import eventually


def test_a_new_source_is_tried_at_once_however_long_the_old_one_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PAUSE", 600.0)
    attempts: queue.SimpleQueue[int] = queue.SimpleQueue()

    def connect(**_: object) -> None:
        attempts.put(1)
        raise TransientError("nobody there")

    chunks = ChunkReader("shop", connect, connect)
    chunks.start()
    chunks.read(ChunkOrder(db="shop", table="t", key_columns=lambda schema: ()))
    eventually(lambda: attempts.qsize() == 1)
    chunks.reset()
    eventually(lambda: attempts.qsize() == 2)
    chunks.stop()
    assert chunks.join(5)


def test_a_bell_is_heard_until_it_is_quiet_and_costs_nothing_once_closed() -> None:
    bell = Bell()
    assert select.select([bell], [], [], 0)[0] == []
    for _ in range(100_000):  # more than a socket holds
        bell.ring()
    assert select.select([bell], [], [], 0)[0] == [bell]
    bell.quiet()
    assert select.select([bell], [], [], 0)[0] == []
    bell.close()
    bell.ring()
