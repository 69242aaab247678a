"""The event reader and the packet loop on recorded and made-up bytes: no server, no socket."""

from __future__ import annotations

import contextlib
import struct
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncbridge.capture.binlog.events import (
    FormatDescription,
    Gtid,
    Heartbeat,
    Ignored,
    Item,
    Rows,
    Statement,
    TransactionEnd,
)
from syncbridge.capture.binlog.gtid_event import tagged_gtid
from syncbridge.capture.binlog.query_event import parse_query, unpack_mariadb
from syncbridge.capture.binlog.reader import BinlogReader
from syncbridge.capture.binlog.stream import BinlogStream
from syncbridge.capture.schema import Column, SchemaMismatch, TableSchema
from syncbridge.errors import PermanentError, PositionLost, ProtocolError, SyncbridgeError, TransientError
from tests.unit.recorded_binlog import MARIADB, MYSQL

TABLE = TableSchema(
    "d",
    "t",
    (
        Column.parse("id", "int(11)", nullable=False),
        Column.parse("v", "varchar(20)", charset="utf8mb4", collation="utf8mb4_general_ci"),
        Column.parse("n", "decimal(5,2)"),
    ),
    ("id",),
)


def reader(table: TableSchema | None = TABLE, **options: Any) -> BinlogReader:
    return BinlogReader(lambda db, name: table if (db, name) == ("d", "t") else None, **options)


def read(events: list[bytes], into: BinlogReader | None = None) -> list[Item]:
    into = into or reader()
    return [item for event in events for item in into.feed(event)]


def event(type_: int, body: bytes, *, pos: int = 5000, flags: int = 0, checksum: bool = True) -> bytes:
    size = 19 + len(body) + (4 if checksum else 0)
    data = struct.pack("<IBIIIH", 1_700_000_000, type_, 7, size, pos, flags) + body
    return data + struct.pack("<I", zlib.crc32(data)) if checksum else data


def after_head(events: list[bytes]) -> BinlogReader:
    """A reader that has met the recorded file's head."""
    fed = reader()
    read(events[:2], fed)
    return fed


@pytest.mark.parametrize("events", [MARIADB, MYSQL], ids=["mariadb", "mysql"])
def test_recorded_changes_are_read(events: list[bytes]) -> None:
    items = read(events)
    first, second = {"id": 1, "v": "é", "n": "1.50"}, {"id": 2, "v": "b", "n": None}
    changes = [(item.op, item.dicts()) for item in items if isinstance(item, Rows)]
    assert changes[:3] == [("c", [first, second]), ("u", [(second, {**second, "v": "c"})]), ("d", [first])]
    assert [item.sql for item in items if isinstance(item, Statement)] == ["create table d.x (a int)"]
    if events is MYSQL:
        assert changes[3:] == [("c", [{"id": 3, "v": "zstd", "n": "-2.25"}])]  # out of a compressed payload
    ends = [item.pos for item in items if isinstance(item, TransactionEnd | Statement)]
    starts = [item.pos for item in items if isinstance(item, Gtid)]
    assert starts[1:] == ends[:-1]
    assert isinstance(items[-1], Heartbeat)
    assert items[-1].pos == ends[-1]


@pytest.mark.parametrize("events", [MARIADB, MYSQL], ids=["mariadb", "mysql"])
def test_unmapped_tables_are_not_decoded(events: list[bytes]) -> None:
    assert not any(isinstance(item, Rows) for item in read(events, reader(None)))


@pytest.mark.parametrize("events", [MARIADB, MYSQL], ids=["mariadb", "mysql"])
def test_every_flipped_bit_is_noticed(events: list[bytes]) -> None:
    head = events[:2]
    for index in range(2, len(events) - 1):
        for at in range(0, len(events[index]), 7):
            if 9 <= at < 13:
                continue  # the size: it no longer fits the packet, another error
            damaged = bytearray(events[index])
            damaged[at] ^= 0x10
            with pytest.raises(TransientError, match="checksum"):
                read([bytes(damaged)], after_head(head))


def test_positions_pass_four_gigabytes() -> None:
    fed = after_head(MARIADB)
    gib = 1 << 30
    positions = []
    for pos in (gib, 3 * gib, 4 * gib + 100, 6 * gib, 7 * gib + 7, 8 * gib + 3):
        fed.feed(event(3, b"", pos=pos & 0xFFFFFFFF))
        positions.append(fed.pos)
    assert positions == [gib, 3 * gib, 4 * gib + 100, 6 * gib, 7 * gib + 7, 8 * gib + 3]


