"""Gearman packets: the same cases drive encoder and reader, whole, byte by byte and with trailing data."""

from __future__ import annotations

import itertools
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge.dispatch import packets as p
from syncbridge.errors import ProtocolError

# (magic, type, arguments, bytes on the wire); the hex is written by hand from the protocol document.
CASES = [
    (p.REQ, p.CAN_DO, (b"reverse",), "00524551 00000001 00000007 72657665727365"),
    (p.REQ, p.PRE_SLEEP, (), "00524551 00000004 00000000"),
    (p.RES, p.NOOP, (), "00524553 00000006 00000000"),
    (
        p.REQ,
        p.SUBMIT_JOB,
        (b"reverse", b"", b"test"),
        "00524551 00000007 0000000d 72657665727365 00 00 74657374",
    ),
    (p.REQ, p.SUBMIT_JOB_BG, (b"f", b"u", b"a\0b\0"), "00524551 00000012 00000008 66 00 75 00 61006200"),
    (p.RES, p.JOB_CREATED, (b"H:lap:1",), "00524553 00000008 00000007 483a6c61703a31"),
    (p.REQ, p.GRAB_JOB, (), "00524551 00000009 00000000"),
    (p.RES, p.NO_JOB, (), "00524553 0000000a 00000000"),
    (
        p.RES,
        p.JOB_ASSIGN,
        (b"H:lap:1", b"reverse", b"test"),
        "00524553 0000000b 00000014 483a6c61703a31 00 72657665727365 00 74657374",
    ),
    (p.REQ, p.WORK_COMPLETE, (b"H:lap:1", b"tset"), "00524551 0000000d 0000000c 483a6c61703a31 00 74736574"),
    (p.REQ, p.WORK_FAIL, (b"H:lap:1",), "00524551 0000000e 00000007 483a6c61703a31"),
    (
        p.RES,
        p.STATUS_RES,
        (b"H:1", b"1", b"0", b"5", b"9"),
        "00524553 00000014 0000000b 483a31 00 31 00 30 00 35 00 39",
    ),
    (p.RES, p.ERROR, (b"QUEUE_ERROR", b"full"), "00524553 00000013 00000010 51554555455f4552524f52 00 66756c6c"),
    (p.REQ, p.ECHO_REQ, (b"\0\n\0",), "00524551 00000010 00000003 000a00"),
]
IDS = [p.NAMES[case[1]] for case in CASES]


@pytest.mark.parametrize(("magic", "kind", "arguments", "wire"), CASES, ids=IDS)
def test_encoder_writes_the_documented_bytes(magic: bytes, kind: int, arguments: tuple[bytes, ...], wire: str) -> None:
    encode = p.request if magic == p.REQ else p.response
    assert encode(kind, *arguments) == bytes.fromhex(wire)


@pytest.mark.parametrize(("magic", "kind", "arguments", "wire"), CASES, ids=IDS)
def test_reader_finds_the_packet_however_the_network_cut_it(
    magic: bytes, kind: int, arguments: tuple[bytes, ...], wire: str
) -> None:
    data, body = bytes.fromhex(wire), b"\0".join(arguments)
    assert p.PacketReader(magic=magic).receive(data) == [(kind, body)]
    byte_by_byte = p.PacketReader(magic=magic)
    assert [found for byte in data for found in byte_by_byte.receive(bytes([byte]))] == [(kind, body)]
    reader = p.PacketReader(magic=magic)
    assert reader.lone(data) == kind
    assert reader.join(data[:5]) == data[:5]
    assert not reader.cut(data[:5])
    assert reader.lone(data) == 0, "it is the rest of another"
    trailing = p.PacketReader(magic=magic)
    assert trailing.receive(data + data[:7]) == [(kind, body)]
    assert trailing.held == 7
    assert trailing.receive(data[7:] + b"status\r\n") == [(kind, body), (p.TEXT, b"status")]
    assert trailing.held == 0
    if arguments:
        assert p.arguments(body, len(arguments)) == list(arguments)


