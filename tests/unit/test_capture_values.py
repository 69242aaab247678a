"""Value texts from bytes: numbers, dates, JSON, geometry, character sets, GTID sets. Pure cases and properties."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge.capture.binlog.charsets import text_decoder
from syncbridge.capture.binlog.geometry import wkt
from syncbridge.capture.binlog.identifiers import inet6_text
from syncbridge.capture.binlog.jsonb import json_text
from syncbridge.capture.binlog.numbers import decimal_reader, decimal_size, double_text, float_text
from syncbridge.capture.gtid import GtidSet, MariaGtidPosition
from syncbridge.capture.schema import Column, TableSchema
from syncbridge.capture.snapshot.select import row_values, select_list
from syncbridge.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (1e14, "100000000000000"), (1e15, "1e15"), (-1e15, "-1e15"),
        (123456789012345680.0, "1.2345678901234568e17"), (-1585569424508025.5, "-1585569424508025.5"),
        (1e-15, "0.000000000000001"), (1e-16, "1e-16"), (1.25e-16, "1.25e-16"), (0.0001, "0.0001"),
        (1e-5, "0.00001"), (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e308"),
    ],
)  # fmt: skip
def test_doubles_print_as_the_servers_do(value: float, text: str) -> None:
    assert double_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.100000023841858, "1.1"), (16777216.0, "16777200"), (3.4e38, "3.4e38"), (1e-45, "1e-45"), (0.0, "0"),
     (1e6, "1000000"), (-1e-5, "-0.00001")],
)  # fmt: skip
def test_floats_print_six_digits(value: float, text: str) -> None:
    assert float_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_double_reads_back_as_itself(value: float) -> None:
    assert float(double_text(value)) == value


@given(st.data())
def test_decimals_of_every_size(data: st.DataObject) -> None:
    precision = data.draw(st.integers(1, 65))
    scale = data.draw(st.integers(0, min(30, precision)))
    number = data.draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    sign, digits = ("-" if number < 0 else ""), str(abs(number)).rjust(scale + 1, "0")
    text = f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"
    packed = packed_decimal(number, precision, scale)
    assert len(packed) == decimal_size(precision, scale)
    assert decimal_reader(precision, scale)(packed) == text


def packed_decimal(number: int, precision: int, scale: int) -> bytes:
    """The server's packing, written the plain way."""
    digits = str(abs(number)).rjust(precision, "0")
    whole, fraction = digits[: precision - scale], digits[precision - scale :]
    sizes = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    head = len(whole) % 9
    groups = ([whole[:head]] if head else []) + [whole[at : at + 9] for at in range(head, len(whole), 9)]
    groups += [fraction[at : at + 9] for at in range(0, len(fraction), 9)]
    packed = bytearray(b"".join(int(group).to_bytes(sizes[len(group)], "big") for group in groups))
    if number < 0:
        packed = bytearray(byte ^ 0xFF for byte in packed)
    packed[0] ^= 0x80
    return bytes(packed)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "null"),
        (b"\x04\x00", "null"),
        (b"\x04\x01", "true"),
        (b'\x0c\x03a"\n', '"a\\"\\n"'),
        (b"\x0c\x01\x01", '"\\u0001"'),
        (b"\x0b" + struct.pack("<d", 2.0), "2.0"),
        (b"\x0a" + b"\xff" * 8, "18446744073709551615"),
        (b"\x02\x02\x00\x0a\x00\x05\xfe\xff\x04\x02\x00", "[-2, false]"),
        (b"\x00\x01\x00\x0c\x00\x0b\x00\x01\x00\x05\x07\x00a", '{"a": 7}'),
        (b"\x0f\xf6\x04\x04\x02\x81\x32", "1.50"),
        (b"\x0f\x10\x02\xab\xcd", '"base64:type16:q80="'),
    ],
)
def test_binary_json_prints_as_the_server_does(data: bytes, text: str) -> None:
    assert json_text(data) == text


def test_damaged_json_raises() -> None:
    for data in (b"\x63", b"\x00\x01\x00", b"\x0c\xff\xff\xff\xff\xff\xff", b"\x04\x07"):
        with pytest.raises((ValueError, LookupError, struct.error)):
            json_text(data)


