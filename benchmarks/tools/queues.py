"""Durable queues that speak no Gearman, peers of submits: Redis Streams and beanstalkd, fsync before every answer."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from benchmarks.tools.missing import MissingPeer
from tests.servers import Redis, ServerProcess

#: The stream that takes the jobs.
STREAM = b"jobs"


@contextmanager
def redis_streams() -> Iterator[ServerProcess]:
    with Redis(appendonly=True, appendfsync="always") as server:
        yield server


def stream_length(server: ServerProcess) -> int:
    assert isinstance(server, Redis)
    with server.client() as client:
        return int(client.xlen(STREAM))


def install_beanstalkd() -> None:
    if shutil.which("beanstalkd") is None:
        raise MissingPeer("there is no beanstalkd on PATH; on Debian: scripts/install-servers --benchmarks")


class Beanstalkd(ServerProcess):
    """With its binlog in its folder; -f0: fsync at every write."""

    name: ClassVar[str] = "beanstalkd"

    def command(self) -> list[str]:
        return ["beanstalkd", "-l", "127.0.0.1", "-p", str(self.port), "-b", str(self.folder), "-f0"]

    def ready(self) -> bool:
        try:
            return self.jobs() >= 0
        except OSError:
            return False

    def jobs(self) -> int:
        """Jobs that wait for a worker."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as peer:
            peer.sendall(b"stats\r\n")
            answer = b""
            while not answer.endswith(b"\r\n") or b"current-jobs-ready" not in answer:
                data = peer.recv(1 << 16)
                if not data:
                    raise ConnectionError("beanstalkd closed the connection")
                answer += data
        return int(answer.partition(b"current-jobs-ready: ")[2].split()[0])
