"""The job server over real sockets: what a client and a worker see."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from syncbridge.dispatch import packets as p
from tests.servers.job_server import JobServerProcess, Peer
from tests.servers.waiting import eventually

LANE = b"syncbridge.shop.0"
NewServer = Callable[..., JobServerProcess]


@pytest.fixture
def new_job_server() -> Iterator[NewServer]:
    with ExitStack() as stack:
        yield lambda **limits: stack.enter_context(JobServerProcess(**limits))


@pytest.fixture
def server(new_job_server: NewServer) -> JobServerProcess:
    return new_job_server()


@pytest.fixture
def connect(server: JobServerProcess) -> Iterator[Callable[[], Peer]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Peer(server.port))


Connect = Callable[[], Peer]


# -- the protocol ----------------------------------------------------------------------------------------------------


def test_foreground_job_from_submit_to_result(connect: Connect) -> None:
    client, worker = connect(), connect()
    worker.can_do(b"reverse").send(p.PRE_SLEEP)
    worker.sync()
    handle = client.submit(b"reverse", b"abc", kind=p.SUBMIT_JOB)
    assert re.fullmatch(rb"H:[^:]+:\d+", handle)
    worker.expect(p.NOOP, 1)
    assert worker.ask(p.GRAB_JOB) == (p.JOB_ASSIGN, handle + b"\0reverse\0abc")
    assert client.ask(p.GET_STATUS, handle) == (p.STATUS_RES, handle + b"\x001\x001\x000\x000")
    worker.send(p.WORK_STATUS, handle, b"1", b"2")
    worker.send(p.WORK_DATA, handle, b"part").send(p.WORK_WARNING, handle, b"hm").send(p.WORK_COMPLETE, handle, b"c\0b")
    assert client.receive() == (p.WORK_STATUS, handle + b"\x001\x002")
    assert client.receive() == (p.WORK_DATA, handle + b"\0part")
    assert client.receive() == (p.WORK_WARNING, handle + b"\0hm")
    assert client.receive() == (p.WORK_COMPLETE, handle + b"\0c\0b")
    assert client.ask(p.GET_STATUS, handle) == (p.STATUS_RES, handle + b"\x000\x000\x000\x000")
    assert worker.grab() is None


def test_exceptions_reach_only_clients_that_asked(connect: Connect) -> None:
    plain, eager, worker = connect(), connect(), connect()
    assert eager.ask(p.OPTION_REQ, b"exceptions") == (p.OPTION_RES, b"exceptions")
    assert eager.ask(p.OPTION_REQ, b"other")[0] == p.ERROR
    one = plain.submit(b"f", b"1", kind=p.SUBMIT_JOB)
    two = eager.submit(b"f", b"2", kind=p.SUBMIT_JOB)
    worker.can_do(b"f")
    for _ in range(2):
        grabbed = worker.grab()
        assert grabbed
        worker.send(p.WORK_EXCEPTION, grabbed[0], b"boom")
        worker.send(p.WORK_FAIL, grabbed[0]).sync()  # what Perl's worker sends after
    assert plain.receive() == (p.WORK_FAIL, one)
    assert eager.receive() == (p.WORK_EXCEPTION, two + b"\0boom")


def test_priorities_then_order_of_submission(connect: Connect) -> None:
    client, worker = connect(), connect()
    for kind, name in (
        (p.SUBMIT_JOB_LOW_BG, b"low"),
        (p.SUBMIT_JOB_BG, b"normal 1"),
        (p.SUBMIT_JOB_BG, b"normal 2"),
        (p.SUBMIT_JOB_HIGH_BG, b"high"),
    ):
        client.submit(b"f", name, kind=kind)
    worker.can_do(b"f")
    assert [grabbed[3] for grabbed in iter(worker.grab, None)] == [b"high", b"normal 1", b"normal 2", b"low"]


def test_equal_uniques_share_a_handle_and_empty_ones_never(connect: Connect) -> None:
    client = connect()
    assert client.submit(b"f", b"1", b"u") == client.submit(b"f", b"2", b"u")
    assert client.submit(b"f", b"1", b"-") == client.submit(b"f", b"1", b"-") != client.submit(b"f", b"2", b"-")
    assert client.submit(b"f", b"", b"-") != client.submit(b"f", b"", b"-")
    assert client.submit(b"f", b"1") != client.submit(b"f", b"1")
    assert client.submit(b"g", b"1", b"u") != client.submit(b"f", b"1", b"u")
    long = bytes(range(1, 65))
    assert client.submit(b"f", b"", long) == client.submit(b"f", b"", long) != client.submit(b"f", b"", long[:-1])
    assert client.ask(p.SUBMIT_JOB_BG, b"f", b"x" * 65, b"")[1].startswith(b"ARGUMENT_TOO_LARGE\0")


def test_background_job_joined_by_a_client_that_leaves_still_runs(server: JobServerProcess, connect: Connect) -> None:
    client, visitor, worker = connect(), connect(), connect()
    handle = client.submit(b"f", b"data", b"u")
    assert visitor.submit(b"f", b"data", b"u", kind=p.SUBMIT_JOB) == handle
    visitor.close()
    lonely = connect()
    lonely.submit(b"f", b"nobody waits", kind=p.SUBMIT_JOB)
    lonely.close()
    eventually(lambda: server.total("f") == 1)
    worker.can_do(b"f")
    assert worker.grab() == (handle, b"f", b"u", b"data")
    assert worker.grab() is None


def test_replies_keep_the_order_of_the_requests(connect: Connect) -> None:
    client = connect()
    one = p.request(p.SUBMIT_JOB_BG, b"f", b"", b"x")
    client.socket.sendall((one + p.request(p.ECHO_REQ, b"e") + p.request(p.SUBMIT_JOB_BG, b"", b"", b"")) * 50)
    for _ in range(50):
        client.expect(p.JOB_CREATED)
        assert client.receive() == (p.ECHO_RES, b"e")
        assert client.receive()[0] == p.ERROR


@pytest.mark.parametrize("kind", [p.ALL_YOURS, p.NOOP])
def test_packets_not_served_are_answered(connect: Connect, kind: int) -> None:
    client = connect()
    assert client.ask(kind, b"f", b"", b"", b"", b"") == (p.ERROR, b"INVALID_COMMAND\0Command not expected")
    client.sync()


def test_text_commands(server: JobServerProcess, connect: Connect) -> None:
    admin, worker = connect(), connect()
    worker.can_do(b"f", b"g").send(p.SET_CLIENT_ID, b"me")
    worker.sync()
    admin.submit(b"f", b"x")
    assert admin.text("status", end=".\n") == "f\t1\t0\t1\ng\t0\t0\t1\n.\n"
    assert re.search(r"^\d+ 127\.0\.0\.1 me : g f$", admin.text("workers", end="\n.\n"), re.M)
    assert admin.text("VERSION\r").startswith("OK ")
    assert re.fullmatch(r"OK [0-9a-f]{32}\n", admin.text("queue id"))
    assert admin.text("queue pending f") == "OK 1\n"
    assert admin.text("queue what") == "ERR INVALID_ARGUMENTS queue+id+or+queue+pending+PREFIX\r\n"
    assert admin.text("nonsense") == "ERR UNKNOWN_COMMAND Unknown+server+commandnonsense\r\n"
    with pytest.raises(ConnectionError):
        admin.text("one two three four five six")


# -- lanes -----------------------------------------------------------------------------------------------------------


def test_lane_job_leaves_only_on_work_complete(server: JobServerProcess, connect: Connect) -> None:
    client, worker = connect(), connect()
    for number in range(3):
        client.submit(LANE, b"%d" % number)
    worker.can_do(LANE)
    for report in (p.WORK_FAIL, p.WORK_EXCEPTION):
        grabbed = eventually(worker.grab)
        assert grabbed[3] == b"0"
        worker.send(report, *((grabbed[0],) if report == p.WORK_FAIL else (grabbed[0], b"why")))
    server.kill9()
    server.start()
    with Peer(server.port) as worker:
        worker.can_do(LANE)
        for number in range(3):
            grabbed = worker.grab()
            assert grabbed
            assert grabbed[3] == b"%d" % number
            worker.send(p.WORK_COMPLETE, grabbed[0], b"")
        worker.sync()
    assert server.total(LANE.decode()) == 0


def test_jobs_of_a_dead_worker_return_in_order(connect: Connect) -> None:
    client, dying, heir = connect(), connect(), connect()
    for number in range(6):
        client.submit(LANE, b"%d" % number)
        client.submit(b"plain", b"%d" % number)
    dying.can_do(LANE, b"plain")
    assert len([dying.grab() for _ in range(9)]) == 9
    heir.can_do(LANE, b"plain").send(p.PRE_SLEEP)
    heir.expect(p.NOOP)
    dying.close()
    found: dict[bytes, list[bytes]] = {LANE: [], b"plain": []}
    while sum(map(len, found.values())) < 12:
        grabbed = eventually(heir.grab)
        found[grabbed[1]].append(grabbed[3])
        heir.send(p.WORK_COMPLETE, grabbed[0], b"")
    # The heir may have begun with what the dying one had left of the plain function; the lane was never shared.
    assert found[LANE] == [b"%d" % number for number in range(6)]
    assert sorted(found[b"plain"]) == [b"%d" % number for number in range(6)]


def test_a_lane_has_one_worker_at_a_time(connect: Connect) -> None:
    client, one, two = connect(), connect(), connect()
    for number in range(4):
        client.submit(LANE, b"%d" % number)
    one.can_do(LANE)
    two.can_do(LANE)
    first, second = one.grab(), one.grab()
    assert first
    assert second
    assert two.grab() is None
    two.send(p.PRE_SLEEP)
    one.send(p.WORK_COMPLETE, first[0], b"")
    one.sync()
    assert two.ask(p.ECHO_REQ, b"still asleep") == (p.ECHO_RES, b"still asleep")
    one.send(p.WORK_COMPLETE, second[0], b"")
    two.expect(p.NOOP)
    grabbed = two.grab()
    assert grabbed
    assert grabbed[3] == b"2"


def test_a_job_that_takes_three_workers_down_is_isolated_durably(server: JobServerProcess, connect: Connect) -> None:
    client = connect()
    client.submit(LANE, b"poison")
    client.submit(LANE, b"harmless")
    isolated = LANE + b".isolated"
    for attempt in range(3):
        with Peer(server.port) as victim:
            victim.can_do(LANE, isolated)
            grabbed = victim.grab()
            assert grabbed, attempt
            assert grabbed[1:] == (LANE, b"", b"poison")
        if attempt < 2:
            eventually(lambda: server.status()[LANE.decode()][1:] == (0, 0))
    eventually(lambda: server.total(isolated.decode()) == 1)
    connect().submit(b"sync", b"")  # a commit that is later than the move
    server.kill9()
    server.start()
    with Peer(server.port) as worker:
        worker.can_do(LANE)
        grabbed = worker.grab()
        assert grabbed
        assert grabbed[3] == b"harmless"
        assert worker.grab() is None
        worker.can_do(isolated)
        grabbed = worker.grab()
        assert grabbed
        assert grabbed[1:] == (isolated, b"", b"poison")


# -- durability ------------------------------------------------------------------------------------------------------


def test_awkward_jobs_survive_kill_9(server: JobServerProcess, connect: Connect) -> None:
    client = connect()
    jobs = [
        (b"f", b"", b""),
        (b"f", b"", b""),
        (b"f", b"-", b""),
        (b"f", b"-", b""),
        (b"f", b"-", b"a"),
        (b"f", b"-", b"b"),
        (b"my-func-x", b"with-dash", b"\0binary\0"),
        (b'it\'s "x"', b'it\'s "u"', "snö".encode()),
        (b"f", bytes(range(1, 17)), bytes(1 << 20)),
        (b"f", b"big", bytes(3 << 20)),
    ]
    handles = [client.submit(function, payload, unique) for function, unique, payload in jobs]
    assert len(set(handles)) == len(jobs)
    server.kill9()
    server.start()
    with Peer(server.port) as worker:
        worker.can_do(*{function for function, _, _ in jobs})
        found = sorted(iter(worker.grab, None))
        assert found == sorted((handle, *job) for handle, job in zip(handles, jobs, strict=True))
        assert worker.submit(b"f") not in handles


def test_a_full_queue_refuses_and_recovers(new_job_server: NewServer) -> None:
    server = new_job_server(max_jobs=3)
    with Peer(server.port) as client, Peer(server.port) as worker:
        for _ in range(3):
            client.submit(LANE, b"x")
        assert client.ask(p.SUBMIT_JOB_BG, LANE, b"", b"x") == (p.ERROR, b"QUEUE_ERROR\0Job queue is full")
        client.submit(LANE, b"probe", kind=p.SUBMIT_JOB)  # is not stored
        grabbed = worker.can_do(LANE).grab()
        assert grabbed
        worker.send(p.WORK_COMPLETE, grabbed[0], b"")
        worker.sync()
        client.submit(LANE, b"x")
    by_bytes = new_job_server(max_bytes=1000)
    with Peer(by_bytes.port) as client:
        client.submit(b"f", bytes(900))
        assert client.ask(p.SUBMIT_JOB_BG, b"f", b"", bytes(200))[0] == p.ERROR
        client.submit(b"f", bytes(100))


def test_a_full_disk_refuses_and_recovers(server: JobServerProcess, connect: Connect) -> None:
    client, worker = connect(), connect()
    limit_files(server, 4 << 20)
    accepted = 0
    while True:
        kind, body = client.ask(p.SUBMIT_JOB_BG, b"f", b"", b"%d" % accepted + bytes(50_000))
        if kind == p.ERROR:
            break
        accepted += 1
    assert body.startswith(b"QUEUE_ERROR\0queue store ")
    assert client.ask(p.SUBMIT_JOB_BG, b"f", b"", bytes(50_000))[0] == p.ERROR
    worker.can_do(b"f")
    done = []
    for _ in range(accepted // 2):
        grabbed = worker.grab()
        assert grabbed
        worker.send(p.WORK_COMPLETE, grabbed[0], b"")
        done.append(grabbed[0])
    client.submit(b"f", b"not stored", kind=p.SUBMIT_JOB)
    limit_files(server, 1 << 30)
    eventually(lambda: client.ask(p.SUBMIT_JOB_BG, b"f", b"", b"after")[0] == p.JOB_CREATED)
    server.kill9()
    server.start()
    with Peer(server.port) as heir:
        left = [grabbed[3].rstrip(b"\0") for grabbed in iter(heir.can_do(b"f").grab, None)]
    print(f"{accepted} jobs accepted before the disk was full, {len(done)} done, {len(left)} left after kill -9")
    assert left == [b"%d" % number for number in range(len(done), accepted)] + [b"after"]


def limit_files(server: JobServerProcess, size: int) -> None:
    """From here on no file of the server can grow beyond `size` bytes, as if the disk were full."""
    subprocess.run(["prlimit", f"--pid={server.pid}", f"--fsize={size}:{1 << 40}"], check=True)


def test_graceful_stop_keeps_everything_and_counts_no_delivery(server: JobServerProcess, connect: Connect) -> None:
    client = connect()
    client.submit(LANE, b"in hand")
    for _ in range(4):
        with Peer(server.port) as worker:
            grabbed = worker.can_do(LANE).grab()
            assert grabbed
            assert grabbed[1] == LANE
            server.stop()
        server.start()


# -- bad peers -------------------------------------------------------------------------------------------------------

GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x and more words than five\r\n\r\n",
    b"\0REQ\0\0\0\0\0\0\0\0",
    b"\0REQ\xff\xff\xff\xff\0\0\0\0",
    b"\0XYZ" + bytes(100),
    b"\xff" * 100_000,
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(256)),
    struct.pack(">4sII", p.REQ, p.SUBMIT_JOB_BG, 1 << 30),
    struct.pack(">4sII", p.REQ, p.ECHO_REQ, 0xFFFFFFFF),
]


def closed_by_server(peer: Peer) -> bool:
    try:
        while peer.socket.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


def test_garbage_closes_its_own_connection_only(server: JobServerProcess, connect: Connect) -> None:
    bystander = connect()
    bystander.submit(b"f", b"before")
    before = server.memory()
    for garbage in GARBAGE:
        peer = connect()
        peer.socket.sendall(garbage)
        with contextlib.suppress(OSError):  # closed already
            peer.socket.shutdown(socket.SHUT_WR)  # a TLS greeting may also be the start of a long text line
        assert closed_by_server(peer)
        bystander.submit(b"f", b"after")
    assert closed_by_server(connect().send(p.CAN_DO, b"x").send(p.SUBMIT_JOB, b"too few"))
    wrong = connect()
    wrong.socket.sendall(p.response(p.NOOP))
    assert wrong.receive()[1].startswith(b"INVALID_MAGIC\0")
    wrong.sync()
    assert server.total("f") == 1 + len(GARBAGE)
    grown = server.memory() - before
    print(f"memory grew by {grown} bytes")
    assert grown < 16 << 20


def test_half_packets_cost_only_what_was_sent(server: JobServerProcess, connect: Connect) -> None:
    bystander = connect()
    before = server.memory()
    for _ in range(20):
        connect().socket.sendall(struct.pack(">4sII", p.REQ, p.SUBMIT_JOB_BG, 60 << 20) + bytes(1000))
    bystander.submit(b"f", b"x")
    assert server.memory() - before < 16 << 20


def test_many_big_half_packets_are_bounded(new_job_server: NewServer) -> None:
    server = new_job_server(max_partial=32 << 20)
    with ExitStack() as stack:
        bystander = stack.enter_context(Peer(server.port))
        bystander.sync()
        before = server.memory()
        for _ in range(30):
            peer = stack.enter_context(Peer(server.port))
            with contextlib.suppress(ConnectionError):
                peer.socket.sendall(struct.pack(">4sII", p.REQ, p.SUBMIT_JOB_BG, 60 << 20) + bytes(8 << 20))
        bystander.submit(b"f", b"x")
        grown = server.memory() - before
        print(f"240 MiB of half packets sent, memory grew by {grown}")
        assert grown < 100 << 20


def test_a_client_that_does_not_read_is_held_back(server: JobServerProcess, connect: Connect) -> None:
    bystander, deaf = connect(), connect()
    before = server.memory()
    echo = p.request(p.ECHO_REQ, bytes(100_000))
    deaf.socket.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 1 << 30:
            deaf.socket.sendall(echo)
            sent += len(echo)
    assert sent < 1 << 30
    bystander.submit(b"f", b"x")
    grown = server.memory() - before
    print(f"{sent} bytes sent, memory grew by {grown}")
    assert grown < 32 << 20


def test_a_deaf_worker_gets_no_more_than_fits(new_job_server: NewServer) -> None:
    server = new_job_server(memory=8 << 20)
    with Peer(server.port) as client, Peer(server.port) as deaf:
        for _ in range(60):
            client.submit(b"f", bytes(1 << 20))
        before = server.memory()
        deaf.can_do(b"f").socket.sendall(p.request(p.GRAB_JOB) * 1000)
        client.sync()
        eventually(lambda: server.status()["f"][1] > 0)
        grown = server.memory() - before
        print(f"memory grew by {grown}")
        assert grown < 32 << 20
        assert server.status()["f"][1] < 60


# -- starting --------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_one_sentence(server: JobServerProcess) -> None:
    program = (
        "import asyncio, sys\n"
        "from syncbridge.dispatch.server import JobServer\n"
        "from syncbridge.dispatch.store.memory import MemoryStore\n"
        "try: asyncio.run(JobServer(sys.argv[1], int(sys.argv[2]), MemoryStore()).start())\n"
        "except Exception as error: print(type(error).__name__, error)"
    )

    def start(host: str, port: int) -> str:
        arguments = [sys.executable, "-c", program, host, str(port)]
        return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()

    taken = f"127.0.0.1:{server.port}"
    assert (
        start("127.0.0.1", server.port) == f"TransientError job server cannot listen on {taken}: another process does"
    )
    assert start("192.0.2.1", 4730).startswith("ConfigError job server cannot listen on 192.0.2.1:4730: ")


def test_many_connections(server: JobServerProcess) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.port)) for _ in range(500)]
        for peer in peers:
            peer.send(p.SUBMIT_JOB_BG, b"f", b"", b"x")
        assert len({peer.expect(p.JOB_CREATED)[0] for peer in peers}) == 500


def test_a_refused_connection_does_not_hurt(new_job_server: NewServer) -> None:
    server = new_job_server(max_connections=2)
    with Peer(server.port) as one, Peer(server.port) as two:
        one.sync()
        two.sync()
        with pytest.raises((ConnectionError, socket.timeout)), Peer(server.port) as three:
            three.sync()
        one.sync()