def test_text_lines_end_with_lf_or_crlf_and_mix_with_packets() -> None:
    reader = p.PacketReader()
    echo = p.request(p.ECHO_REQ, b"x\n")
    assert reader.receive(b"version\n" + echo + b"\nsta") == [(p.TEXT, b"version"), (p.ECHO_REQ, b"x\n"), (p.TEXT, b"")]
    assert reader.receive(b"tus\r") == []
    assert reader.receive(b"\n") == [(p.TEXT, b"status")]


BROKEN = [
    b"\0FOO" + bytes(8),
    b"\0\0\0\0" * 3,
    struct.pack(">4sII", p.REQ, 0, 0),
    struct.pack(">4sII", p.REQ, 43, 0),
    struct.pack(">4sII", p.REQ, 7, (64 << 20) + 1),
    struct.pack(">4sII", p.REQ, 7, 0xFFFFFFFF),
    b"x" * p.MAX_LINE,
]


@pytest.mark.parametrize("garbage", BROKEN)
def test_packets_before_garbage_are_delivered_and_none_after(garbage: bytes) -> None:
    echo = p.request(p.ECHO_REQ, b"1")
    reader = p.PacketReader()
    assert reader.receive(echo + garbage + echo) == [(p.ECHO_REQ, b"1")]
    assert isinstance(reader.error, ProtocolError)
    assert reader.receive(echo) == []


def test_packet_of_the_other_direction_is_passed_over_by_a_server_and_an_error_for_a_client() -> None:
    reader = p.PacketReader()
    wire = p.response(p.ECHO_RES, b"body") + p.request(p.ECHO_REQ, b"x")
    assert reader.receive(wire[:14]) == []
    assert reader.receive(wire[14:]) == [(p.MISDIRECTED, b""), (p.ECHO_REQ, b"x")]
    assert reader.receive(struct.pack(">4sII", p.RES, p.NOOP, 0xFFFFFFFF)) == []
    assert "limit" in str(reader.error)
    client = p.PacketReader(magic=p.RES)
    assert client.receive(p.request(p.PRE_SLEEP)) == []
    assert "other direction" in str(client.error)


def test_a_packet_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    reader = p.PacketReader(max_packet=10)
    assert reader.receive(p.request(p.ECHO_REQ, b"0123456789")) == [(p.ECHO_REQ, b"0123456789")]
    assert reader.receive(p.request(p.ECHO_REQ, b"0123456789X")) == []
    assert "limit is 10" in str(reader.error)


def test_a_huge_announced_length_costs_no_memory() -> None:
    reader = p.PacketReader()
    tracemalloc.start()
    try:
        reader.receive(struct.pack(">4sII", p.REQ, p.SUBMIT_JOB_BG, 1 << 30) + b"x" * 1000)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert reader.error is not None
    assert reader.held == 0


def test_a_big_body_in_small_segments_is_read_once() -> None:
    body = bytes(range(256)) * 4096
    wire = p.request(p.SUBMIT_JOB_BG, b"f", b"", body)
    reader = p.PacketReader()
    found = [packet for at in range(0, len(wire), 1448) for packet in reader.receive(wire[at : at + 1448])]
    assert found == [(p.SUBMIT_JOB_BG, b"f\0\0" + body)]


def test_too_few_arguments_are_refused() -> None:
    with pytest.raises(ProtocolError, match="2 arguments where 3"):
        p.arguments(b"f\0u", 3)


valid = st.one_of(
    st.builds(p.request, st.integers(1, p.LAST_TYPE), st.binary(max_size=40)),
    st.builds(p.response, st.integers(1, p.LAST_TYPE), st.binary(max_size=40)),
    st.builds(lambda text: text + b"\n", st.binary(max_size=20)),
)


