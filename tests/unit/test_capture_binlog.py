"""The event reader and the packet loop on recorded and made-up bytes: no server, no socket."""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncbridge.capture.binlog import table_map
from syncbridge.capture.binlog.decoder import Decoder
from syncbridge.capture.binlog.events import (
    FormatDescription,
    Gtid,
    Heartbeat,
    Item,
    Rows,
    Single,
    Statement,
    TransactionEnd,
)
from syncbridge.capture.binlog.gtid_event import tagged_gtid
from syncbridge.capture.binlog.query_event import parse_query, unpack_mariadb
from syncbridge.capture.binlog.reader import BinlogReader
from syncbridge.capture.binlog.stream import BinlogStream
from syncbridge.capture.binlog.table_map import MappedColumn, TableMap
from syncbridge.capture.schema import Column, SchemaMismatch, TableSchema
from syncbridge.errors import PermanentError, PositionLost, ProtocolError, SyncbridgeError, TransientError
from tests.native import in_use
from tests.unit.recorded_binlog import MARIADB, MYSQL

pytestmark = pytest.mark.usefixtures("native_or_not")

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


def items(events: list[bytes], into: BinlogReader) -> list[Item]:
    source = stream()
    source.add(wire(events))
    return list(into.read(source))


def read(events: list[bytes], into: BinlogReader | None = None) -> list[Item]:
    """The items of events, those of whole transactions in their parts."""
    found = items(events, into or reader())
    return [part for item in found for part in (item.parts() if isinstance(item, Single) else (item,))]


def stream() -> BinlogStream:
    return BinlogStream(SimpleNamespace(_sock=None))


def packet(payload: bytes, number: int = 0) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes((number,)) + payload


def wire(events: Iterable[bytes]) -> bytes:
    """Events as the server sends them."""
    return b"".join(packet(b"\0" + data) for data in events)


def fed_events(fed: BinlogStream, *chunks: bytes) -> list[bytes]:
    """The events that are complete once these chunks came one after the other."""
    events = []
    for chunk in chunks:
        fed.add(chunk)
        while (data := fed.take()) is not None:
            events.append(data)
    return events


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


def familiar(events: list[bytes]) -> tuple[BinlogReader, list[bytes]]:
    """A reader that has met everything once, and the changes, which it can read as whole transactions."""
    fed = after_head(events)
    read(events[2:], fed)
    return fed, events[2:-1]


@pytest.mark.parametrize("events", [MARIADB, MYSQL], ids=["mariadb", "mysql"])
def test_a_transaction_is_read_the_same_whole_and_event_by_event(events: list[bytes]) -> None:
    (first, changes), (second, _) = familiar(events), familiar(events)
    whole = items(changes, first)
    assert sum(isinstance(item, Single) for item in whole) == 3
    one_by_one = [item for data in changes for item in items([data], second)]
    assert not any(isinstance(item, Single) for item in one_by_one)
    assert [part for item in whole for part in (item.parts() if isinstance(item, Single) else (item,))] == one_by_one
    assert first.pos == second.pos


@pytest.mark.parametrize("events", [MARIADB, MYSQL], ids=["mariadb", "mysql"])
def test_transactions_may_be_cut_anywhere(events: list[bytes]) -> None:
    fed, changes = familiar(events)
    sent = wire(changes)
    expected = [item.dicts() for item in read(changes, fed) if isinstance(item, Rows)]
    for cut in range(1, len(sent)):
        source, rows = stream(), []
        for piece in (sent[:cut], sent[cut:]):
            source.add(piece)
            rows += [item.dicts() for item in fed.read(source) if isinstance(item, Rows)]
        assert rows == expected, cut


@pytest.mark.parametrize("events", [MARIADB, MYSQL], ids=["mariadb", "mysql"])
def test_every_flipped_bit_in_a_whole_transaction_is_noticed(events: list[bytes]) -> None:
    fed, changes = familiar(events)
    for index, data in enumerate(changes):
        for at in range(0, len(data), 5):
            if 9 <= at < 13:
                continue  # the size: it no longer fits the packet, another error
            damaged = bytearray(data)
            damaged[at] ^= 0x10
            with pytest.raises(TransientError, match="checksum"):
                items([*changes[:index], bytes(damaged), *changes[index + 1 :]], fed)


