"""Any bytes in any order on any connection: packets, errors or a closed connection, and everybody else goes on.

The bytes are noise, broken packets, and whole packets about a few functions, uniques and handles, so that they meet.
Between them commits fail, time passes, peers leave.
"""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from syncbridge.dispatch import packets as p
from tests.protocol.socketless import SocketlessServer, ready_bystanders, whole_job

WORDS = st.one_of(
    st.sampled_from(
        [b"f", b"g", b"syncbridge.x.0", b"syncbridge.x.0.isolated", b"", b"-", b"u", b"1", b"0", b"-1", b"99"]
    ),
    st.sampled_from(
        [b"1700000003", b"1800000000", b"exceptions", b"u" * 64, b"u" * 65, b"f" * 600, b"\xff\x80", b"x" * 3000]
    ),
    st.builds(lambda number: b"H:h:%d" % number, st.integers(0, 12)),
    st.binary(max_size=12),
)
ARGUMENTS = st.lists(WORDS, max_size=9)
#: How often a type comes up; the rest of the types come up too, once each.
COMMON = [p.SUBMIT_JOB, p.SUBMIT_JOB_BG, p.CAN_DO, p.GRAB_JOB, p.GRAB_JOB_ALL, p.WORK_COMPLETE, p.WORK_FAIL] * 4
TYPES = st.sampled_from([*COMMON, *range(1, p.LAST_TYPE + 1)])
SENSIBLE = st.one_of(
    st.builds(
        lambda kind, function, unique, data: p.request(kind, function, unique, data),
        st.sampled_from([p.SUBMIT_JOB, p.SUBMIT_JOB_BG, p.SUBMIT_JOB_HIGH, p.SUBMIT_JOB_LOW_BG]),
        st.sampled_from([b"f", b"g", b"syncbridge.x.0"]),
        st.sampled_from([b"", b"-", b"u", b"v"]),
        st.sampled_from([b"", b"x", b"y" * 300]),
    ),
    st.builds(
        lambda kind, number: p.request(kind, b"H:h:%d" % number, b"x"),
        st.sampled_from([p.WORK_COMPLETE, p.WORK_DATA, p.WORK_EXCEPTION, p.GET_STATUS]),
        st.integers(1, 8),
    ),
    st.sampled_from(
        [
            p.request(p.CAN_DO, b"f") + p.request(p.CAN_DO, b"syncbridge.x.0") + p.request(p.GRAB_JOB),
            p.request(p.CAN_DO_TIMEOUT, b"f", b"1") + p.request(p.GRAB_JOB_ALL) + p.request(p.PRE_SLEEP),
            p.request(p.RESET_ABILITIES),
            p.request(p.SUBMIT_JOB_EPOCH, b"f", b"u", b"1700000003", b"later"),
            p.request(p.SUBMIT_JOB_SCHED, b"g", b"", b"", b"", b"", b"", b"", b"later"),
            p.request(p.SUBMIT_REDUCE_JOB_BACKGROUND, b"f", b"u", b"r", b"0", b"x"),
        ]
    ),
)
COMMANDS = st.builds(
    lambda words, end: b" ".join(words) + end,
    st.lists(
        st.one_of(
            st.sampled_from(
                b"status workers show jobs unique cancel job create drop function maxqueue f g 1 H:h:1 H:h:2 "
                b"prioritystatus version verbose getpid queue id pending".split(b" ")
            ),
            WORDS,
        ),
        max_size=6,
    ),
    st.sampled_from([b"\n", b"\r\n"]),
)


def broken(packet: bytes, at: int, byte: int) -> bytes:
    """The packet with one byte changed."""
    at %= len(packet)
    return packet[:at] + bytes([byte]) + packet[at + 1 :]


PACKETS = st.one_of(SENSIBLE, st.builds(lambda kind, words: p.request(kind, *words), TYPES, ARGUMENTS))
STREAMS = st.one_of(
    SENSIBLE,
    PACKETS,
    PACKETS,
    COMMANDS,
    st.builds(broken, PACKETS, st.integers(0, 100), st.integers(0, 255)),
    st.builds(lambda packet, cut: packet[:cut], PACKETS, st.integers(0, 30)),
    st.binary(max_size=60),
)
PEERS = 3
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, PEERS - 1), STREAMS),
        st.tuples(st.just("send"), st.integers(0, PEERS - 1), STREAMS),
        st.tuples(st.just("send"), st.integers(0, PEERS - 1), STREAMS),
        st.tuples(st.just("turn"), st.just(0), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, PEERS - 1), st.none()),
        st.tuples(st.just("wait"), st.just(0), st.sampled_from([0.5, 2.0, 100.0])),
    ),
    max_size=60,
)
RELAXED = settings(
    max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def play(actions: list[tuple[str, int, Any]], *, volatile: bool) -> None:
    server = SocketlessServer(volatile=volatile)
    bystanders = ready_bystanders(server)
    peers = [server.connect() for _ in range(PEERS)]
    for action, number, what in actions:
        if action == "send":
            server.send(peers[number], what)
        elif action == "turn":
            server.turn(fail=what)
        elif action == "leave":
            server.leave(peers[number])
            peers[number] = server.connect()
        else:
            server.now += what
            server.turn()
        server.check()
    server.settle()
    closed = sum(peer.gone for peer in peers)
    event(f"{closed} of {PEERS} closed")
    for peer in peers:
        server.leave(peer)
    server.settle()
    server.check()
    assert server.queue.holdings.foreground_bytes == 0
    whole_job(server, *bystanders)


@RELAXED
@given(ACTIONS, st.booleans())
def test_whatever_peers_do_others_go_on(actions: list[tuple[str, int, Any]], volatile: bool) -> None:
    play(actions, volatile=volatile)


@RELAXED
@given(st.lists(STREAMS, max_size=10), st.lists(st.integers(0, 5000), max_size=20), st.booleans())
def test_the_network_may_cut_anywhere(streams: list[bytes], cuts: list[int], volatile: bool) -> None:
    """The same bytes in one piece and in many: the same answers."""
    stream = b"".join(streams)
    answers = []
    for bounds in ([0, len(stream)], [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]):
        server = SocketlessServer(volatile=volatile)
        peer = server.connect()
        for a, b in itertools.pairwise(bounds):
            server.send(peer, stream[a:b])
        server.settle()
        answers.append((peer.take(), peer.gone))
    assert answers[0] == answers[1]


def test_a_flood_of_every_kind_stays_in_its_bounds() -> None:
    """Each packet type and each text command, many times over."""
    server = SocketlessServer()
    bystanders = ready_bystanders(server)
    flood = server.connect()
    kinds = [p.request(kind, *[b"%d" % kind] * 9) for kind in range(1, p.LAST_TYPE + 1)]
    lines = [b"status\n", b"show jobs\n", b"workers\n", b"create function x%d\r\n", b"maxqueue y%d 5\n"]
    tracemalloc.start()
    try:
        sent = 0
        for number in range(300):
            data = b"".join([*kinds, *(line % number if b"%d" in line else line for line in lines)])
            server.send(flood, data)
            server.settle()
            server.check()
            flood.take()
            sent += len(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"{sent} bytes of packets sent, {peak} bytes of memory at the most")
    assert peak < 500_000
    whole_job(server, *bystanders)
