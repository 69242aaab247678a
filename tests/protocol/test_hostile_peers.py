"""A running server and peers that mean harm, or are only odd: nobody else notices, and memory stays bounded."""

from __future__ import annotations

import os
import resource
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncbridge.dispatch import packets as p
from tests.servers.job_server import JobServerProcess, Peer
from tests.servers.process import REPOSITORY

MIB = 1 << 20
CONNECTIONS = 10_000


@pytest.fixture
def server() -> Iterator[JobServerProcess]:
    with JobServerProcess() as server:
        yield server


def job_done(client: Peer, worker: Peer, payload: bytes) -> None:
    """One foreground job, all the way."""
    handle = client.submit(b"check", payload, kind=p.SUBMIT_JOB)
    assert worker.grab() == (handle, b"check", b"", payload)
    worker.send(p.WORK_COMPLETE, handle, payload)
    assert client.receive() == (p.WORK_COMPLETE, handle + b"\0" + payload)


def test_slow_peers_delay_nobody(server: JobServerProcess) -> None:
    packet = p.request(p.SUBMIT_JOB_BG, b"slow", b"", b"x" * 20)
    with ExitStack() as stack:
        slow = [stack.enter_context(Peer(server.port)) for _ in range(200)]
        client, worker = stack.enter_context(Peer(server.port)), stack.enter_context(Peer(server.port))
        worker.can_do(b"check")
        slowest = 0.0
        for at in range(len(packet)):
            for peer in slow:
                peer.socket.sendall(packet[at : at + 1])
            started = time.monotonic()
            job_done(client, worker, b"%d" % at)
            slowest = max(slowest, time.monotonic() - started)
        for peer in slow:
            peer.expect(p.JOB_CREATED)
    print(f"{len(slow)} peers sent a byte at a time; the slowest job of another took {slowest * 1000:.0f} ms")
    assert slowest < 5
    assert server.total("slow") == len(slow)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 1 << 31, (64 << 20) + 1])
def test_an_enormous_length_closes_its_peer_before_anything_is_kept(server: JobServerProcess, size: int) -> None:
    with Peer(server.port) as client, Peer(server.port) as worker, Peer(server.port) as greedy:
        worker.can_do(b"check")
        before = server.memory()
        greedy.socket.sendall(struct.pack(">4sII", p.REQ, p.SUBMIT_JOB_BG, size))
        with pytest.raises(ConnectionError):
            greedy.receive()
        job_done(client, worker, b"x")
        assert server.memory() - before < 4 * MIB


def test_half_a_packet_and_silence_blocks_nobody(server: JobServerProcess) -> None:
    whole = p.request(p.SUBMIT_JOB, b"f", b"u", b"payload")
    with ExitStack() as stack:
        for end in range(1, len(whole)):
            stack.enter_context(Peer(server.port)).socket.sendall(whole[:end])
        client, worker = stack.enter_context(Peer(server.port)), stack.enter_context(Peer(server.port))
        worker.can_do(b"check")
        job_done(client, worker, b"x")
        assert server.total("f") == 0


def test_binary_and_long_uniques_travel_whole(server: JobServerProcess) -> None:
    uniques = [bytes(range(1, 65)), bytes(range(192, 256)), b"\xff", b"u" * 64, b"u" * 63, b"\r\n.\r\n", b" ", b"--"]
    with Peer(server.port) as client, Peer(server.port) as worker:
        worker.can_do(b"f")
        handles = {client.submit(b"f", b"", unique): unique for unique in uniques}
        assert len(handles) == len(uniques)
        assert {client.submit(b"f", b"again", unique) for unique in uniques} == set(handles)
        for unique in uniques:
            known = client.send(p.GET_STATUS_UNIQUE, unique).expect(p.STATUS_RES_UNIQUE, 6)
            assert known == [unique, b"1", b"0", b"0", b"0", b"0"]
        for _ in uniques:
            grabbed = worker.grab()
            assert grabbed
            assert handles.pop(grabbed[0]) == grabbed[2]
        for size in (65, 66, 1000, 1 << 20):
            answer = client.send(p.SUBMIT_JOB_BG, b"f", b"u" * size, b"").expect(p.ERROR, 2)
            assert answer == [b"ARGUMENT_TOO_LARGE", b"Unique value too large"]
        client.sync()