@given(
    stream=st.lists(st.one_of(valid, st.binary(max_size=40)), max_size=8).map(b"".join),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_any_bytes_give_items_or_protocol_error_whatever_the_cuts(stream: bytes, cuts: list[int]) -> None:
    whole = p.PacketReader(max_packet=200)
    expected = whole.receive(stream)
    alone = len(expected) == 1 and expected[0][0] > p.TEXT and len(stream) == p.HEADER_SIZE + len(expected[0][1])
    assert p.PacketReader(max_packet=200).lone(stream) == (expected[0][0] if alone else 0)
    pieces = p.PacketReader(max_packet=200)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    found = [item for a, b in itertools.pairwise(bounds) for item in pieces.receive(stream[a:b])]
    assert found == expected
    assert str(pieces.error) == str(whole.error)
    assert pieces.held <= max(200 + p.HEADER_SIZE, p.MAX_LINE)
    for kind, body in expected:
        assert kind in range(p.MISDIRECTED, p.LAST_TYPE + 1)
        assert isinstance(body, bytes)


SUBMITS = [p.request(p.SUBMIT_JOB_BG, b"f", b"u%d" % n, b"payload %d" % n) for n in range(3)]


@pytest.mark.parametrize(
    ("first", "rest", "taken"),
    [
        (SUBMITS, [], 3),
        (SUBMITS, [b"version\n", p.request(p.ECHO_REQ, b"x"), *SUBMITS], 3),
        (SUBMITS, [p.request(p.SUBMIT_JOB_BG, b"function", b"", b"")], 3),
        (SUBMITS, [p.request(p.SUBMIT_JOB, b"f", b"", b"")], 3),
        (SUBMITS, [p.request(p.SUBMIT_JOB_BG, b"f", b"u" * 65, b"")], 3),
        (SUBMITS, [p.request(p.SUBMIT_JOB_BG, b"f", b"no payload")], 3),
        (SUBMITS, [p.request(p.SUBMIT_JOB_BG, b"f", b"", bytes(5000))], 3),
        (SUBMITS, [p.response(p.SUBMIT_JOB_BG, b"f", b"", b"")], 3),
        (SUBMITS, [b"\0REX" + bytes(8), *SUBMITS], 3),
        ([p.request(p.SUBMIT_JOB_BG, b"f", b"u" * 64, bytes(n)) for n in range(3)], [], 3),
        ([p.request(p.SUBMIT_JOB_BG, b"f" * 512, b"", b"")] * 2, [], 2),
        ([], [p.request(p.SUBMIT_JOB_BG, b"f" * 513, b"", b"")] * 2, 0),
        ([], [p.request(p.SUBMIT_JOB_BG, b"", b"", b"")] * 2, 0),
        ([], [p.request(p.SUBMIT_JOB_BG, b"", b"u", b"payload")] * 2, 0),
        ([], [p.request(p.SUBMIT_JOB_BG, b"f")] * 2, 0),
        ([], [p.request(p.SUBMIT_JOB_HIGH_BG, b"f", b"", b"")] * 2, 0),
        ([], [SUBMITS[0], p.request(p.SUBMIT_JOB_BG, b"g", b"", b"")], 0),
        ([], [SUBMITS[0]], 0),
        ([], [b"status\n", *SUBMITS], 0),
        ([], [], 0),
    ],
)
def test_submits_are_the_packets_that_they_are_read_from(first: list[bytes], rest: list[bytes], taken: int) -> None:
    stream = b"".join(first + rest)
    for size in (len(stream), *range(len(stream), max(0, len(stream) - 300), -7)):
        plain, reader = p.PacketReader(max_packet=4096), p.PacketReader(max_packet=4096)
        packets = plain.receive(stream[:size])
        data = reader.join(stream[:size])
        run = reader.submits(data)
        found = [] if run is None else [b"\0".join((run.function, *job)) for job in zip(*run[1:3], strict=True)]
        assert [*((p.SUBMIT_JOB_BG, body) for body in found), *reader.cut(data, run.end if run else 0)] == packets
        assert (reader.held, str(reader.error)) == (plain.held, str(plain.error))
        assert len(found) == taken or size < len(stream)
        assert reader.receive(stream[size:]) == plain.receive(stream[size:])
