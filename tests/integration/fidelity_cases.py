# ruff: noqa: E501 - tables of literals
"""What the fidelity tests insert: tables by type family, each column with SQL literals, edge values first."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass, field

#: Random values per column, added to the edge values.
RANDOM_VALUES = 150


@dataclass(frozen=True)
class Family:
    """A table: (column definition, SQL literals) pairs."""

    name: str
    columns: list[tuple[str, list[str]]]
    flavors: tuple[str, ...] = ("mariadb", "mysql")
    more: list[str] = field(default_factory=list)  # further column definitions and keys, not inserted into


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"


def hexed(data: bytes) -> str:
    return f"x'{data.hex()}'"


def families(flavor: str, seed: int) -> list[Family]:
    """The families that a server of `flavor` has."""
    dice = random.Random(seed)
    made = [
        integers(dice), bits(dice), decimals(dice), floats(dice), temporals(dice), *texts(dice), binaries(dice),
        members(dice), generated(dice), geometries(dice), wide(dice), json_family(dice, flavor),
    ]  # fmt: skip
    if flavor == "mariadb":
        made += [mariadb_types(dice), compressed_columns(dice)]
    else:
        made += [opaque_json(), vectors(dice), geographic(), functional_indexes(dice)]
    return made


def integers(dice: random.Random) -> Family:
    columns = []
    for name, width in (("TINYINT", 1), ("SMALLINT", 2), ("MEDIUMINT", 3), ("INT", 4), ("BIGINT", 8)):
        top = 1 << 8 * width
        signed = [-top // 2, top // 2 - 1, -1, 0, 1] + [
            dice.randrange(-top // 2, top // 2) for _ in range(RANDOM_VALUES)
        ]
        unsigned = [0, 1, top // 2, top - 1] + [dice.randrange(top) for _ in range(RANDOM_VALUES)]
        columns.append((name, [str(value) for value in signed]))
        columns.append((f"{name} UNSIGNED", [str(value) for value in unsigned]))
        columns.append((f"{name}(7) ZEROFILL", [str(value) for value in unsigned]))
    columns.append(("TINYINT(1)", ["0", "1", "-128", "127"]))
    columns.append(("YEAR", ["0", "'0000'", "1901", "2155", "1999", "'00'", "'70'"]))
    return Family("integers", columns)


def bits(dice: random.Random) -> Family:
    columns = []
    for width in (1, 7, 8, 9, 15, 17, 31, 33, 63, 64):
        values = [0, 1, (1 << width) - 1, *(dice.getrandbits(width) for _ in range(40))]
        columns.append((f"BIT({width})", [str(value) for value in values]))
    return Family("bits", columns)


def decimals(dice: random.Random) -> Family:
    columns = []
    for precision, scale in ((1, 0), (1, 1), (5, 2), (9, 0), (9, 9), (10, 0), (12, 2), (18, 9), (30, 29), (38, 0),
                             (65, 0), (65, 30), (38, 30), (20, 7)):  # fmt: skip
        values = [
            "0",
            "9" * (precision - scale) + "." + "9" * scale,
            "-" + "9" * (precision - scale) + "." + "9" * scale,
        ]
        for _ in range(RANDOM_VALUES):
            whole = str(dice.getrandbits(220))[: dice.randint(0, precision - scale)]
            part = str(dice.getrandbits(110))[: dice.randint(0, scale)]
            values.append(f"{dice.choice('-+')}{whole or '0'}.{part or '0'}")
        columns.append((f"DECIMAL({precision},{scale})", [value.strip(".") for value in values]))
    columns.append(("DECIMAL(10,2) ZEROFILL", ["0", "1.5", "99999999.99", "123"]))
    columns.append(("DECIMAL(6,0) ZEROFILL", ["0", "1.5", "999999", "123"]))
    return Family("decimals", columns)


def floats(dice: random.Random) -> Family:
    singles, doubles = [], []
    while len(singles) < 1200:
        (single,) = struct.unpack("<f", dice.randbytes(4))
        (double,) = struct.unpack("<d", dice.randbytes(8))
        if abs(single) < 3e38 and single == single and abs(double) < 1e308 and double == double:
            singles.append(repr(single))
            doubles.append(repr(double))
    for _ in range(1200):
        value = dice.choice(
            (dice.random(), dice.randint(0, 10**6) / 100, dice.randint(-(10**9), 10**9))
        ) * 10.0 ** dice.randint(-22, 22)
        singles.append(repr(value))
        doubles.append(repr(value))
    edges = ["0", "-0.0e0", "1", "-1", "0.1", "1.1", "1e14", "1e15", "1e16", "123456789012345", "1234567890123456",
             "12345678901234567", "999999999999999", "9999999999999998", "1e-4", "1e-5", "1e-14", "1e-15", "1e-16",
             "1.5e-15", "1.5e-14", "1.25e-16", "999999", "9999995", "1000000", "1234567", "123456.7", "3.4e38",
             "1e-38", "1e-45", "16777217", "2.5e15", "2.5e14", "100000", "1e20", "1e17", "4e-5"]  # fmt: skip
    sized = [repr(round(dice.uniform(-9999, 9999), dice.randint(0, 6))) for _ in range(300)]
    return Family(
        "floats",
        [
            ("FLOAT", edges + singles),
            ("DOUBLE", [*edges, "1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", *doubles]),
            ("FLOAT(7,3)", ["0", "9999.999", "-9999.999", "1.1", "0.0005", *sized]),
            ("DOUBLE(12,5)", ["0", "9999999.99999", "-1.1", *sized]),
            ("FLOAT(5,0)", ["0", "1", "99999", "2.5", "3.5", "-0.4"]),
            ("DOUBLE UNSIGNED", ["0", "1.5", "1e300"]),
            ("FLOAT ZEROFILL", ["0", "1.5", "1e10", "12.25"]),
            ("DOUBLE ZEROFILL", ["0", "1.5", "1e30", "12.25"]),
            ("DOUBLE(10,2) ZEROFILL", ["0", "1.5", "99.25"]),
        ],
    )


def _clock(dice: random.Random, hours: int = 23) -> str:
    return f"{dice.randint(0, hours):02d}:{dice.randint(0, 59):02d}:{dice.randint(0, 59):02d}.{dice.randint(0, 999999):06d}"


def _day(dice: random.Random, low: int = 0, high: int = 9999) -> str:
    return f"{dice.randint(low, high):04d}-{dice.randint(1, 12):02d}-{dice.randint(1, 28):02d}"


def temporals(dice: random.Random) -> Family:
    days = [
        "0000-00-00",
        "0000-01-01",
        "1000-01-01",
        "9999-12-31",
        "2024-02-29",
        "2024-00-00",
        "2024-05-00",
        "0000-00-01",
    ]
    columns = [("DATE", [quoted(day) for day in days + [_day(dice) for _ in range(RANDOM_VALUES)]])]
    for fsp in range(7):
        part = "" if not fsp else "." + "9" * fsp
        times = [f"-838:59:59{part if fsp == 0 else ''}", f"838:59:58{part}", f"-838:59:58{part}", "00:00:00", "-00:00:01",
                 "-00:00:00.1", "-00:00:00.000001", "-01:00:00.999999", "24:00:00", "100:00:00.5", "-25:30:00.25"]  # fmt: skip
        times += [dice.choice(("", "-")) + _clock(dice, 838) for _ in range(RANDOM_VALUES)]
        moments = [f"{day} 00:00:00" for day in days]
        moments += [f"9999-12-31 23:59:59{part}", "1000-01-01 00:00:00", "2024-12-31 23:59:59.5"]
        moments += [f"{_day(dice)} {_clock(dice)}" for _ in range(RANDOM_VALUES)]
        stamps = ["0000-00-00 00:00:00", "1970-01-01 00:00:01", f"2038-01-19 03:14:07{part}", "2000-02-29 12:00:00.5"]
        stamps += [f"{_day(dice, 1970, 2037)} {_clock(dice)}" for _ in range(RANDOM_VALUES)]
        columns.append((f"TIME({fsp})", [quoted(value) for value in times]))
        columns.append((f"DATETIME({fsp})", [quoted(value) for value in moments]))
        columns.append((f"TIMESTAMP({fsp})", [quoted(value) for value in stamps]))
    return Family("temporals", columns)


def _word(dice: random.Random, alphabet: str, longest: int) -> str:
    return "".join(dice.choice(alphabet) for _ in range(dice.randint(0, longest)))


_ASCII = "abc XYZ019'\"\\\0\n\t\x7f%_"
_ALPHABETS = {
    "utf8mb4": _ASCII + "äßéñ\u00a0\u2020Ж中文日本\U0001f600\U0002070e\ufffd\u200d",
    "utf8mb3": _ASCII + "äßéñЖ中文\uffff",
    "latin1": _ASCII + "".join(bytes((code,)).decode("cp1252", "ignore") for code in range(0x80, 0x100)),
    "gbk": _ASCII + "中文汉字漢丂狛",
    "utf16": _ASCII + "ä†Ġ中\U0001f600",
    "utf16le": _ASCII + "ä†Ġ中\U0001f600",
    "utf32": _ASCII + "ä†Ġ中\U0001f600",
    "ucs2": _ASCII + "ä†Ġ中Ж",
    "ascii": _ASCII,
    "cp1251": _ASCII + "Привет№",
    "sjis": _ASCII + "日本語ｱｶ表",
    "big5": _ASCII + "中文許功蓋",
    "euckr": _ASCII + "한국어",
    "ujis": _ASCII + "日本語ｱ表",
    "greek": _ASCII + "αβγΩ",
    "koi8r": _ASCII + "Привет",
}


def texts(dice: random.Random) -> list[Family]:
    """One family for each character set: CHAR, VARCHAR (short and long), TEXT of every size."""
    made = []
    for charset, alphabet in _ALPHABETS.items():
        edges = ["", " ", "a ", "  a  ", "a\t", alphabet[-5:], "†" if "†" in alphabet else "x"]
        short = [quoted(value) for value in edges + [_word(dice, alphabet, 20) for _ in range(RANDOM_VALUES)]]
        long_ = [quoted(value) for value in edges + [_word(dice, alphabet, 400) for _ in range(20)]]
        collation = f"CHARACTER SET {charset}"
        made.append(
            Family(
                f"text_{charset}",
                [
                    (f"CHAR(20) {collation}", short), (f"VARCHAR(20) {collation}", short),
                    (f"CHAR(200) {collation}", short), (f"VARCHAR(500) {collation}", long_),
                    (f"TINYTEXT {collation}", short), (f"TEXT {collation}", long_),
                    (f"MEDIUMTEXT {collation}", long_), (f"LONGTEXT {collation}", long_),
                ],
            )
        )  # fmt: skip
    return made


def binaries(dice: random.Random) -> Family:
    def values(longest: int) -> list[str]:
        edges = [b"", b"\0", b"a\0\0", b"\0\0\0a", b" ", b"a ", bytes(range(256))[:longest]]
        return [hexed(value) for value in edges + [dice.randbytes(dice.randint(0, longest)) for _ in range(60)]]

    return Family(
        "binaries",
        [
            ("BINARY(1)", values(1)), ("BINARY(16)", values(16)), ("BINARY(255)", values(255)),
            ("VARBINARY(20)", values(20)), ("VARBINARY(500)", values(500)), ("TINYBLOB", values(255)),
            ("BLOB", values(1000)), ("MEDIUMBLOB", [*values(300), hexed(dice.randbytes(70_000))]),
            ("LONGBLOB", values(300)), ("CHAR(10) CHARACTER SET binary", values(10)),
        ],
    )  # fmt: skip


def members(dice: random.Random) -> Family:
    many = ",".join(f"'m{number}'" for number in range(300))
    sixty = ",".join(f"'s{number}'" for number in range(64))
    subsets = [",".join(f"s{bit}" for bit in range(64) if dice.random() < 0.2) for _ in range(60)]
    return Family(
        "members",
        [
            ("ENUM('a','b','it''s','c,d','é','x\\\\y','(z)')", ["'a'", "'it''s'", "'c,d'", "'é'", "'x\\\\y'", "'(z)'", "'bad'"]),
            (f"ENUM({many})", ["'m0'", "'m254'", "'m255'", "'m256'", "'m299'"]),
            ("ENUM('','b')", ["''", "'b'", "'bad'"]),
            ("ENUM('é','ü') CHARACTER SET latin1", ["'é'", "'ü'"]),
            ("ENUM('中','文') CHARACTER SET gbk", ["'中'", "'文'"]),
            ("ENUM('a','中') CHARACTER SET utf16", ["'a'", "'中'"]),
            ("ENUM('a','b') CHARACTER SET binary", ["'a'", "'b'"]),
            ("ENUM('A','b') COLLATE utf8mb4_bin", ["'A'", "'b'"]),
            ("SET('a','b','c')", ["''", "'a'", "'a,c'", "'a,b,c'", "'b'"]),
            (f"SET({sixty})", ["''", "'s0'", "'s63'", "'s0,s63'", *(quoted(subset) for subset in subsets)]),
            ("SET('é','x','y','z','1','2','3','4','5')", ["'é'", "'5'", "'é,5'"]),
            ("SET('é','中') CHARACTER SET utf8mb3", ["'é,中'", "''"]),
        ],
    )  # fmt: skip


def generated(dice: random.Random) -> Family:
    return Family(
        "generated",
        [("INT", [str(dice.randint(-1000, 1000)) for _ in range(50)]), ("VARCHAR(20)", ["'a'", "'ü'", "'abc'"])],
        more=[
            "v INT GENERATED ALWAYS AS (c0 * 2) VIRTUAL", "s INT GENERATED ALWAYS AS (c0 + 1) STORED",
            "vt VARCHAR(50) GENERATED ALWAYS AS (CONCAT(c1, '-', c0)) VIRTUAL",
            "st VARCHAR(50) GENERATED ALWAYS AS (UPPER(c1)) STORED", "hidden INT INVISIBLE DEFAULT 7",
            "vu VARCHAR(50) GENERATED ALWAYS AS (LOWER(c1)) VIRTUAL", "t TEXT", "KEY (v)", "KEY (vt)",
        ],
    )  # fmt: skip


def geometries(dice: random.Random) -> Family:
    def number() -> str:
        return repr(
            dice.choice(
                (dice.randint(-180, 180), dice.uniform(-180, 180), dice.uniform(-1e-7, 1e-7), dice.uniform(-1e20, 1e20))
            )
        )

    points = [f"POINT({number()} {number()})" for _ in range(200)]
    lines = [f"LINESTRING({','.join(f'{number()} {number()}' for _ in range(dice.randint(2, 6)))})" for _ in range(20)]
    shapes = [
        *points[:30], *lines, "POINT(1.5 -2)", "POLYGON((0 0,10 0,10 10,0 10,0 0),(2 2,3 2,3 3,2 3,2 2))",
        "MULTIPOINT(0 0,1 1.25)", "MULTILINESTRING((0 0,1 1),(2 2,3 3,4 4.5))",
        "MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((5 5,6 5,6 6,5 5),(5.1 5.05,5.2 5.05,5.2 5.1,5.1 5.05)))",
        "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1),MULTIPOINT(3 3,4 4),GEOMETRYCOLLECTION(POINT(9 9)))",
        "GEOMETRYCOLLECTION EMPTY",
    ]  # fmt: skip

    def literals(texts: list[str]) -> list[str]:
        return [f"ST_GeomFromText('{text}')" for text in texts]

    return Family(
        "geometries",
        [("GEOMETRY", literals(shapes)), ("POINT", literals(points)), ("LINESTRING", literals(lines)),
         ("GEOMETRYCOLLECTION", literals(shapes[-2:])), ("MULTIPOINT", literals(["MULTIPOINT(0 0,1 1.25)"]))],
    )  # fmt: skip


def wide(dice: random.Random) -> Family:
    """Many columns: NULL bitmaps of several bytes."""
    return Family("wide", [("INT", [str(dice.randint(0, 9)) for _ in range(30)]) for _ in range(70)])


def _json(dice: random.Random, depth: int = 0) -> object:
    kind = dice.randint(0, 9 if depth < 4 else 7)
    if kind == 8:
        return {_word(dice, 'ab"\\\n☃ é', 6): _json(dice, depth + 1) for _ in range(dice.randint(0, 5))}
    if kind == 9:
        return [_json(dice, depth + 1) for _ in range(dice.randint(0, 5))]
    return (
        None, True, False, dice.randint(-(2**63), 2**64 - 1), dice.randint(-70000, 70000), dice.uniform(-1e6, 1e6),
        dice.uniform(-1, 1) * 10.0 ** dice.randint(-300, 300), _word(dice, "ab\"\\/\n\b\f\r\t\x01\x1f☃ é\U0001f600", 12),
    )[kind]  # fmt: skip


def json_family(dice: random.Random, flavor: str) -> Family:
    edges = ["null", "true", "false", "0", "-1", "1.0", "-0.0", "1e100", "1.5e-10", "0.1", "32767", "32768", "-32769", "65536",
             "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "18446744073709551615",
             "18446744073709551616", "1e15", "1e16", "123456789012345680", "100.0", '""', '"a"', "{}", "[]", "[[]]",
             '{"a": {}}', '{"b": 1, "a": 2, "aa": 3}', '{"": null}', "[1,2.50,\"x\"]", '"\\u0000\\u001f\\"\\\\/"']  # fmt: skip
    big = json.dumps({f"key{number}": ["x" * 50, number * 1.5, number * 10**9, None] for number in range(1200)})
    depth = 25 if flavor == "mariadb" else 90  # MariaDB takes 32 levels, MySQL 100
    nested = "[" * depth + "]" * depth
    values = [*edges, big, nested, json.dumps("x" * 70_000), json.dumps(["y" * 300] * 300)]
    values += [json.dumps(_json(dice), ensure_ascii=False) for _ in range(2 * RANDOM_VALUES)]
    return Family("json", [("JSON", [quoted(value) for value in values]), ("JSON", [quoted(value) for value in edges])])


def opaque_json() -> Family:
    expressions = [
        "CAST(12.50 AS DECIMAL(10,2))", "CAST(-0.001 AS DECIMAL(10,3))", "CAST(1 AS DECIMAL(65,30))",
        "CAST('2024-02-29' AS DATE)", "CAST('2024-02-29 23:59:59.000001' AS DATETIME(6))",
        "CAST('2024-02-29 23:59:59' AS DATETIME)", "CAST('-12:30:45.5' AS TIME(6))", "CAST('838:59:59' AS TIME)",
        "CAST('00:00:00' AS TIME)", "x'00ff10'", "b'1010'", "CAST('abc' AS BINARY)", "1.5e0", "1e0", "18446744073709551615",
        "TIMESTAMP('2038-01-19 03:14:07')", "TRUE", "NULL", "CAST(2024 AS YEAR)", "_utf8mb4'é'", "ST_GeomFromText('POINT(1 2)')",
    ]  # fmt: skip
    values = [f"JSON_ARRAY({expression})" for expression in expressions]
    values += [f"JSON_OBJECT('k', {expression}, 'z', JSON_ARRAY({expression}, 1))" for expression in expressions]
    values += [f"CAST({expression} AS JSON)" for expression in expressions[:9]]
    return Family("opaque_json", [("JSON", values)], flavors=("mysql",))


def vectors(dice: random.Random) -> Family:
    values = [f"TO_VECTOR('[{dice.uniform(-9, 9)},{dice.uniform(-9, 9)},{dice.uniform(-9, 9)}]')" for _ in range(20)]
    return Family("vectors", [("VECTOR(3)", values), ("VECTOR", values)], flavors=("mysql",))


def geographic() -> Family:
    def literals(srid: int) -> list[str]:
        texts = ["POINT(10 20)", "POINT(-33.865 151.2094)", "POINT(0 0)"]
        return [f"ST_GeomFromText('{text}', {srid}, 'axis-order=long-lat')" for text in texts[::2]] + [
            f"ST_GeomFromText('POINT(10.5 20.25)', {srid})"
        ]

    lines = ["ST_GeomFromText('LINESTRING(10 20,11 21.5)', 4326)"]
    return Family(
        "geographic",
        [("POINT SRID 4326", literals(4326)), ("POINT SRID 0", ["ST_GeomFromText('POINT(10 20)')"]),
         ("GEOMETRY SRID 4326", literals(4326) + lines), ("POINT SRID 3857", ["ST_GeomFromText('POINT(10 20)', 3857)"])],
        flavors=("mysql",),
    )  # fmt: skip


def functional_indexes(dice: random.Random) -> Family:
    """Indexes on expressions make hidden columns, which the binlog leaves out."""
    return Family(
        "functional_indexes",
        [("INT", [str(dice.randint(-9, 9)) for _ in range(20)]), ("JSON", ["'[1, 2]'", "'[3]'", "'[]'"])],
        flavors=("mysql",),
        more=["t TEXT", "KEY e ((c0 + 1))", "KEY m ((CAST(c1->'$' AS UNSIGNED ARRAY)))"],
    )


def mariadb_types(dice: random.Random) -> Family:
    def random_uuid() -> str:
        text = dice.randbytes(16).hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    uuids = ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
             "123e4567-e89b-12d3-a456-426655440000", "123e4567-e89b-12d3-a456-426655440001"]  # fmt: skip
    uuids += [
        f"018f3d5a-1b2c-{version:x}def-{variant:x}123-456789abcdef" for version in range(16) for variant in range(16)
    ]
    uuids += [random_uuid() for _ in range(300)]
    inet6 = ["::", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:192.168.0.1", "fe80::", "2001:db8::8a2e:370:7334",
             "::1.2.3.4", "1::", "0:0:1::", "64:ff9b::1.2.3.4", "1:0:0:2:0:0:0:3", "::ffff:0:0", "::0.1.0.0", "::1:0:0"]  # fmt: skip
    inet6 += [":".join(f"{dice.choice((0, 0, dice.randrange(65536))):x}" for _ in range(8)) for _ in range(300)]
    inet4 = ["0.0.0.0", "255.255.255.255", "192.168.0.0", "10.0.0.1"]
    inet4 += [".".join(str(dice.randrange(256)) for _ in range(4)) for _ in range(50)]
    return Family(
        "mariadb_types",
        [
            ("UUID", [quoted(value) for value in uuids]), ("INET6", [quoted(value) for value in inet6]),
            ("INET4", [quoted(value) for value in inet4]),
            ("LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", ["'{}'"]),
        ],
        flavors=("mariadb",),
        more=["h TEXT UNIQUE"],
    )  # fmt: skip


def compressed_columns(dice: random.Random) -> Family:
    texts = ["''", "'a'", quoted("é" * 100), quoted("ab" * 3000), quoted(_word(dice, "ab é", 5000))]
    blobs = ["''", hexed(b"\0" * 500), hexed(dice.randbytes(900)), hexed(b"ab" * 2000)]
    return Family(
        "compressed_columns",
        [
            ("TEXT COMPRESSED", texts), ("VARCHAR(10000) COMPRESSED", texts), ("MEDIUMTEXT COMPRESSED", texts),
            ("LONGTEXT COMPRESSED", texts), ("BLOB COMPRESSED", blobs), ("VARBINARY(5000) COMPRESSED", blobs),
            ("TEXT CHARACTER SET latin1 COMPRESSED", texts), ("VARCHAR(200) CHARACTER SET gbk COMPRESSED", texts[:2]),
            ("TINYTEXT COMPRESSED", texts[:3]),
        ],
        flavors=("mariadb",),
    )  # fmt: skip
