"""Expressions, row by row: three-valued logic, types, and refusals that name the mend."""

from __future__ import annotations

import pytest

from syncbridge.errors import PermanentError
from syncbridge.expression import check_expression, columns, compile_expression

ROW = {
    "id": 7, "qty": -3, "nothing": None, "name": "Éclair ", "code": "aB", "price": "12.50", "ratio": "0.25",
    "born": "2020-02-29", "at": "2020-02-29 10:00:00.500", "run": "-26:00:00", "photo": "AAE=", "doc": "{}",
    "padded": "00042",
}  # fmt: skip
TYPES = {
    "code": "text_bin", "price": "decimal", "ratio": "float", "born": "date", "at": "datetime", "run": "time",
    "photo": "binary", "doc": "json", "padded": "zerofill",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id = 7", True),
        ("ID = '7'", True),
        ("id <> 7", False),
        ("nothing = 1", None),
        ("nothing <=> NULL", True),
        ("nothing IS NULL AND doc IS NOT NULL", True),
        ("nothing = 1 OR id = 7", True),
        ("nothing = 1 AND id = 8", False),
        ("NOT nothing", None),
        ("id IN (1, NULL)", None),
        ("id IN (7, NULL)", True),
        ("id NOT IN (1, 2)", True),
        ("name = 'eclair'", True),
        ("name LIKE 'e%R'", False),
        ("name LIKE 'e%R '", True),
        ("name LIKE '_cl%'", True),
        ("code = 'ab'", False),
        ("code LIKE 'aB'", True),
        ("price = 12.5", True),
        ("price * 3 = 37.5", True),
        ("price > '12.49999'", True),
        ("ratio * 4 = 1", True),
        ("born = '2020-02-29 00:00:00'", True),
        ("at > born", True),
        ("DATE(at) = born", True),
        ("YEAR(at) = 2020 AND MONTH(at) = 2 AND DAY(at) = 29", True),
        ("run < '-25:00:00'", True),
        ("photo = x'0001'", True),
        ("padded = 42", True),
        ("CONCAT(padded, '!') = '00042!'", True),
        ("qty DIV 2 = -1", True),
        ("qty % 2 = -1", True),
        ("id / 0 IS NULL", True),
        ("CASE code WHEN 'ab' THEN 1 WHEN 'aB' THEN 2 END = 2", True),
        ("IF(id > 5, 'big', 'small') = 'BIG'", True),
        ("COALESCE(nothing, qty) = -3", True),
        ("NULLIF(id, 7) IS NULL", True),
        ("SUBSTRING(code, -1) = 'B' AND LEFT(code, 1) = 'a' AND RIGHT(code, 9) = 'aB'", True),
        ("CHAR_LENGTH(name) = 7 AND LENGTH(name) = 8", True),
        ("CAST(price AS SIGNED) = 13", True),
        ("id XOR qty", False),
        ("id BETWEEN 7 AND 9", True),
    ],
)
def test_a_row_is_judged_as_the_server_judges_it(text: str, expected: bool | None) -> None:
    assert compile_expression(text)(ROW, TYPES) is expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("NOW() > at", "NOW()"),
        ("RAND() < 0.5", "RAND()"),
        ("id IN (SELECT 1)", "query"),
        ("@x = 1", "variable"),
        ("t.id = 1", "id, not t.id"),
        ("id REGEXP '1'", "REGEXP"),
        ("id = 1 -- note", "comments"),
        ("id = 1; DROP TABLE x", "BLOCK"),
        ("id = qty < 3", "parentheses"),
        ("id = 1 XOR id = 2 OR id = 3", "parentheses"),
        ("CAST(id AS JSON) = 1", "CAST to JSON"),
        ("name LIKE code", "literal pattern"),
        ("name COLLATE utf8mb4_bin = 'x'", "COLLATE"),
        ("id = = 2", "not a MySQL expression"),
        ("", "not a MySQL expression"),
        ("SELECT 1", "subquery"),
        ("born = CURRENT_DATE", "CURRENT_DATE"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(ValueError, match="(?i)" + named.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")):
        check_expression(text)


def test_columns_are_listed_in_order_of_first_use() -> None:
    assert columns("b = 1 AND `a b` = b AND c IS NULL") == ("b", "a b", "c")


def test_a_json_column_can_only_be_tested_for_null() -> None:
    with pytest.raises(PermanentError, match="json column"):
        compile_expression("doc = '{}'")(ROW, TYPES)
    with pytest.raises(ValueError, match="json column"):
        compile_expression("doc = '{}'").check_kinds({"doc": "json"})


def test_a_column_that_the_row_lacks_is_named() -> None:
    with pytest.raises(PermanentError, match="column missing"):
        compile_expression("missing = 1")(ROW, TYPES)
    with pytest.raises(ValueError, match="no column missing"):
        compile_expression("missing = 1").check_kinds({"id": "int"})


def test_an_integer_beyond_bigint_is_an_error_as_on_the_server() -> None:
    with pytest.raises(PermanentError, match="out of range"):
        compile_expression("id * 9223372036854775807 > 0")(ROW, TYPES)
