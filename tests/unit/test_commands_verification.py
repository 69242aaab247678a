"""Verify's pure parts: from a key back to its row, what counts as different, what mends it."""

from __future__ import annotations

from typing import Any

import pytest

from syncbridge.capture.schema import Column, TableSchema
from syncbridge.commands.verification.compare import Stored, differences, may_have_expired
from syncbridge.commands.verification.keys import event_value, owner_values, readings
from syncbridge.commands.verification.repair import reread_payload
from syncbridge.commands.verification.verifier import EXTRA, MISSING, Difference
from syncbridge.config import Mapping
from syncbridge.sinks.keys import guard
from syncbridge.sinks.mapping import CompiledMapping, Expected
from syncbridge.template import Template

VERSION = "0" * 39 + "7"


def read(template: str, key: str, primary: tuple[str, ...] = ("id",)) -> list[dict[str, str]]:
    return readings(Template(template), "orders", primary, key.encode())


def compiled(**options: Any) -> CompiledMapping:
    return CompiledMapping(Mapping(**{"table": "shop.orders", "key": "o:{id}", **options}), "shop", "orders")


def stored(mapping: CompiledMapping, content: Any, **options: Any) -> Stored:
    return Stored(content, **{"guard": guard(VERSION, mapping.id).encode(), **options})


# keys.py