def test_events_before_the_wanted_position_are_skipped() -> None:
    everything = read(MARIADB)
    ends = [item for item in everything if isinstance(item, TransactionEnd)]
    rest = read(MARIADB, reader(skip_to=(ends[0].file, ends[0].pos)))
    assert [item.op for item in rest if isinstance(item, Rows)] == ["u", "d"]


def test_an_unknown_event_stops_unless_the_server_calls_it_ignorable() -> None:
    assert read([event(99, b"xx", flags=0x80)], after_head(MYSQL)) == [Ignored(99, 5000)]
    with pytest.raises(PermanentError, match="type 99"):
        read([event(99, b"xx")], after_head(MYSQL))


def test_an_incident_stops() -> None:
    with pytest.raises(PermanentError, match="LOST"):
        read([event(26, struct.pack("<HB", 1, 4) + b"LOST")], after_head(MYSQL))


def test_rows_of_a_table_that_was_never_described_stop() -> None:
    with pytest.raises(PermanentError, match="did not describe"):
        read([event(30, struct.pack("<IHHH", 55, 0, 0, 2) + b"\x01\xff\x00\x01")], after_head(MYSQL))


@pytest.mark.parametrize("events", [MARIADB, MYSQL], ids=["mariadb", "mysql"])
def test_bytes_cut_short_never_pass_as_other_rows(events: list[bytes]) -> None:
    """A row event cut between rows is a shorter event (its checksum fits); cut anywhere else, it stops capture."""
    table_map = next(data for data in events if data[4] == 19)
    rows = next(data for data in events if data[4] in (23, 30))
    (whole,) = (item.rows for item in read([table_map, rows], after_head(events)) if isinstance(item, Rows))
    passed = 0
    for cut in range(1, len(rows) - 27):
        fed = after_head(events)
        try:
            items = read([table_map, event(rows[4], rows[19 : -4 - cut])], fed)
        except PermanentError:
            continue
        passed += 1
        assert [item.rows for item in items if isinstance(item, Rows)] in ([whole[:1]], [[]])
    assert passed <= 2


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_bytes_give_items_or_one_of_our_errors(data: st.DataObject) -> None:
    events = data.draw(st.sampled_from((MARIADB, MYSQL)))
    index = data.draw(st.integers(2, len(events) - 1))
    damaged = bytearray(events[index])
    body = st.tuples(st.integers(19, len(damaged) - 5), st.integers(0, 255))
    for at, value in data.draw(st.lists(body, min_size=1, max_size=4)):
        damaged[at] = value
    damaged[-4:] = struct.pack("<I", zlib.crc32(damaged[:-4]))
    fed = reader()
    with contextlib.suppress(SyncbridgeError):
        read([*events[:index], bytes(damaged), *events[index + 1 :]], fed)


def test_a_table_that_is_not_the_known_one_is_a_mismatch() -> None:
    for columns in (TABLE.columns[:2], (*TABLE.columns[:2], Column.parse("n", "decimal(5,1)"))):
        with pytest.raises(SchemaMismatch):
            read(MARIADB, reader(TableSchema("d", "t", columns)))


def test_a_new_schema_gets_a_new_decoder() -> None:
    schemas = [TABLE, TableSchema("d", "t", (TABLE.columns[0], Column.parse("w", "varchar(20)", charset="utf8mb4"),
                                            TABLE.columns[2]))]  # fmt: skip
    fed = BinlogReader(lambda db, name: schemas[0] if name == "t" else None)
    changes = []
    for data in MYSQL:  # binlog_row_metadata is MINIMAL there: names are the schema's
        for item in fed.feed(data):
            if isinstance(item, Rows):
                changes.append(item.dicts()[0])
                schemas.reverse()
    assert "v" in changes[0]
    assert "w" in changes[1][0]


def test_the_format_description_says_whether_there_are_checksums() -> None:
    descriptions = [item for item in read(MARIADB) if isinstance(item, FormatDescription)]
    assert descriptions[0].checksum
    assert "MariaDB" in descriptions[0].server_version
    fed = reader()
    rotate = event(4, struct.pack("<Q", 4) + b"binlog.000009", flags=0x20, pos=0, checksum=False)
    assert [item.file for item in read([rotate], fed)] == ["binlog.000009"]  # type: ignore[union-attr]


