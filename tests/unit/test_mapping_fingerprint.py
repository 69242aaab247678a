"""A mapping's fingerprint is the mapping: what is stored can be read again, and swept by."""

from __future__ import annotations

import pytest

from syncbridge.config import Mapping


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ttl": "7d", "on_delete": "expire:90m"},
        {"ttl": "{expires_at}", "on_delete": "keep", "where": "a > 1"},
        {"type": "string", "value": "{v}", "unique": ["id"]},
        {"type": "json", "columns": {"exclude": ["a"], "rename": {"b": "c"}, "mask": ["d"]}},
    ],
)
def test_a_stored_mapping_is_read_again_as_it_was(options: dict[str, object]) -> None:
    mapping = Mapping.model_validate({"table": "shop.orders", "key": "order:{id}", **options})
    again = Mapping.model_validate_json(mapping.fingerprint)
    assert again == mapping
    assert (again.id, again.fingerprint) == (mapping.id, mapping.fingerprint)


def test_what_belongs_to_functions_does_not_make_tables_be_read_again() -> None:
    assert Mapping.model_validate({"table": "shop.orders"}).fingerprint == (
        '{"table":"shop.orders","key":"{_table}:{_key}","type":"hash","value":"","unique":[],"columns":{"include":[],'
        '"exclude":[],"rename":{},"mask":[]},"where":"","ttl":null,"on_delete":"delete"}'
    )