@pytest.mark.parametrize(
    ("template", "key", "primary", "expected"),
    [
        ("order:{id}", "order:42", ("id",), [{"id": "42"}]),
        ("order:{id}", "orders:42", ("id",), []),
        ("order:{id}:x", "order:42:x", ("id",), [{"id": "42"}]),
        ("{_table}:{_key}", "orders:42", ("id",), [{"id": "42"}]),
        ("{_table}:{_key}", "items:42", ("id",), []),
        ("{_key}", "a%3Ab:c%25", ("x", "y"), [{"x": "a:b", "y": "c%"}]),
        ("{_key}", "a:b:c", ("x", "y"), []),
        ("{{{t}}}:{id}", "{7}:42", ("id",), [{"t": "7", "id": "42"}]),
        ("{a}:{b}", "1:2:3", ("a", "b"), [{"a": "1", "b": "2:3"}, {"a": "1:2", "b": "3"}]),
        ("{a}:{a}", "1:1", ("a",), [{"a": "1"}]),
        ("{a}:{a}", "1:2", ("a",), []),
        ("o:{id}", "o:", ("id",), [{"id": ""}]),
    ],
)
def test_a_key_is_read_back_in_every_way_it_can_be(
    template: str, key: str, primary: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    assert read(template, key, primary) == expected


def test_what_a_template_renders_is_among_its_readings() -> None:
    row = {"a": "x:y", "b": ":", "c": "z%3A"}
    template = Template("p:{a}:{b}-{c}")
    key = template.render(row.__getitem__)
    assert key is not None
    assert row in readings(template, "t", ("a",), key.encode())


def test_an_owner_is_its_primary_key() -> None:
    assert owner_values(b"42", ("id",)) == {"id": "42"}
    assert owner_values(b"a%3Ab:2", ("x", "y")) == {"x": "a:b", "y": "2"}
    assert owner_values(b"1:2:3", ("x", "y")) is None


def test_texts_become_event_values() -> None:
    assert event_value("42", "int") == 42
    assert event_value("0042", "zerofill") == "0042"
    assert event_value("\udcff", "binary") == "/w=="
    with pytest.raises(ValueError):
        event_value("x", "int")


# compare.py


def test_a_hash_differs_only_in_fields_that_are_ours() -> None:
    mapping = compiled(columns={"exclude": ["secret"], "rename": {"a": "alpha"}})
    columns = ["id", "a", "b", "secret"]
    expected = Expected(b"o:1", "hash", {b"id": b"1", b"alpha": b"x"})

    def what(content: dict[bytes, bytes]) -> list[str]:
        return differences(mapping, columns, expected, stored(mapping, content), expires=False)

    assert what({b"id": b"1", b"alpha": b"x", b"theirs": b"y"}) == []
    assert what({b"id": b"1", b"alpha": b"y"}) == ["field alpha differs"]
    assert what({b"id": b"1"}) == ["field alpha is missing"]
    assert what({b"id": b"1", b"alpha": b"x", b"b": b"old"}) == ["field b should be gone"]
    assert what({b"id": b"1", b"alpha": b"x", b"secret": b"s"}) == ["field secret should be gone"]


def test_json_is_compared_as_readers_see_it_and_a_string_byte_by_byte() -> None:
    as_json, as_string = compiled(type="json"), compiled(type="string", value="{a}")

    def same(mapping: CompiledMapping, one: bytes, other: bytes) -> bool:
        return not differences(mapping, [], Expected(b"k", "string", one), stored(mapping, other), expires=False)

    assert same(as_json, b'{"a":1,"b":2}', b'{"b":2,"a":1}')
    assert not same(as_json, b'{"a":1}', b'{"a":true}')
    assert not same(as_json, b'{"a":1}', b"no json")
    assert not same(as_string, b'{"a":1,"b":2}', b'{"b":2,"a":1}')


def test_type_guard_and_time_to_live_count() -> None:
    mapping = compiled()
    expected = Expected(b"o:1", "hash", {})

    def what(held: Stored, *, expires: bool = False) -> str:
        return "; ".join(differences(mapping, [], expected, held, expires=expires))

    assert "missing" in what(Stored(None))
    assert "is a list, not a hash" in what(Stored(None, wrong_type="list"))
    assert "guard" in what(Stored({}))
    assert "guard" in what(Stored({}, guard(VERSION, "deadbeef").encode()))
    assert "never expires" in what(stored(mapping, {}), expires=True)
    assert "would expire" in what(stored(mapping, {}, ttl_ms=5))
    assert what(stored(mapping, {}, ttl_ms=5), expires=True) == ""


def test_a_missing_key_may_be_over_only_where_the_row_cannot_tell() -> None:
    fixed, column = compiled(ttl="1h").config, compiled(ttl="{until}").config
    assert may_have_expired(fixed, {}, {})
    assert not may_have_expired(compiled().config, {}, {})
    assert may_have_expired(column, {"until": 60}, {})
    assert not may_have_expired(column, {"until": None}, {})
    assert not may_have_expired(column, {"until": "2099-01-01 00:00:00"}, {"until": "datetime"})


# repair.py

SCHEMA = TableSchema("shop", "orders", (Column.parse("id", "int(11)"), Column.parse("mail", "varchar(9)")), ("id",))


def extra(image: dict[str, Any] | None, *, row_exists: bool = False) -> Difference:
    row_key = None if image is None else {"id": image["id"]}
    return Difference("mappings[0]", "shop.orders", EXTRA, "k", row_key, (), image, row_exists)


def payload(difference: Difference, **options: Any) -> dict[str, Any] | None:
    return reread_payload(difference, compiled(**options).config, SCHEMA)


def test_a_missing_row_is_read_again() -> None:
    missing = Difference("mappings[0]", "shop.orders", MISSING, "k", {"id": 1}, ())
    assert payload(missing, where="id > 0") == {"key": {"id": 1}}


def test_an_extra_key_takes_its_image_along() -> None:
    mail = extra({"id": 1, "mail": "a"})
    assert payload(mail, key="m:{mail}") == {
        "key": {"id": 1},
        "rows": [{"id": 1, "mail": "a"}],
        "types": SCHEMA.types(),
    }
    assert payload(extra({"id": 1})) == {"key": {"id": 1}}
    assert payload(extra({"id": 1}), where="id > 0") == {"key": {"id": 1}}


def test_what_no_single_row_can_mend_needs_a_snapshot() -> None:
    assert payload(extra(None)) is None
    assert payload(extra({"id": 1, "mail": "a"}), key="m:{mail}", where="id > 0") is None
    assert payload(extra({"id": 1}, row_exists=True), where="id > 0") is None