def test_a_tagged_gtid_is_read() -> None:
    body = bytes.fromhex(
        "027000000002248d02bd037a9503fc22c503d902b604f10300000002040806087461673108080a100c7ffb725b66c460061025041283120b"
    )
    assert tagged_gtid(body) == ("12a3ef3d-e57e-11f1-b65b-02fc00000001:tag1:2", 1795246507389691)


def test_query_events_skip_what_they_do_not_know() -> None:
    status = bytes((0, 0, 0, 0, 0, 1)) + (4).to_bytes(8, "little") + bytes((200, 1, 2, 3))
    body = struct.pack("<IIBHH", 1, 0, 1, 0, len(status)) + status + b"d\0DROP TABLE t"
    query = parse_query(event(2, body, checksum=False), 19 + len(body))
    assert (query.db, query.sql, query.sql_mode) == ("d", "DROP TABLE t", 4)


def test_a_compressed_query_has_the_length_it_says() -> None:
    sql = b"CREATE TABLE x (a INT)" * 20
    packed = bytes((0x82,)) + len(sql).to_bytes(2, "big") + zlib.compress(sql)
    assert unpack_mariadb(packed) == sql
    with pytest.raises(ValueError, match="length"):
        unpack_mariadb(bytes((0x82,)) + (len(sql) + 1).to_bytes(2, "big") + zlib.compress(sql))
    with pytest.raises(ValueError, match="method"):
        unpack_mariadb(bytes((0xF2,)) + packed[1:])
    bomb = bytes((0x81, 10)) + zlib.compress(bytes(10_000_000))
    assert len(unpack_mariadb(bomb)) == 10  # never more than announced


# The packet loop


def stream() -> BinlogStream:
    return BinlogStream(SimpleNamespace(_sock=None))


def packet(payload: bytes, number: int = 0) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes((number,)) + payload


def test_packets_may_arrive_in_any_pieces() -> None:
    wire = b"".join(packet(b"\0" + data) for data in MARIADB)
    assert stream().feed(wire) == MARIADB
    for size in (1, 2, 3, 7, 100, 257):
        fed = stream()
        got = [item for at in range(0, len(wire), size) for item in fed.feed(wire[at : at + size])]
        assert got == MARIADB


@pytest.mark.parametrize("size", [0xFFFFFF - 2, 0xFFFFFF - 1, 0xFFFFFF, 2 * 0xFFFFFF - 1, 2 * 0xFFFFFF + 5])
def test_a_payload_of_many_packets_is_joined(size: int) -> None:
    body = b"\0" + bytes(size)
    pieces = [body[at : at + 0xFFFFFF] for at in range(0, len(body), 0xFFFFFF)]
    if len(pieces[-1]) == 0xFFFFFF:
        pieces.append(b"")
    wire = b"".join(map(packet, pieces)) + packet(b"\0next")
    fed = stream()
    got = [item for at in range(0, len(wire), 1 << 20) for item in fed.feed(wire[at : at + (1 << 20)])]
    assert [len(item) for item in got] == [size, 4]


@pytest.mark.parametrize(
    ("payload", "error", "match"),
    [
        (b"\xff\xd4\x04#HY000Could not find first log file name", PositionLost, "Could not find"),
        (b"\xff\xd4\x04#HY000A slave with the same server_uuid/server_id as this", TransientError, "server_id"),
        (b"\xff\x15\x04#28000Access denied", SyncbridgeError, "Access denied"),
        (b"\xff\x1d\x04no state", TransientError, "no state"),
        (b"\xfe\0\0\x02\0", TransientError, "ended"),
        (b"\x07what", ProtocolError, "77686174"),
        (b"", ProtocolError, "no binlog event"),
    ],
)
def test_what_ends_a_dump(payload: bytes, error: type[SyncbridgeError], match: str) -> None:
    fed = stream()
    assert fed.feed(packet(b"\0last") + packet(payload)) == [b"last"]  # what came before is not lost
    with pytest.raises(error, match=match):
        fed.read(0)
    with pytest.raises(error, match=match):
        stream().feed(packet(payload))
