"""The job server as a process of its own, and a peer that speaks raw packets to it."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from syncbridge.dispatch import packets as p
from tests.servers.process import REPOSITORY, ServerProcess, process_cpu

_PROGRAM = """
import asyncio, json, signal, sys, time
sys.path.insert(0, sys.argv[4])
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.policy import Policies, Policy
from syncbridge.dispatch.server import JobServer, new_event_loop
from syncbridge.dispatch.store.opening import open_store
from syncbridge.errors import TransientError
from syncbridge.garbage import relax_garbage_collection

def store(deadline):
    while True:  # as whoever supervises a server would
        try:
            return open_store(sys.argv[2])
        except TransientError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)

async def main():
    options = json.loads(sys.argv[3])
    policies = {pattern: Policy(**policy) for pattern, policy in options["policies"].items()}
    lane = {"lane": policies.pop("lane")} if "lane" in policies else {}
    server = JobServer(
        "127.0.0.1", int(sys.argv[1]), store(time.monotonic() + 30), limits=Limits(**options["limits"]),
        policies=Policies(by_pattern=list(policies.items()), **lane),
    )
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.drain(options["drain"])
    await server.stop()

relax_garbage_collection()
asyncio.set_event_loop(loop := new_event_loop())
loop.run_until_complete(main())
"""


class JobServerProcess(ServerProcess):
    """`JobServer` with a store at a URL, by default an SQLite file in its folder; `limits` are fields of `Limits`.

    `policies`: pattern -> fields of `Policy`, `lane` is that of lanes. `drain`: seconds for running jobs after SIGTERM.
    """

    name: ClassVar[str] = "job-server"

    def __init__(
        self, store: str = "", policies: dict[str, dict[str, Any]] | None = None, drain: float = 0.0, **limits: Any
    ) -> None:
        super().__init__()
        self.policies = policies or {}
        self.drain = drain
        self.store = store or f"sqlite:///{self.folder / 'queue.db'}"
        self.limits = limits

    def command(self) -> list[str]:
        options = {"limits": self.limits, "policies": self.policies, "drain": self.drain}
        arguments = [str(self.port), self.store, json.dumps(options), str(REPOSITORY)]
        return [sys.executable, "-c", _PROGRAM, *arguments]

    def ready(self) -> bool:
        try:
            with Peer(self.port) as peer:
                return peer.text("version").startswith("OK")
        except OSError:
            return False

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        return process_cpu(self.pid)

    def status(self) -> dict[str, tuple[int, int, int]]:
        """Function -> (total, running, workers)."""
        with Peer(self.port) as peer:
            lines = peer.text("status", end=".\n").splitlines()[:-1]
        return {name: (int(a), int(b), int(c)) for name, a, b, c in (line.split("\t") for line in lines)}

    def total(self, function: str) -> int:
        return self.status().get(function, (0, 0, 0))[0]


class Peer:
    """A blocking connection that sends and expects packets, for tests that care about every one of them."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = p.PacketReader(magic=p.RES, max_packet=1 << 30)
        self._packets: list[p.Packet] = []

    def send(self, kind: int, *arguments: bytes) -> Self:
        self.socket.sendall(p.request(kind, *arguments))
        return self

    def receive(self) -> p.Packet:
        """The next packet. Raises ConnectionError when the server closed, TimeoutError."""
        while not self._packets:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError("closed by the server")
            self._packets += self._reader.receive(data)
            assert self._reader.error is None, self._reader.error
        return self._packets.pop(0)

    def expect(self, kind: int, count: int = 1) -> list[bytes]:
        """The arguments of the next packet, which must be of this kind; `count`: how many arguments it has."""
        found, body = self.receive()
        assert found == kind, f"{p.NAMES[found]} {body!r} instead of {p.NAMES[kind]}"
        return p.arguments(body, count)

    def ask(self, kind: int, *arguments: bytes) -> p.Packet:
        return self.send(kind, *arguments).receive()

    def can_do(self, *functions: bytes) -> Self:
        for function in functions:
            self.send(p.CAN_DO, function)
        return self

    def submit(self, function: bytes, payload: bytes = b"", unique: bytes = b"", kind: int = p.SUBMIT_JOB_BG) -> bytes:
        """The handle of a job just accepted."""
        return self.send(kind, function, unique, payload).expect(p.JOB_CREATED)[0]

    def grab(self) -> tuple[bytes, bytes, bytes, bytes] | None:
        """(handle, function, unique, payload), or None for NO_JOB."""
        kind, body = self.ask(p.GRAB_JOB_UNIQ)
        if kind == p.NO_JOB:
            return None
        assert kind == p.JOB_ASSIGN_UNIQ, p.NAMES[kind]
        handle, function, unique, payload = p.arguments(body, 4)
        return handle, function, unique, payload

    def text(self, command: str, end: str = "\n") -> str:
        self.socket.sendall(command.encode() + b"\n")
        answer = b""
        while not answer.endswith(end.encode()):
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError("closed by the server")
            answer += data
        return answer.decode(errors="replace")

    def sync(self) -> None:
        """Return once the server has dealt with everything sent before."""
        assert self.ask(p.ECHO_REQ, b"sync") == (p.ECHO_RES, b"sync")

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
