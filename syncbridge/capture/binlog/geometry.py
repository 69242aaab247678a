"""Geometry: the server's internal form (SRID and WKB) -> WKT as ST_AsText prints it. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable

from syncbridge.capture.binlog.numbers import double_text

_NAMES = (
    "", "POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION",
)  # fmt: skip
#: Characters that ST_AsText gives a coordinate before it resorts to an exponent.
_MYSQL_WIDTH, _MARIADB_WIDTH = 25, 1000
_POINT, _LINESTRING, _POLYGON, _MULTIPOINT, _MULTILINESTRING, _MULTIPOLYGON, _COLLECTION = range(1, 8)


class _Reader:
    """Walks a WKB; x and y change places when `swap`."""

    def __init__(self, data: bytes, at: int, *, swap: bool, mariadb: bool) -> None:
        self.data = data
        self.at = at
        self.swap = swap
        self.mariadb = mariadb

    def header(self) -> int:
        order, type_ = struct.unpack_from("<BI", self.data, self.at)
        if order != 1:
            raise ValueError("geometry is not little-endian")
        self.at += 5
        return int(type_)

    def count(self) -> int:
        (count,) = struct.unpack_from("<I", self.data, self.at)
        self.at += 4
        return int(count)

    def point(self) -> str:
        x, y = struct.unpack_from("<dd", self.data, self.at)
        self.at += 16
        if self.swap:
            x, y = y, x
        width = _MARIADB_WIDTH if self.mariadb else _MYSQL_WIDTH
        return f"{double_text(x, width)} {double_text(y, width)}"

    def points(self) -> str:
        return ",".join([self.point() for _ in range(self.count())])

    def rings(self) -> str:
        return ",".join([f"({self.points()})" for _ in range(self.count())])

    def parts(self, read: Callable[[], str], form: str = "({})") -> str:
        """The members of a MULTI…, each with a header of its own."""
        members = []
        for _ in range(self.count()):
            self.header()
            members.append(form.format(read()))
        return ",".join(members)

    def geometry(self) -> str:
        type_ = self.header()
        if type_ == _COLLECTION:
            members = ",".join([self.geometry() for _ in range(self.count())])
            return f"GEOMETRYCOLLECTION({members})" if members else "GEOMETRYCOLLECTION EMPTY"
        if type_ == _MULTIPOINT:
            body = self.parts(self.point, "{}" if self.mariadb else "({})")
        else:
            readers: dict[int, Callable[[], str]] = {
                _POINT: self.point,
                _LINESTRING: self.points,
                _POLYGON: self.rings,
                _MULTILINESTRING: lambda: self.parts(self.points),
                _MULTIPOLYGON: lambda: self.parts(self.rings),
            }
            body = readers[type_]()
        return f"{_NAMES[type_]}({body})"


def wkt(data: bytes, *, swap: bool = False, mariadb: bool = False) -> str:
    """The WKT of a geometry column's value: 4 bytes SRID, then WKB."""
    return _Reader(data, 4, swap=swap, mariadb=mariadb).geometry()
