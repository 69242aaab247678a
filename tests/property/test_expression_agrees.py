"""Random expressions over random rows: our answer is the server's answer, on MariaDB and on MySQL."""

from __future__ import annotations

import base64
import random
from collections import Counter
from typing import Any

import pymysql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncbridge.errors import PermanentError
from syncbridge.expression import compile_expression
from tests.servers import SqlServer

COLUMNS = {
    "i": ("INT", ""),
    "b": ("BIGINT", ""),
    "d": ("DECIMAL(12,3)", "decimal"),
    "f": ("DOUBLE", "float"),
    "s": ("VARCHAR(20) COLLATE utf8mb4_general_ci", ""),
    "t": ("VARCHAR(20) COLLATE utf8mb4_bin", "text_bin"),
    "e": ("ENUM('new','paid','') COLLATE utf8mb4_unicode_ci", ""),
    "dt": ("DATE", "date"),
    "at": ("DATETIME(3)", "datetime"),
    "tm": ("TIME", "time"),
    "y": ("YEAR", "year"),
    "v": ("VARBINARY(8)", "binary"),
}
TEXTS = [
    "",
    "a",
    "A",
    "abc",
    "Abc ",
    "b",
    "é",
    "E",
    "new",
    "NEW",
    "5",
    "05",
    "5.0",
    "-3",
    "1e2",
    "12abc",
    "x y",
    "paid",
    " 7",
]
#: Between two literals MySQL counts trailing spaces and MariaDB does not (docs/expressions.md).
LITERALS = [text for text in TEXTS if not text.endswith(" ")]
NUMBERS = [0, 1, -1, 2, 5, -7, 10, 12, 100, 2**31 - 1]
BIG = [0, 5, 2**53 + 1, -(2**62), 2**53]
DECIMALS = ["0.000", "1.500", "-2.125", "12.340", "99999.999", "5.000"]
DOUBLES = [0.0, 0.5, -2.5, 1e10, 3.25, 5.0]
DATES = ["2020-02-29", "1999-12-31", "2024-01-01"]
TIMES = ["10:20:30", "-26:00:00", "00:00:00"]
MOMENTS = ["2020-02-29 00:00:00", "2020-02-29 10:20:30.500", "1999-12-31 23:59:59"]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


numbers = st.one_of(
    st.sampled_from(["i", "b", "d", "f", "i", "d"]),
    st.sampled_from(NUMBERS).map(lambda n: str(n) if n >= 0 else f"({n})"),
    st.sampled_from(["0.5", "1.50", "-2.125", "5.0", "3e0", "1.25e1"]),
    st.just("NULL"),
)
texts = st.one_of(st.sampled_from(["s", "t", "e"]), st.sampled_from(LITERALS).map(_quoted))
#: Without the ENUM: as a number it is its index, which an event does not carry (docs/expressions.md).
digits = st.one_of(st.sampled_from(["s", "t"]), st.sampled_from(LITERALS).map(_quoted))


