"""Submits in batches to any queue: Gearman servers, Redis Streams, beanstalkd. One connection, one process.

A batch goes out in one piece, the next when all of it is answered. Batches are filled in from a template, answers are
counted and not parsed: the client costs a small part of what any of these servers does.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks.tools.gearman_load import BATCH, PAYLOAD, Rate, batch, request
from benchmarks.tools.queues import STREAM


class Dialect(NamedTuple):
    """How a queue is spoken to."""

    #: The next BATCH submits.
    batch: Callable[[], bytes]
    #: What every answer holds once when the job is accepted, and what only a refusal holds.
    accepted: bytes
    refused: bytes


def gearman(function: bytes, *, named: bool = True) -> Dialect:
    """Background jobs, `named` each with a unique of its own, else without."""
    unnamed = request(18, b"%b\0\0%b" % (function, PAYLOAD)) * BATCH
    make = partial(batch, function, BATCH) if named else partial(bytes, unnamed)
    return Dialect(make, b"\0RES\0\0\0\x08", b"\0RES\0\0\0\x13")


def redis_streams() -> Dialect:
    words = (b"XADD", STREAM, b"*", b"payload", PAYLOAD)
    command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return Dialect(partial(bytes, command * BATCH), b"$", b"-ERR")


def beanstalkd() -> Dialect:
    command = b"put 0 0 60 %d\r\n%b\r\n" % (len(PAYLOAD), PAYLOAD)
    return Dialect(partial(bytes, command * BATCH), b"INSERTED", b"OUT_OF_MEMORY")


def pipelined(port: int, dialect: Dialect, seconds: float) -> Rate:
    """BATCH submits sent at once, the next when all are answered."""
    make, accepted, refused = dialect
    with socket.create_connection(("127.0.0.1", port), timeout=120) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        done, left, started = 0, b"", time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            peer.sendall(make())
            due = BATCH
            while due > 0:
                data = peer.recv(1 << 18)
                if not data or refused in data:
                    raise ConnectionError(f"the server refused: {data[-200:]!r}")
                data = left + data
                due -= data.count(accepted)
                left = data[len(data) - len(accepted) + 1 :]
            done += BATCH
    return Rate(done, passed)