def test_geometry_texts() -> None:
    point = struct.pack("<IBIdd", 4326, 1, 1, 10.5, -20)
    assert wkt(point) == "POINT(10.5 -20)"
    assert wkt(point, swap=True) == "POINT(-20 10.5)"
    multipoint = struct.pack("<IBII", 0, 1, 4, 1) + point[4:]
    assert wkt(multipoint) == "MULTIPOINT((10.5 -20))"
    assert wkt(multipoint, mariadb=True) == "MULTIPOINT(10.5 -20)"
    assert wkt(struct.pack("<IBII", 0, 1, 7, 0)) == "GEOMETRYCOLLECTION EMPTY"


@pytest.mark.parametrize(
    ("groups", "text"),
    [([0] * 8, "::"), ([0] * 7 + [1], "::1"), ([1, 0, 2, 3, 4, 5, 6, 7], "1::2:3:4:5:6:7"),
     ([0, 0, 0, 0, 0, 0xFFFF, 0x0102, 0x0304], "::ffff:1.2.3.4"), ([1, 0, 0, 2, 0, 0, 0, 3], "1:0:0:2::3")],
)  # fmt: skip
def test_inet6_texts(groups: list[int], text: str) -> None:
    assert inet6_text(struct.pack(">8H", *groups)) == text


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("latin1", bytes((0x80, 0x81, 0xE9)), "€\x81é"),
        ("gbk", "汉字a".encode("gbk"), "汉字a"),
        ("sjis", b"\x81\x5fa", "\\a"),
        ("utf16", b"\x20\x20\xd8\x3d\xde\x00", "\u2020\U0001f600"),
        ("swe7", b"[\\]", "ÄÖÅ"),
        ("eucjpms", b"\xad\xa1\xf5\xa1", "①\ue000"),
        ("big5", b"\xa1\x5a\xff", "\ufffd?"),
        ("gb18030", b"\xa8\xbc\x81\x35\xf4\x37", "ḿ\ue7c7"),
    ],
)
def test_character_sets_follow_the_server(charset: str, data: bytes, text: str) -> None:
    decode = text_decoder(charset)
    assert decode is not None
    assert decode(data) == text


def test_select_quotes_names_and_converts_by_type() -> None:
    schema = TableSchema(
        "d",
        "t",
        (
            Column.parse("a`b'", "int"), Column.parse("g", "point"), Column.parse("bits", "bit(9)"),
            Column.parse("raw", "varbinary(9)"), Column.parse("z", "int(5) unsigned zerofill"),
        ),
    )  # fmt: skip
    assert select_list(schema) == "`a``b'`, ST_AsText(`g`), `bits`, `raw`, `z`"
    row = row_values(schema)((b"-5", b"POINT(1 2)", b"\x01\x00", b"\xff", b"00007"))
    assert row == {"a`b'": -5, "g": "POINT(1 2)", "bits": 256, "raw": "/w==", "z": "00007"}
    assert set(row_values(schema)((None,) * 5).values()) == {None}


UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def test_gtid_sets() -> None:
    executed = GtidSet(f"{UUID}:1-5:11:tag:3, {UUID[::-1].replace('-', '')}:7".replace("\n", ""))
    executed.add(f"{UUID}:6")
    executed.add(f"{UUID}:8-10")
    assert f"{UUID}:1-6:8-11:tag:3" in str(executed)
    executed.add(f"{UUID}:12")  # the next one
    assert f"{UUID}:1-6:8-12:tag:3" in str(executed)
    assert executed.contains(GtidSet(f"{UUID}:2-6:9"))
    assert not executed.contains(GtidSet(f"{UUID}:7"))
    assert not executed.contains(GtidSet(f"{UUID}:tag:4"))
    assert GtidSet(str(executed)) == executed
    with pytest.raises(ConfigError):
        GtidSet("nonsense:1")
    assert GtidSet(f"{UUID}:1-3").encode() == (
        struct.pack("<Q", 1) + bytes.fromhex(UUID.replace("-", "")) + struct.pack("<QQQ", 1, 1, 4)
    )


def test_mariadb_positions() -> None:
    position = MariaGtidPosition("0-1-5,1-2-7")
    position.add("0-3-6")
    assert str(position) == "0-3-6,1-2-7"
    assert position.contains(MariaGtidPosition("0-1-6"))
    assert not position.contains(MariaGtidPosition("2-1-1"))
    with pytest.raises(ConfigError):
        MariaGtidPosition("x")