def test_a_whole_transaction_of_a_table_that_is_no_longer_mapped_is_passed_over() -> None:
    tables: list[TableSchema | None] = [TABLE]
    fed = BinlogReader(lambda db, name: tables[0] if name == "t" else None)
    assert [item.op for item in read(MARIADB, fed) if isinstance(item, Rows)] == ["c", "u", "d"]
    tables[0] = None
    assert not any(isinstance(item, Rows) for item in read(MARIADB[2:], fed))
    tables[0] = replace(TABLE)  # another schema, though equal: read with what is known by now
    assert [item.schema is tables[0] for item in read(MARIADB[2:], fed) if isinstance(item, Rows)] == [True] * 3


def test_positions_pass_four_gigabytes() -> None:
    fed = after_head(MARIADB)
    gib = 1 << 30
    positions = []
    for pos in (gib, 3 * gib, 4 * gib + 100, 6 * gib, 7 * gib + 7, 8 * gib + 3):
        read([event(3, b"", pos=pos & 0xFFFFFFFF)], fed)
        positions.append(fed.pos)
    assert positions == [gib, 3 * gib, 4 * gib + 100, 6 * gib, 7 * gib + 7, 8 * gib + 3]


def test_events_before_the_wanted_position_are_skipped() -> None:
    everything = read(MARIADB)
    ends = [item for item in everything if isinstance(item, TransactionEnd)]
    rest = read(MARIADB, reader(skip_to=(ends[0].file, ends[0].pos)))
    assert [item.op for item in rest if isinstance(item, Rows)] == ["u", "d"]


def test_an_unknown_event_stops_unless_the_server_calls_it_ignorable() -> None:
    assert read([event(99, b"xx", flags=0x80)], after_head(MYSQL)) == []
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