def _numeric(inner: st.SearchStrategy[str], conditions: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    call = lambda form, *args: st.tuples(*args).map(lambda values: form.format(*values))  # noqa: E731
    return st.one_of(
        call("({} {} {})", inner, st.sampled_from(["+", "-", "*", "/", "DIV", "%"]), inner),
        call("(-{})", inner),
        call("ABS({})", inner),
        call("ROUND({}, {})", inner, st.sampled_from(["0", "1", "2", "-1"])),
        call("FLOOR({})", inner),
        call("CEIL({})", inner),
        call("CHAR_LENGTH({})", texts),
        call("LENGTH({})", texts),
        call("YEAR({})", st.sampled_from(["dt", "at"])),
        call("MONTH({})", st.sampled_from(["dt", "at"])),
        call("CAST({} AS SIGNED)", st.one_of(inner, digits)),
        call("CAST({} AS DECIMAL(10,2))", inner),
        call("IF({}, {}, {})", conditions, inner, inner),
        call("COALESCE({}, {})", inner, inner),
        call("IFNULL({}, {})", inner, inner),
        call("NULLIF({}, {})", inner, inner),
        call("CASE WHEN {} THEN {} ELSE {} END", conditions, inner, inner),
        call("CASE {} WHEN {} THEN {} END", inner, inner, inner),
    )


def _textual(inner: st.SearchStrategy[str], conditions: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    call = lambda form, *args: st.tuples(*args).map(lambda values: form.format(*values))  # noqa: E731
    return st.one_of(
        call("LOWER({})", inner),
        call("UPPER({})", inner),
        call("CONCAT({}, {})", inner, st.one_of(inner, st.sampled_from(["i", "d", "dt", "at", "y"]))),
        call("SUBSTRING({}, {}, {})", inner, st.sampled_from(["1", "2", "-2", "0"]), st.sampled_from(["1", "3"])),
        call("LEFT({}, 2)", inner),
        call("RIGHT({}, 2)", inner),
        call("TRIM({})", inner),
        call("TRIM(LEADING 'a' FROM {})", inner),
        call("IF({}, {}, {})", conditions, inner, inner),
        call("COALESCE({}, {})", inner, inner),
        call("CAST({} AS CHAR)", st.sampled_from(["i", "d", "dt", "at"])),
    )


def _conditions(nested: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    call = lambda form, *args: st.tuples(*args).map(lambda values: form.format(*values))  # noqa: E731
    number = st.one_of(numbers, _numeric(numbers, nested), _numeric(_numeric(numbers, nested), nested))
    text = st.one_of(texts, _textual(texts, nested))
    equality = st.sampled_from(["=", "<>", "<=>"])
    comparison = st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "<=>"])
    return st.one_of(
        call("({} {} {})", number, comparison, number),
        call("({} {} {})", text, equality, text),
        call("({} {} {})", number, comparison, digits),
        call("({} {} {})", st.sampled_from(["dt", "at"]), comparison, st.sampled_from(DATES + MOMENTS).map(_quoted)),
        call("(y {} {})", comparison, st.sampled_from(["1999", "2020", "'2024'"])),
        call("(tm {} {})", comparison, st.sampled_from(TIMES).map(_quoted)),
        call("(v {} {})", comparison, st.sampled_from(["x'00'", "x'6162'", "'ab'"])),
        call("(dt {} at)", comparison),
        call("(DATE(at) {} dt)", comparison),
        call("(dt BETWEEN {} AND {})", st.sampled_from(DATES).map(_quoted), st.sampled_from(MOMENTS).map(_quoted)),
        call("({} BETWEEN {} AND {})", number, number, number),
        call("({} IN ({}, {}, {}))", number, number, number, number),
        call("({} NOT IN ({}, {}))", text, text, text),
        call("({} LIKE {})", text, st.sampled_from(["a%", "%B%", "_", "%", "A\\\\_%", "é%"]).map(lambda p: f"'{p}'")),
        call("({} NOT LIKE {} ESCAPE '!')", text, st.sampled_from(["'5!%'", "'%c_'", "''"])),
        call("({} IS NULL)", st.one_of(number, text, st.sampled_from(["dt", "v", "tm"]))),
        call("({} IS NOT {})", number, st.sampled_from(["NULL", "TRUE", "FALSE"])),
        st.sampled_from(["i", "s", "f", "TRUE", "NULL", "d"]).map(lambda c: f"({c})"),
        call("({} {} {})", nested, st.sampled_from(["AND", "OR", "XOR"]), nested),
        call("(NOT {})", nested),
    )


simple = st.sampled_from(["i = 5", "s = 'a'", "d > 1", "dt IS NULL", "NULL", "t <> 'A'"]).map(lambda c: f"({c})")
expressions = st.one_of(_conditions(simple), _conditions(_conditions(simple)))


def _random_rows(count: int) -> list[list[Any]]:
    chooser = random.Random(20)
    pools: list[list[Any]] = [
        NUMBERS, BIG, DECIMALS, DOUBLES, TEXTS, TEXTS, ["new", "paid", ""],
        DATES, MOMENTS, TIMES, [2020, 1999, 2024], [b"\0", b"ab", b"a\0b", b""],
    ]  # fmt: skip
    return [[None if chooser.random() < 0.12 else chooser.choice(pool) for pool in pools] for _ in range(count)]


def _prepare(source: SqlServer) -> tuple[Any, list[dict[str, Any]]]:
    definitions = ", ".join(f"{name} {definition}" for name, (definition, _) in COLUMNS.items())
    connection = source.connect(conv={})
    cursor = connection.cursor()
    cursor.execute(f"CREATE TABLE x (id INT PRIMARY KEY AUTO_INCREMENT, {definitions}) CHARSET utf8mb4")
    names = ", ".join(COLUMNS)
    marks = ", ".join(["%s"] * len(COLUMNS))
    with source.connect() as writer:
        writer.cursor().executemany(f"INSERT INTO x ({names}) VALUES ({marks})", _random_rows(24))
    cursor.execute(f"SELECT {names} FROM x ORDER BY id")
    return cursor, [_event_row(row) for row in cursor.fetchall()]


def _event_row(row: tuple[Any, ...]) -> dict[str, Any]:
    """The row as an event carries it."""
    out: dict[str, Any] = {}
    for value, name in zip(row, COLUMNS, strict=True):
        raw = value.encode() if isinstance(value, str) else value
        if raw is None:
            out[name] = None
        elif name in ("i", "b"):
            out[name] = int(raw)
        elif name == "v":
            out[name] = base64.b64encode(raw).decode()
        else:
            out[name] = raw.decode()
    return out


def test_an_expression_means_what_the_server_says(source: SqlServer) -> None:
    cursor, rows = _prepare(source)
    types = {name: kind for name, (_, kind) in COLUMNS.items() if kind}
    counts: Counter[str] = Counter()

    @settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(text=expressions)
    def agree(text: str) -> None:
        expression = compile_expression(text)
        try:
            cursor.execute(f"SELECT (({text})) IS TRUE, (({text})) IS NULL FROM x ORDER BY id")
        except pymysql.MySQLError as error:
            counts[f"server refuses {error.args[0]}"] += 1
            return
        answers = [None if unknown == "1" else true == "1" for true, unknown in cursor.fetchall()]
        for row, answer in zip(rows, answers, strict=True):
            try:
                ours = expression(row, types)
            except PermanentError:
                counts["we refuse"] += 1
                continue
            counts["compared"] += 1
            assert ours is answer, f"{source.name}: {text} is {answer} on the server, {ours} here, for {row}"

    try:
        agree()
    finally:
        cursor.connection.close()
        print(f"\n{source.name}: {dict(counts)}")
    assert counts["compared"] > 20_000
    assert counts["we refuse"] < counts["compared"] / 20
