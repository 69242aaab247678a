"""The job server without sockets, threads and clock: sessions on a queue core, driven turn by turn.

Everything a peer can send goes in, everything it would receive is checked for being the protocol.
"""

from __future__ import annotations

from typing import Any

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.queue import JobQueue
from syncbridge.dispatch.reading import Read
from syncbridge.dispatch.session import Session
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.errors import TransientError

#: Small, so that every limit is met.
LIMITS = Limits(
    max_packet=4096,
    max_functions=20,
    max_jobs=50,
    max_bytes=20_000,
    max_foreground_bytes=40_000,
    memory=2000,
    window=3,
    windows=10,
    small_window=2,
    output_pause=2000,
)


class Peer:
    """One connection: its session, and what it received."""

    def __init__(self, server: SocketlessServer, number: int) -> None:
        self.session = Session(server.queue, lambda: None, number=number, sessions=server.sessions)
        self.received: list[p.Packet] = []
        #: The same, as it was on the wire.
        self.raw = bytearray()
        self.gone = False
        self._reader = p.PacketReader(magic=p.RES, max_packet=1 << 30)

    def drain(self) -> None:
        """Take what the server has to say; closes as the server's edge would."""
        data = self.session.drain()
        self.raw += data
        self.received += self._reader.receive(data)
        assert self._reader.error is None, self._reader.error

    def take(self) -> list[p.Packet]:
        self.drain()
        received, self.received = self.received, []
        self.raw.clear()
        return received


class SocketlessServer:
    """`volatile`: as the server has it in front of a MemoryStore, which never fails."""

    def __init__(self, limits: Limits = LIMITS, *, volatile: bool = False) -> None:
        self.store = MemoryStore()
        self.volatile = volatile
        self.queue = JobQueue(self.store, limits=limits, host="h", epoch=1_700_000_000.0, volatile=volatile)
        self.peers: list[Peer] = []
        self.sessions: list[Session] = []
        self.now = 1.0

    def connect(self) -> Peer:
        peer = Peer(self, len(self.peers))
        self.peers.append(peer)
        self.sessions.append(peer.session)
        return peer

    def send(self, peer: Peer, data: bytes) -> None:
        if not peer.gone:
            peer.session.receive(data, self.now)
            self._close_if_due(peer)

    def leave(self, peer: Peer) -> None:
        if not peer.gone:
            peer.gone = True
            peer.drain()
            self.queue.now = self.now
            peer.session.disconnected()
            self.sessions.remove(peer.session)

    def turn(self, *, fail: bool = False) -> bool:
        """One turn of the loop: time, commit (or its failure), reads, output. Whether there was anything to do."""
        fail = fail and not self.volatile
        self.queue.tick(self.now)
        batch = self.queue.take()
        if batch is not None and fail and batch.changes:
            self.queue.failed(batch, "disk full")
        elif batch is not None:
            self.store.commit(batch.changes)
            self.queue.committed(batch)
        reads = self.queue.take_reads()
        if reads:
            self.queue.reads_done([self._read(read, fail) for read in reads], self.now)
        busy = batch is not None or bool(reads)
        for peer in self.peers:
            if not peer.gone:
                busy |= peer.session.pending
                peer.drain()
                peer.session.resume(self.now)
                self._close_if_due(peer)
        return busy

    def settle(self) -> None:
        """Turn until nothing is left to do."""
        for _ in range(1000):
            if not self.turn():
                return
        raise AssertionError("the server never comes to rest")

    def check(self) -> None:
        """What must hold at any moment."""
        holdings = self.queue.holdings
        assert 0 <= holdings.count <= LIMITS.max_jobs
        assert 0 <= holdings.foreground_bytes <= LIMITS.max_foreground_bytes + LIMITS.max_packet
        assert holdings.bytes >= 0
        assert holdings.payload_bytes >= 0
        assert len(self.queue.functions) <= LIMITS.max_functions
        for peer in self.peers:
            assert peer.session.held <= max(LIMITS.max_packet + p.HEADER_SIZE, p.MAX_LINE)

    def _read(self, read: Read, fail: bool) -> tuple[Read, Any]:
        return read, TransientError("the store is away") if fail else read.ask(self.store)

    def _close_if_due(self, peer: Peer) -> None:
        if peer.session.closing:
            self.leave(peer)


def ready_bystanders(server: SocketlessServer) -> tuple[Peer, Peer]:
    """A client and a worker of a function of their own."""
    client, worker = server.connect(), server.connect()
    server.send(worker, p.request(p.CAN_DO, b"bystander"))
    return client, worker


def whole_job(server: SocketlessServer, client: Peer, worker: Peer) -> None:
    """A bystander's foreground job, all the way: nobody else's doings may hinder it."""
    client.take()
    worker.take()
    server.send(client, p.request(p.SUBMIT_JOB, b"bystander", b"", b"payload"))
    server.settle()
    created = [body for kind, body in client.take() if kind == p.JOB_CREATED]
    assert len(created) == 1
    handle = created[0]
    server.send(worker, p.request(p.GRAB_JOB))
    server.settle()
    assert (p.JOB_ASSIGN, handle + b"\0bystander\0payload") in worker.take()
    server.send(worker, p.request(p.WORK_COMPLETE, handle, b"result"))
    server.settle()
    assert client.take() == [(p.WORK_COMPLETE, handle + b"\0result")]