@pytest.mark.parametrize(("events", "each"), [(MARIADB, 4), (MYSQL, 5)], ids=["mariadb", "mysql"])
def test_usual_transactions_are_found_by_the_native_package(
    events: list[bytes], each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed, changes = familiar(events)
    monkeypatch.setattr(fed, "_transaction", None)  # what Python does where the package finds none
    for _ in in_use(True):
        assert [type(item) for item in items(changes[: 3 * each], fed)] == [Single] * 3


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_bytes_of_a_transaction_are_the_same_to_both_ways(data: st.DataObject) -> None:
    events = data.draw(st.sampled_from((MARIADB, MYSQL)))
    changes = familiar(events)[1]
    index = data.draw(st.integers(0, len(changes) - 1))
    damaged = bytearray(changes[index])
    places = st.tuples(st.integers(0, len(damaged) - 5), st.sampled_from([0, 1, 0x20, 0x40, 0x7F, 0xFF]))
    for at, value in data.draw(st.lists(places, min_size=1, max_size=3)):
        damaged[at] = value
    if data.draw(st.booleans()):
        damaged[9:13] = struct.pack("<I", len(damaged))
    damaged[-4:] = struct.pack("<I", zlib.crc32(damaged[:-4]))
    sent = [*changes[:index], bytes(damaged), *changes[index + 1 :]]

    def outcome(wanted: bool) -> Any:
        found: Any = None
        for _ in in_use(wanted):
            try:
                found = items(sent, familiar(events)[0])
            except SyncbridgeError as error:
                found = type(error)
        return found

    assert outcome(True) == outcome(False)


def test_a_table_that_is_not_the_known_one_is_a_mismatch() -> None:
    for columns in (TABLE.columns[:2], (*TABLE.columns[:2], Column.parse("n", "decimal(5,1)"))):
        with pytest.raises(SchemaMismatch):
            read(MARIADB, reader(TableSchema("d", "t", columns)))


def test_a_new_schema_gets_a_new_decoder() -> None:
    schemas = [TABLE, TableSchema("d", "t", (TABLE.columns[0], Column.parse("w", "varchar(20)", charset="utf8mb4"),
                                            TABLE.columns[2]))]  # fmt: skip
    fed = BinlogReader(lambda db, name: schemas[0] if name == "t" else None)
    changes = []
    source = stream()
    source.add(wire(MYSQL))
    for item in fed.read(source):  # binlog_row_metadata is MINIMAL there: names are the schema's
        if isinstance(item, Rows):
            changes.append(item.dicts()[0])
            schemas.reverse()
    assert "v" in changes[0]
    assert "w" in changes[1][0]


def test_a_table_in_doubt_is_passed_over_once_it_is_no_longer_known() -> None:
    known: dict[str, TableSchema] = {"t": TableSchema("d", "t", TABLE.columns[:2])}
    doubts: list[str] = []

    def in_doubt(mismatch: SchemaMismatch) -> None:
        doubts.append(str(mismatch))
        known.pop(mismatch.table)

    fed = BinlogReader(lambda _, name: known.get(name), in_doubt=in_doubt)
    assert not any(isinstance(item, Rows) for item in read(MARIADB, fed))
    assert len(doubts) == 1
    known["t"] = TABLE
    assert [item.op for item in read(MARIADB[2:], fed) if isinstance(item, Rows)] == ["c", "u", "d"]


@pytest.mark.parametrize("hidden", [(), (0, 3), (1, 2, 5), (4,)], ids=str)
@pytest.mark.parametrize("width", [6, 11])
def test_rows_are_read_the_same_wherever_their_nulls_are(width: int, hidden: tuple[int, ...]) -> None:
    """Some patterns of NULLs so often that they get code of their own, others only a few times."""
    dice = random.Random(width)
    columns = [Column.parse("id", "int(11)", nullable=False)]
    mapped = [MappedColumn(table_map.LONG, 0, 0, nullable=False)]
    for index in range(1, width):
        text = index % 2 == 1
        columns.append(Column.parse(f"c{index}", "varchar(20)" if text else "decimal(5,2)", charset="utf8mb4"))
        mapped.append(
            MappedColumn(*((table_map.VARCHAR, 80, 0) if text else (table_map.NEWDECIMAL, 5, 2)), nullable=True)
        )
    schema = TableSchema("d", "t", tuple(columns))
    wanted = [column.name for index, column in enumerate(columns) if index not in hidden] if hidden else None
    decoder = Decoder(TableMap("d", "t", mapped), schema, mariadb=True, wanted=wanted)
    assert decoder.columns == tuple(wanted or [column.name for column in columns])
    often = [pattern << 1 for pattern in dice.sample(range(1, 1 << width - 1), 3)]
    for _ in range(5):
        rows, data = [], b""
        for number in range(400):
            nulls = dice.choice(often) if number % 8 else dice.getrandbits(width - 1) << 1
            values: list[Any] = [number]
            image = struct.pack("<i", number)
            for index in range(1, width):
                there = not nulls >> index & 1
                if index % 2 == 1:
                    values.append(f"é{number}" if there else None)
                    image += (bytes((len(text := f"é{number}".encode()),)) + text) if there else b""
                else:
                    values.append(f"{number}.50" if there else None)
                    image += ((number | 0x8000).to_bytes(2, "big") + b"\x32") if there else b""
            rows.append(tuple(value for index, value in enumerate(values) if index not in hidden))
            data += (nulls | -1 << width & (1 << -(-width // 8) * 8) - 1).to_bytes(-(-width // 8), "little") + image
        assert decoder.images(data, 0, len(data)) == rows
        assert decoder.pairs(data, 0, len(data)) == list(zip(rows[::2], rows[1::2], strict=True))
    assert 3 <= len(decoder._with_nulls) < 8


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


def test_packets_may_arrive_in_any_pieces() -> None:
    sent = wire(MARIADB)
    for size in (len(sent), 1, 2, 3, 7, 100, 257):
        pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
        assert fed_events(stream(), *pieces) == MARIADB


@pytest.mark.parametrize("size", [0xFFFFFF - 2, 0xFFFFFF - 1, 0xFFFFFF, 2 * 0xFFFFFF - 1, 2 * 0xFFFFFF + 5])
def test_a_payload_of_many_packets_is_joined(size: int) -> None:
    body = b"\0" + bytes(size)
    pieces = [body[at : at + 0xFFFFFF] for at in range(0, len(body), 0xFFFFFF)]
    if len(pieces[-1]) == 0xFFFFFF:
        pieces.append(b"")
    sent = b"".join(map(packet, pieces)) + packet(b"\0next")
    got = fed_events(stream(), *(sent[at : at + (1 << 20)] for at in range(0, len(sent), 1 << 20)))
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
    fed.add(packet(b"\0last") + packet(payload))
    assert fed.take() == b"last"  # what came before is not lost
    with pytest.raises(error, match=match):
        fed.take()
    with pytest.raises(error, match=match):
        fed.receive(0)
