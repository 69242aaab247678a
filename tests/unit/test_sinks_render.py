"""Values as Redis shows them, and the decisions about failures."""

from __future__ import annotations

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from syncbridge.config import RetryConfig, Url
from syncbridge.errors import ConfigError, PermanentError, SyncbridgeError, TransientError
from syncbridge.sinks.connection import translate
from syncbridge.sinks.failures import LONGEST_PAUSE, error_class, is_lost, is_sick, next_attempt, next_pause
from syncbridge.sinks.render import geojson_of_wkt, json_converter, text_converter


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (None, 2**64 - 1, b"18446744073709551615"),
        (None, "é", '"é"'.encode()),
        ("decimal", "1.50", b'"1.50"'),
        ("datetime", "2024-01-01 00:00:00", b'"2024-01-01 00:00:00"'),
        ("year", "0000", b'"0000"'),
        ("zerofill", "007", b"7"),
        ("float", "1e20", b"1e20"),
        ("float", "-0", b"-0"),
        ("float", "inf", b'"inf"'),
        ("binary", "AAE=", b'"AAE="'),
        ("json", '{"b": 1, "a": [1e400, null]}', b'{"b": 1, "a": [1e400, null]}'),
        ("json", "null", b"null"),
        ("json", "NaN", b'"NaN"'),
        ("json", "{broken", b'"{broken"'),
        ("geometry", "POINT(1.50 -2)", b'{"type":"Point","coordinates":[1.50,-2]}'),
        ("geometry_yx", "POINT(1 2)", b'{"type":"Point","coordinates":[2,1]}'),
    ],
)
def test_json_of_each_kind(kind: str | None, value: object, shown: bytes) -> None:
    convert = json_converter(kind)
    assert orjson.dumps(value if convert is None else convert(value)) == shown


def test_text_is_what_the_event_carries_and_binary_its_bytes() -> None:
    for kind in (None, "decimal", "float", "json", "geometry", "zerofill"):
        assert text_converter(kind) is None
    convert = text_converter("binary")
    assert convert is not None
    assert convert("AP8=") == b"\0\xff"


@pytest.mark.parametrize(
    ("wkt", "coordinates"),
    [
        ("LINESTRING(0 0,1 1)", [[0, 0], [1, 1]]),
        ("POLYGON((0 0,1 0,1 1),(1 1,2 2,1 1))", [[[0, 0], [1, 0], [1, 1]], [[1, 1], [2, 2], [1, 1]]]),
        ("MULTIPOINT((1 1),(2 2))", [[1, 1], [2, 2]]),
        ("MULTIPOINT(1 1,2 2)", [[1, 1], [2, 2]]),
        ("MULTIPOLYGON(((0 0,1 0,1 1,0 0)))", [[[[0, 0], [1, 0], [1, 1], [0, 0]]]]),
        ("POINT EMPTY", []),
    ],
)  # fmt: skip
def test_geojson(wkt: str, coordinates: object) -> None:
    assert orjson.loads(geojson_of_wkt(wkt))["coordinates"] == coordinates


def test_geojson_of_collections_and_of_nonsense() -> None:
    nested = orjson.loads(geojson_of_wkt("GEOMETRYCOLLECTION(POINT(1 2),GEOMETRYCOLLECTION(LINESTRING(1 2,3 4)))"))
    assert [member["type"] for member in nested["geometries"]] == ["Point", "GeometryCollection"]
    assert orjson.loads(geojson_of_wkt("GEOMETRYCOLLECTION EMPTY"))["geometries"] == []
    for nonsense in ("", "CIRCLE(1 2)", "POINT(1 2", "POINT(1 2))"):
        with pytest.raises(ValueError):
            geojson_of_wkt(nonsense)


@pytest.mark.parametrize(
    ("error", "sick"),
    [
        (RedisConnectionError("closed"), True),
        (ReadOnlyError("READONLY You can't write"), True),
        (ResponseError("OOM command not allowed"), True),
        (ResponseError("-MISCONF errors writing to the AOF"), True),
        (ResponseError("WRONGTYPE Operation against a key"), False),
        (ResponseError("ERR value is not an integer"), False),
    ],
)
def test_a_sick_sink_is_told_from_a_poisoned_row(error: Exception, sick: bool) -> None:
    assert is_sick(error) is sick


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (RedisConnectionError("closed"), TransientError),
        (ResponseError("WRONGPASS invalid username-password pair"), ConfigError),
        (ResponseError("WRONGTYPE Operation"), PermanentError),
    ],
)
def test_errors_become_ours_and_name_no_password(error: Exception, ours: type[SyncbridgeError]) -> None:
    translated = translate(error, Url.parse("redis://me:s3cret@h:1/0"))
    assert type(translated) is ours
    assert "s3cret" not in f"{translated} {translated.hint}"


def test_classes_and_times_of_failures() -> None:
    assert is_lost("SINKLOST this Redis is not the one")
    assert error_class("WRONGTYPE Operation") == "WRONGTYPE"
    assert error_class("something else") == "ERR"
    assert error_class(PermanentError("x")) == "PermanentError"
    retry = RetryConfig(backoff="1s", max_backoff="10s")
    assert [next_attempt(100.0, attempts, retry) - 100 for attempts in (1, 2, 3, 4, 5, 900)] == [1, 2, 4, 8, 10, 10]
    assert next_pause(LONGEST_PAUSE)[1] == LONGEST_PAUSE
