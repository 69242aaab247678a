"""Rows straight from the packets: the same values as PyMySQL's, wherever the bytes are cut, whoever cuts them."""

from __future__ import annotations

import io
import random
from struct import pack
from typing import Any

import pymysql
import pytest
from pymysql.connections import MySQLResult

from syncbridge.capture.changes import JsonRows, ReadRows
from syncbridge.capture.lanes import lane_of
from syncbridge.capture.schema import Column, TableSchema
from syncbridge.capture.snapshot.packets import READ_SIZE, Parse, Values, json_parser, read_rows, row_parser
from syncbridge.capture.snapshot.select import row_values
from tests.native import needed

COLUMNS = tuple(
    Column.parse(name, type_)
    for name, type_ in (
        ("id", "bigint"), ("note", "longtext"), ("photo", "longblob"), ("bits", "bit(12)"), ("price", "decimal(9,2)"),
    )
)  # fmt: skip
SCHEMA = TableSchema("d", "t", COLUMNS, ("id",))
END = b"\x05\x00\x00\x09\xfe\x00\x00\x02\x00"
PACKET = 0xFFFFFF


def value(data: bytes | None) -> bytes:
    """A value as a row of the text protocol holds it."""
    if data is None:
        return b"\xfb"
    size = len(data)
    if size < 251:
        return bytes([size]) + data
    if size < 1 << 16:
        return b"\xfc" + pack("<H", size) + data
    if size < 1 << 24:
        return b"\xfd" + pack("<I", size)[:3] + data
    return b"\xfe" + pack("<Q", size) + data


def packets(payload: bytes) -> bytes:
    """A payload in its packets: one of full length is followed by another, be it empty."""
    parts = [payload[at : at + PACKET] for at in range(0, len(payload) + 1, PACKET)]
    return b"".join(pack("<I", len(part))[:3] + b"\x00" + part for part in parts)


def wire(rows: list[tuple[bytes | None, ...]]) -> bytes:
    return b"".join(packets(b"".join(value(one) for one in row)) for row in rows)


class Wire(io.RawIOBase):
    """A socket that has so many bytes at once."""

    def __init__(self, data: bytes, at_once: int) -> None:
        self._data, self._at, self._at_once = data, 0, at_once

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        part = self._data[self._at : self._at + min(self._at_once, len(into))]
        into[: len(part)] = part
        self._at += len(part)
        return len(part)


class Connection:
    """As much of PyMySQL's as select_rows() uses, in the middle of a result."""

    def __init__(self, data: bytes, at_once: int = 1 << 20) -> None:
        self._rfile = io.BufferedReader(Wire(data, at_once), 1)
        self._result = MySQLResult(self)
        self.open = True

    def query(self, sql: str, *, unbuffered: bool) -> None:
        assert unbuffered

    def _force_close(self) -> None:
        self.open = False


class Reader:
    """One of the two ways to rows."""

    def __init__(self, *, native: bool) -> None:
        self.native = native

    def parser(self, columns: tuple[Column, ...] = COLUMNS, key: tuple[str, ...] = ("id",)) -> Parse:
        if self.native:
            return json_parser(needed(), TableSchema("d", "t", columns, key), key)
        return row_parser(columns)

    def rows(self) -> ReadRows:
        return JsonRows() if self.native else []

    def select(
        self, connection: Connection, max_bytes: float = 1e12, columns: tuple[Column, ...] = COLUMNS
    ) -> tuple[list[Values], int, bool]:
        rows = self.rows()
        size, whole = read_rows(connection, "SELECT …", self.parser(columns), max_bytes, rows)
        return list(rows), size, whole

    def read(
        self, data: bytes, at_once: int = 1 << 20, max_bytes: float = 1e12
    ) -> tuple[list[Values], bool, Connection]:
        connection = Connection(data, at_once)
        rows, size, whole = self.select(connection, max_bytes)
        assert size <= len(data)
        return rows, whole, connection


@pytest.fixture(params=[False, True], ids=["python", "native"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return Reader(native=request.param)


def expected(rows: list[tuple[bytes | None, ...]]) -> list[Values]:
    convert = row_values(SCHEMA)
    return [tuple(convert(row).values()) for row in rows]


ROWS: list[tuple[bytes | None, ...]] = [
    (b"-9223372036854775808", "Grüße".encode(), bytes(range(256)), b"\x0f\xff", b"-1234567.89"),
    (b"0", b"", b"", b"\x00\x00", b"0.00"),
    (None, None, None, None, None),
    (b"7", b"n" * 250, b"p" * 251, b"\x00\x01", b"1.00"),
    (b"8", b"n" * 65_535, b"p" * 65_536, None, b"2.00"),
    (b"9", b"\xff\xfe not UTF-8", b"\xfe\xff\xfb", b"\x01\x00", None),
]


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 1000, 1 << 20])
def test_values_are_those_of_the_raw_rows_wherever_the_bytes_are_cut(reader: Reader, at_once: int) -> None:
    cut = [row for row in ROWS if at_once >= 1000 or len(wire([row])) < 1000]
    rows, whole, connection = reader.read(wire(cut) + END, at_once)
    assert rows == expected(cut)
    assert whole
    assert connection.open


