"""Which columns of a table matter to mappings. Pure."""

from __future__ import annotations

import pytest

from syncbridge.capture.schema import Column, TableSchema
from syncbridge.capture.tables import looked_at, told_by
from syncbridge.config import Config, parse_config

TABLE = TableSchema(
    "shop", "t", tuple(Column.parse(name, "int(11)") for name in ("id", "a", "b", "C", "ends")), ("id",)
)


@pytest.mark.parametrize(
    ("mappings", "names"),
    [
        (["key: 'k:{id}'"], "id a b C ends"),
        (["key: 'k:{a}', columns: {include: [b]}"], "id a b"),
        (["key: 'k:{_key}', columns: {include: [b]}"], "id b"),
        (["key: 'k:{id}', columns: {exclude: [b, ends]}"], "id a C"),
        (["key: 'k:{id}', columns: {include: [b], mask: [b]}, where: 'c > 1'"], "id b C"),
        (["key: 'k:{id}', columns: {include: [b]}, ttl: '{ends}'"], "id b ends"),
        (["key: 'k:{id}', columns: {include: [b]}, unique: [a]"], "id a b"),
        (["key: 'k:{id}', type: string, value: '{a}-{b}'"], "id a b"),
        (["key: 'k:{id}', columns: {include: [b]}", "key: 'j:{id}', type: json, columns: {include: [a]}"], "id a b"),
        (["key: 'k:{id}', columns: {include: [b]}", "key: 'j:{id}', columns: {exclude: [a]}"], "id b C ends"),
    ],
)
def test_columns_that_no_mapping_looks_at_are_left_out(mappings: list[str], names: str) -> None:
    assert looked_at(config_of(mappings), TABLE, ("id",)) == set(names.split())


@pytest.mark.parametrize(
    ("mappings", "names"),
    [
        (["key: 'k:{id}'"], "id"),
        (["key: '{_table}:{_key}:{a}'"], "id a"),
        (["key: 'k:{id}', where: 'c > 1'", "key: 'j:{b}'"], "id b C"),
        (["key: 'k:{id}', where: 'gone > 1'"], "id"),
    ],
)
def test_a_former_image_is_told_by_columns_as_the_table_spells_them(mappings: list[str], names: str) -> None:
    """Else two looks that differ in such a column would be taken for one, and a former key would stay in Redis."""
    columns = [column.name for column in TABLE.columns]
    assert told_by(config_of(mappings), ("shop", "t"), ("id",), columns) == set(names.split())


def config_of(mappings: list[str]) -> Config:
    texts = ", ".join(f"{{table: shop.t, {text}}}" for text in mappings)
    return parse_config(f'{{source: {{url: "mysql://u@h:1"}}, sink: {{url: "redis://h"}}, mappings: [{texts}]}}')
