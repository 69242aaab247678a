"""Row values as Redis shows them: the text that SELECT prints, or JSON (DESIGN section 3, fidelity rule). Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

#: What Redis shows of a masked value; NULL stays NULL.
MASK = "***"

_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def text_converter(kind: str | None) -> Callable[[Any], str | bytes | int] | None:
    """What turns a value of this kind into hash or string content; None when it is that content already."""
    return base64.b64decode if kind == "binary" else None


def json_converter(kind: str | None) -> Callable[[Any], Any] | None:
    """What turns a value of this kind into what orjson dumps; None when the value is that already."""
    return _JSON.get(kind or "")


def key_text(value: Any, kind: str | None) -> str:
    """A value inside a key or a string template; raw bytes travel as surrogate escapes, see `encode_key`."""
    if kind == "binary":
        return base64.b64decode(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else str(value)


def encode_key(text: str) -> bytes:
    """The bytes of a text made of `key_text` parts."""
    return text.encode("utf-8", "surrogateescape")


def _json_document(text: str) -> Any:
    """A JSON column, nested as it is; only what is no JSON after all becomes a string."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        # orjson refuses some numbers that are valid JSON, such as 1e400.
        try:
            json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return text
    return orjson.Fragment(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _json_float(text: str) -> Any:
    return orjson.Fragment(text) if _JSON_NUMBER.fullmatch(text) else text


def _geojson(text: str, *, swap: bool = False) -> Any:
    return orjson.Fragment(geojson_of_wkt(text, swap=swap))


_JSON: dict[str, Callable[[Any], Any]] = {
    "float": _json_float,
    "zerofill": int,
    "bool": bool,
    "json": _json_document,
    "geometry": _geojson,
    "geometry_yx": lambda text: _geojson(text, swap=True),
}

_WKT_TOKEN = re.compile(r"\s*([A-Za-z]+|[(),]|[-+0-9.eE]+)")
_GEOJSON_TYPES = {
    "POINT": "Point",
    "LINESTRING": "LineString",
    "POLYGON": "Polygon",
    "MULTIPOINT": "MultiPoint",
    "MULTILINESTRING": "MultiLineString",
    "MULTIPOLYGON": "MultiPolygon",
}


def geojson_of_wkt(text: str, *, swap: bool = False) -> str:
    """GeoJSON of a WKT geometry, its numbers as written; `swap` exchanges the axes. ValueError on other text."""
    tokens = iter([*_WKT_TOKEN.findall(text), ""])
    try:
        result = _geometry(next(tokens), tokens, swap)
    except (StopIteration, KeyError) as error:
        raise ValueError("not a WKT geometry") from error
    if next(tokens) != "":
        raise ValueError("text after a WKT geometry")
    return result


def _geometry(name: str, tokens: Iterator[str], swap: bool) -> str:
    name = name.upper()
    if name in ("GEOMETRYCOLLECTION", "GEOMCOLLECTION"):
        members = []
        separator = next(tokens)
        while separator in ("(", ","):
            member = next(tokens)
            if member == ")":
                break
            members.append(_geometry(member, tokens, swap))
            separator = next(tokens)
        return f'{{"type":"GeometryCollection","geometries":[{",".join(members)}]}}'
    kind = _GEOJSON_TYPES[name]
    opening = next(tokens)
    if opening.upper() == "EMPTY":
        return f'{{"type":"{kind}","coordinates":[]}}'
    coordinates = _list(tokens, swap)
    if name == "POINT":
        coordinates = coordinates[1:-1]
    elif name == "MULTIPOINT":  # MULTIPOINT((1 1),(2 2)) and MULTIPOINT(1 1,2 2) are the same
        coordinates = coordinates.replace("[[[", "[[").replace("]]]", "]]").replace("]],[[", "],[")
    return f'{{"type":"{kind}","coordinates":{coordinates}}}'


def _list(tokens: Iterator[str], swap: bool) -> str:
    """After an opening parenthesis: positions or nested lists, up to the closing one."""
    items: list[str] = []
    numbers: list[str] = []
    for token in tokens:
        if token == "(":  # noqa: S105
            items.append(_list(tokens, swap))
        elif token in (",", ")"):
            if numbers:
                items.append(f"[{','.join(reversed(numbers) if swap else numbers)}]")
                numbers = []
            if token == ")":  # noqa: S105
                return f"[{','.join(items)}]"
        else:
            numbers.append(token)
    raise ValueError("a WKT list without its end")