def test_half_a_row_at_any_place_is_no_row(reader: Reader) -> None:
    row = wire(ROWS[:1])
    parse = reader.parser()
    for end in range(len(row)):
        found = reader.rows()
        assert parse(row[:end], 0, found) == 0, end
        assert len(found) == 0


def test_random_rows_in_random_pieces(reader: Reader) -> None:
    dice = random.Random(7)

    def some(most: int) -> bytes | None:
        return None if dice.random() < 0.1 else dice.randbytes(dice.choice((0, 1, 30, 250, 251, 300, most)))

    rows = [
        (str(number).encode(), some(70_000), some(5_000), dice.randbytes(number % 9), str(dice.random()).encode())
        for number in range(300)
    ]
    data = wire(rows) + END
    print(f"{len(data)} bytes")
    for at_once in (dice.randrange(500, 5_000) for _ in range(5)):
        assert reader.read(data, at_once)[0] == expected(rows)


@pytest.mark.parametrize("size", [PACKET - 12, PACKET, 2 * PACKET])
def test_a_row_of_several_packets(reader: Reader, size: int) -> None:
    # Its first value begins with the byte that the packet behind the last row begins with.
    columns = (Column.parse("photo", "longblob"), Column.parse("id", "int"))
    rows = [(b"", b"1"), (b"p" * size, b"2"), (None, b"3")]
    connection = Connection(wire(rows) + END, READ_SIZE)
    found, _, whole = reader.select(connection, columns=columns)
    assert whole
    assert [(len(photo or ""), number) for photo, number in found] == [(0, 1), ((size + 2) // 3 * 4, 2), (0, 3)]


def test_an_error_behind_rows_is_raised_and_the_connection_is_gone(reader: Reader) -> None:
    text = b"\xff" + pack("<H", 3024) + b"#HY000Query execution was interrupted"
    connection = Connection(wire(ROWS) + packets(text), 100)
    with pytest.raises(pymysql.MySQLError, match="interrupted") as caught:
        reader.select(connection)
    assert caught.value.args[0] == 3024
    assert not connection.open


@pytest.mark.parametrize("left", [0, 3, 50])
def test_a_connection_that_ends_among_rows_is_lost(reader: Reader, left: int) -> None:
    connection = Connection(wire(ROWS)[: len(wire(ROWS)) - left])
    with pytest.raises(pymysql.OperationalError, match="Lost connection"):
        reader.select(connection)
    assert not connection.open


def test_rows_beyond_the_bound_are_left(reader: Reader) -> None:
    rows, whole, connection = reader.read(wire(ROWS * 100) + END, 1000, max_bytes=200_000)
    assert rows == expected(ROWS * 100)[: len(rows)]
    assert 200_000 / 132_000 * len(ROWS) - 4 < len(rows) < 3 * len(ROWS)
    assert not whole
    assert not connection.open  # nobody reads the others


def test_a_row_wider_than_the_bound_comes_all_the_same(reader: Reader) -> None:
    rows, whole, _ = reader.read(wire(ROWS[4:5] * 2) + END, 1000, max_bytes=10)
    assert rows == expected(ROWS[4:5])
    assert not whole


def test_a_value_that_does_not_fit_its_column_is_an_error(reader: Reader) -> None:
    connection = Connection(wire([(b"not a number", None, None, None, None)]) + END)
    with pytest.raises(ValueError, match=r"invalid literal|columns asked for"):
        reader.select(connection)
    assert not connection.open


@pytest.mark.parametrize("key", [("id",), ("note", "id"), ("price", "photo", "bits")])
def test_hashes_of_rows_find_their_lanes(key: tuple[str, ...]) -> None:
    rows = JsonRows()
    parse = Reader(native=True).parser(key=key)
    found = [
        *ROWS,
        (b"1", b'"\\\b\f\n\r\t\x00\x1f/\x7f', b"", b"", b"0"),
        (b"2", "\u2028€😀".encode(), b"\0", b"", b"0"),
    ]
    data = wire(found)
    assert parse(data, 0, rows) == len(data)
    places = [[column.name for column in COLUMNS].index(name) for name in key]
    lanes = [lane_of("d", "t", [values[place] for place in places], 7) for values in expected(found)]
    assert [its_hash % 7 for its_hash in rows.hashes] == lanes


@pytest.mark.parametrize("number", [b"", b"-", b"+1", b"1 ", b"01", b"1.5", b"1\0"])
def test_what_is_no_number_never_becomes_one(number: bytes) -> None:
    parse = Reader(native=True).parser()
    with pytest.raises(ValueError, match="columns asked for"):
        parse(wire([(number, None, None, None, None)]), 0, JsonRows())


def test_rows_of_other_columns_are_refused() -> None:
    parse = Reader(native=True).parser()
    for row in ((b"1",) * 4, (b"1",) * 6, (b"1", b"", b"", b"123456789", b"")):
        with pytest.raises(ValueError, match="columns asked for"):
            parse(wire([row]), 0, JsonRows())
