"""Load for any Gearman server, as raw packets: the same bytes in the same batches, whoever answers. One process.

Every job has a unique of its own: gearmand's stores keep one job for each. Rates are jobs per second.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

JOB_CREATED, NO_JOB, JOB_ASSIGN, ERROR, NOOP, ECHO_RES = 8, 10, 11, 19, 6, 17
#: Submits in one piece, and how many jobs an end-to-end run keeps in the server at most.
BATCH, AHEAD = 500, 2000
PAYLOAD = b"x" * 200

_header = struct.Struct(">4sII")
_numbers = itertools.count()


def request(kind: int, body: bytes = b"") -> bytes:
    return _header.pack(b"\0REQ", kind, len(body)) + body


_GRAB, _SLEEP = request(9), request(4)


class Rate(NamedTuple):
    jobs: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.jobs / self.seconds


class Peer:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""

    def packets(self) -> list[tuple[int, bytes]]:
        """At least one: waits for it."""
        found: list[tuple[int, bytes]] = []
        while not found:
            data = self.socket.recv(1 << 18)
            if not data:
                raise ConnectionError("the server closed the connection")
            data, position = self._left + data, 0
            while len(data) - position >= 12:
                _, kind, size = _header.unpack_from(data, position)
                if len(data) - position - 12 < size:
                    break
                found.append((kind, data[position + 12 : position + 12 + size]))
                position += 12 + size
                if kind == ERROR:
                    raise ConnectionError(f"the server refused: {found[-1][1]!r}")
            self._left = data[position:]
        return found

    def sync(self) -> None:
        """Return once the server has dealt with everything sent before."""
        self.socket.sendall(request(16, b"sync"))
        while ECHO_RES not in [kind for kind, _ in self.packets()]:
            pass


def batch(function: bytes, count: int) -> bytes:
    """Background submits."""
    return _template(function, count) % tuple(itertools.islice(_numbers, count))


@cache
def _template(function: bytes, count: int) -> bytes:
    """Filling it in is a tenth of the work of making each packet."""
    number = b"@" * 12
    packet = request(18, b"%b\0u%b\0%b" % (function, number, PAYLOAD)).replace(b"%", b"%%")
    return packet.replace(number, b"%012d") * count


def one_at_a_time(port: int, function: bytes, seconds: float) -> Rate:
    """One connection, one submit, its answer, the next."""
    peer = Peer(port)
    done, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        peer.socket.sendall(batch(function, 1))
        peer.packets()
        done += 1
    return Rate(done, passed)


def end_to_end(port: int, function: bytes, seconds: float, grabs: int, jobs: int = 0) -> Rate:
    """Jobs submitted, grabbed and completed: one submitter, one worker with `grabs` grabs in flight.

    Submits for `seconds`, or `jobs` jobs, and drains.
    """
    return list(rounds(port, function, seconds, grabs, jobs))[-1]


def rounds(port: int, function: bytes, seconds: float, grabs: int, jobs: int = 0, every: int = 0) -> Iterator[Rate]:
    """end_to_end(), with what is done so far after each `every` jobs, and at the end."""
    submitter, worker = Peer(port), Peer(port)
    poll = select.poll()
    for peer in (submitter, worker):
        poll.register(peer.socket, select.POLLIN)
    submitted = accepted = done = reported = dry = 0
    worker.socket.sendall(request(1, function))
    started = time.perf_counter()
    blob = batch(function, BATCH)
    worker.socket.sendall(_GRAB * grabs)
    while True:
        more = submitted < jobs if jobs else time.perf_counter() - started < seconds
        if more and submitted == accepted and submitted - done <= AHEAD - BATCH:
            submitter.socket.sendall(blob)
            submitted += BATCH
            blob = batch(function, BATCH)
        elif not more and done == submitted:
            break
        for descriptor, _ in poll.poll(120_000) or _stuck():
            if descriptor == submitter.socket.fileno():
                accepted += len(submitter.packets())
                continue
            output: list[bytes] = []
            for kind, body in worker.packets():
                if kind == JOB_ASSIGN:
                    handle = body[: body.index(b"\0") + 1]
                    output.append(_header.pack(b"\0REQ", 13, len(handle)) + handle + _GRAB)
                    done += 1
                elif kind == NO_JOB:
                    dry += 1
                    if dry == grabs:
                        output.append(_SLEEP)
                elif kind == NOOP and dry == grabs:
                    output.append(_GRAB * grabs)
                    dry = 0
            worker.socket.sendall(b"".join(output))
        if every and done - reported >= every:
            reported = done
            yield Rate(done, time.perf_counter() - started)
    worker.sync()
    yield Rate(done, time.perf_counter() - started)


def _stuck() -> list[tuple[int, int]]:
    raise TimeoutError("the server said nothing for two minutes")