def test_handles_of_any_length_are_answered(server: JobServerProcess) -> None:
    with Peer(server.port) as client, Peer(server.port) as worker:
        worker.can_do(b"f")
        handle = client.submit(b"f", b"x", kind=p.SUBMIT_JOB)
        assert worker.grab()
        for strange in (
            b"",
            b"H:",
            handle + b"0",
            handle[:-1],
            handle * 10,
            b"H:" + b"9" * 100_000,
            b"\xff" * 65,
            b" " + handle,
        ):
            known = client.send(p.GET_STATUS, strange).expect(p.STATUS_RES, 5)
            assert known == [strange, b"0", b"0", b"0", b"0"]
            for kind in (p.WORK_COMPLETE, p.WORK_DATA, p.WORK_WARNING, p.WORK_EXCEPTION):
                assert worker.send(kind, strange, b"data").expect(p.ERROR, 2)[0] == b"JOB_NOT_FOUND"
            assert worker.send(p.WORK_FAIL, strange).expect(p.ERROR, 2)[0] == b"JOB_NOT_FOUND"
            assert worker.send(p.WORK_STATUS, strange, b"1", b"2").expect(p.ERROR, 2)[0] == b"JOB_NOT_FOUND"
        worker.send(p.WORK_COMPLETE, handle, b"r")
        assert client.receive() == (p.WORK_COMPLETE, handle + b"\0r")


def test_sleepers_and_a_job_for_the_future_cost_no_processor_time(server: JobServerProcess) -> None:
    """gearmand 1.1.20 spins here: every sleeper is told of a job that it then does not get."""
    with ExitStack() as stack:
        sleepers = [stack.enter_context(Peer(server.port)).can_do(b"f").send(p.PRE_SLEEP) for _ in range(50)]
        client = stack.enter_context(Peer(server.port))
        due = b"%d" % (time.time() + 3600)
        client.send(p.SUBMIT_JOB_EPOCH, b"f", b"", due, b"later").expect(p.JOB_CREATED)
        for sleeper in sleepers:
            sleeper.sync()  # nobody was woken: the echo is the first that comes
        before = processor_seconds(server.pid)
        time.sleep(3)
        used = processor_seconds(server.pid) - before
    print(f"50 sleepers and a job due in an hour: {used:.2f} s of processor time in 3 s")
    assert used <= 0.05


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- ten thousand connections ----------------------------------------------------------------------------------------

# A process of its own: it needs as many sockets as the server.
_CROWD = """
import socket, struct, sys
sys.path.insert(0, sys.argv[3])
from tests.protocol.test_hostile_peers import crowd
crowd(int(sys.argv[1]), int(sys.argv[2]))
"""


def crowd(port: int, count: int) -> None:
    """Open `count` connections, each a worker that sleeps; say so; wait for a line; then tell how many were woken."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    greeting = p.request(p.CAN_DO, b"crowded") + p.request(p.PRE_SLEEP) + p.request(p.ECHO_REQ, b"here")
    echo = p.response(p.ECHO_RES, b"here")
    peers = []
    for _ in range(count):
        peer = socket.create_connection(("127.0.0.1", port), timeout=60)
        peer.sendall(greeting)
        peers.append(peer)
    for peer in peers:
        assert peer.recv(len(echo), socket.MSG_WAITALL) == echo
    print("all are asleep", flush=True)
    sys.stdin.readline()
    woken = 0
    with selectors.DefaultSelector() as selector:
        for peer in peers:
            selector.register(peer, selectors.EVENT_READ)
        while found := selector.select(1):
            for key, _ in found:
                assert key.fileobj.recv(100) == p.response(p.NOOP)  # type: ignore[union-attr]
                woken += 1
    print(woken, flush=True)


def test_ten_thousand_connections() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(JobServerProcess(max_connections=CONNECTIONS + 100))
        before = server.memory()
        command = [sys.executable, "-c", _CROWD, str(server.port), str(CONNECTIONS), str(REPOSITORY)]
        crowd = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        )
        stack.callback(crowd.kill)
        assert crowd.stdin
        assert crowd.stdout
        assert crowd.stdout.readline() == "all are asleep\n"
        grown = server.memory() - before
        assert server.status()["crowded"] == (0, 0, CONNECTIONS)
        client, worker = stack.enter_context(Peer(server.port)), stack.enter_context(Peer(server.port))
        worker.can_do(b"check")
        job_done(client, worker, b"x")
        for number in range(100):
            client.submit(b"crowded", b"%d" % number)
        crowd.stdin.write("go on\n")
        woken = int(crowd.stdout.readline())
        print(f"{CONNECTIONS} sleeping workers: {grown / CONNECTIONS / 1024:.1f} KiB each; 100 jobs woke {woken}")
        assert woken == 100
        assert grown < CONNECTIONS * 64 * 1024
