"""Reading column types as the servers print them, and the stored form of a table."""

from __future__ import annotations

import pytest

from syncbridge.capture.schema import Column, TableSchema, latitude_first
from syncbridge.errors import PermanentError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int(10) unsigned zerofill", {"data_type": "int", "unsigned": True, "zerofill": True, "length": 10}),
        ("bigint unsigned", {"data_type": "bigint", "unsigned": True, "zerofill": False}),
        ("decimal(65,30)", {"data_type": "decimal", "precision": 65, "decimals": 30}),
        ("numeric", {"data_type": "decimal", "precision": 10, "decimals": 0}),
        ("float", {"data_type": "float", "decimals": None}),
        ("double(10,3) unsigned", {"data_type": "double", "precision": 10, "decimals": 3, "unsigned": True}),
        ("DOUBLE PRECISION", {"data_type": "double"}),
        ("datetime(6) /* mariadb-5.3 */", {"data_type": "datetime", "fsp": 6}),
        ("timestamp", {"data_type": "timestamp", "fsp": 0}),
        ("varchar(100) /*M!100301 COMPRESSED*/", {"data_type": "varchar", "length": 100}),
        ("binary", {"data_type": "binary", "length": 1}),
        ("bit(33)", {"data_type": "bit", "length": 33}),
        ("enum('a','it''s','c,d)','e\\\\f','\\'g','')", {"members": ("a", "it's", "c,d)", "e\\f", "'g", "")}),
        ("set('x')", {"data_type": "set", "members": ("x",)}),
        ("vector(3)", {"data_type": "vector", "length": 3}),
    ],
)
def test_a_column_type_is_read(text: str, expected: dict[str, object]) -> None:
    column = Column.parse("c", text)
    assert {name: getattr(column, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "options", "kind"),
    [
        ("int", {}, None),
        ("int(3) unsigned zerofill", {}, "zerofill"),
        ("varchar(10)", {"collation": "utf8mb4_0900_ai_ci"}, None),
        ("varchar(10)", {"collation": "utf8mb4_bin"}, "text_bin"),
        ("enum('a')", {"collation": "utf8mb4_0900_as_cs"}, "text_bin"),
        ("longtext", {"collation": "utf8mb4_bin", "json": True}, "json"),
        ("json", {}, "json"),
        ("uuid", {}, "text_bin"),
        ("timestamp(3)", {}, "datetime"),
        ("year(4)", {}, "year"),
        ("vector(2)", {}, "binary"),
        ("bit(8)", {}, None),
        ("point", {"axes_swapped": True}, "geometry_yx"),
        ("geomcollection", {}, "geometry"),
    ],
)
def test_the_kind_says_how_a_value_is_carried(text: str, options: dict[str, object], kind: str | None) -> None:
    assert Column.parse("c", text, **options).kind == kind  # type: ignore[arg-type]


def test_a_schema_survives_being_stored() -> None:
    schema = TableSchema("d", "t", (Column.parse("a", "enum('x','y')"), Column.parse("b", "time(3)")), ("a",))
    assert TableSchema.from_json(schema.to_json()) == schema
    with pytest.raises(PermanentError, match="format 2"):
        TableSchema.from_json(schema.to_json().replace(b'"format":1', b'"format":2'))


def test_axis_order_of_a_spatial_reference_system() -> None:
    wgs84 = 'GEOGCS["WGS 84",DATUM["x"],AXIS["Lat",NORTH],AXIS["Lon",EAST],AUTHORITY["EPSG","4326"]]'
    assert latitude_first(wgs84)
    assert not latitude_first(wgs84.replace('AXIS["Lat",NORTH],AXIS["Lon",EAST]', 'AXIS["Lon",EAST],AXIS["Lat",NORTH]'))
    assert not latitude_first('PROJCS["x",AXIS["N",NORTH]]')
    assert not latitude_first("")
