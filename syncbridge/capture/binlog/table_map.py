"""TABLE_MAP: the binlog's own description of a table, read and held against the TableSchema we know.

Column types, metadata and nullability are always there; names, signedness and character sets only as far as
binlog_row_metadata says. Pure: bytes in, values out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pymysql.charset import charset_by_id

from syncbridge.capture.schema import Column, SchemaMismatch, TableSchema
from syncbridge.errors import PermanentError

# Column types, by the server's own names (enum_field_types, and MariaDB's additions).
DECIMAL, TINY, SHORT, LONG, FLOAT, DOUBLE, NULL, TIMESTAMP, LONGLONG, INT24 = range(10)
DATE, TIME, DATETIME, YEAR, NEWDATE, VARCHAR, BIT, TIMESTAMP2, DATETIME2, TIME2 = range(10, 20)
BLOB_COMPRESSED, VARCHAR_COMPRESSED = 140, 141
VECTOR, JSON, NEWDECIMAL, ENUM, SET = 242, 245, 246, 247, 248
TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VAR_STRING, STRING, GEOMETRY = range(249, 256)

_METADATA_SIZE = {
    FLOAT: 1, DOUBLE: 1, BLOB: 1, TINY_BLOB: 1, MEDIUM_BLOB: 1, LONG_BLOB: 1, GEOMETRY: 1, JSON: 1, VECTOR: 1,
    BLOB_COMPRESSED: 1, TIMESTAMP2: 1, DATETIME2: 1, TIME2: 1, VARCHAR: 2, VAR_STRING: 2, STRING: 2, ENUM: 2, SET: 2,
    BIT: 2, NEWDECIMAL: 2, VARCHAR_COMPRESSED: 2,
}  # fmt: skip
_NUMERIC = frozenset((TINY, SHORT, INT24, LONG, LONGLONG, NEWDECIMAL, FLOAT, DOUBLE))
_BLOBS = frozenset((BLOB, BLOB_COMPRESSED))

#: The binlog types in which each data type may come.
_EXPECTED: dict[str, frozenset[int]] = {
    "tinyint": frozenset((TINY,)), "smallint": frozenset((SHORT,)), "mediumint": frozenset((INT24,)),
    "int": frozenset((LONG,)), "bigint": frozenset((LONGLONG,)), "float": frozenset((FLOAT,)),
    "double": frozenset((DOUBLE,)), "decimal": frozenset((NEWDECIMAL,)), "bit": frozenset((BIT,)),
    "year": frozenset((YEAR,)), "date": frozenset((DATE, NEWDATE)), "time": frozenset((TIME, TIME2)),
    "datetime": frozenset((DATETIME, DATETIME2)), "timestamp": frozenset((TIMESTAMP, TIMESTAMP2)),
    "char": frozenset((STRING,)), "binary": frozenset((STRING,)), "uuid": frozenset((STRING,)),
    "inet4": frozenset((STRING,)), "inet6": frozenset((STRING,)), "enum": frozenset((ENUM,)), "set": frozenset((SET,)),
    "varchar": frozenset((VARCHAR, VAR_STRING, VARCHAR_COMPRESSED)), "json": frozenset((JSON,)),
    "varbinary": frozenset((VARCHAR, VAR_STRING, VARCHAR_COMPRESSED)), "vector": frozenset((VECTOR, VARCHAR)),
    **dict.fromkeys(("tinytext", "text", "mediumtext", "longtext"), _BLOBS),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), _BLOBS),
}  # fmt: skip
_EXPECTED_GEOMETRY = frozenset((GEOMETRY,))


@dataclass(slots=True)
class MappedColumn:
    """One column as TABLE_MAP describes it. Unknown facts are None."""

    type: int  # the real type: STRING is resolved to ENUM or SET
    meta: int  # length, scale, prefix size… by type; see the decoder
    meta2: int  # the second byte of two-part metadata (BIT, NEWDECIMAL)
    nullable: bool
    unsigned: bool | None = None
    name: str | None = None
    collation_id: int | None = None


@dataclass(slots=True)
class TableMap:
    """A TABLE_MAP event's body."""

    db: str
    table: str
    columns: list[MappedColumn] = field(default_factory=list)


class _Cursor:
    """Reads the length-encoded pieces of a body."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self) -> int:
        first = self.data[self.at]
        self.at += 1
        if first < 0xFB:
            return first
        width = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
        return int.from_bytes(self.take(width), "little")

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if len(piece) != size:
            raise PermanentError("TABLE_MAP event is cut short")
        self.at += size
        return piece

    def left(self) -> bool:
        return self.at < len(self.data)


def table_name(body: bytes) -> tuple[str, str]:
    """(db, table) of a TABLE_MAP body (what follows table id and flags), without parsing the rest."""
    size = body[0]
    at = size + 2
    return body[1 : 1 + size].decode(), body[at + 1 : at + 1 + body[at]].decode()


def parse_table_map(body: bytes) -> TableMap:
    """Read a TABLE_MAP body: everything after table id and flags, without checksum."""
    table_map = TableMap(*table_name(body))
    cursor = _Cursor(body)
    for _ in range(2):
        cursor.take(cursor.take(1)[0] + 1)
    types = cursor.take(cursor.number())
    metadata = cursor.take(cursor.number())
    nullable = cursor.take((len(types) + 7) // 8)
    at = 0
    for index, type_ in enumerate(types):
        size = _METADATA_SIZE.get(type_, 0)
        column = _column(type_, metadata[at : at + size], bool(nullable[index >> 3] & 1 << (index & 7)))
        at += size
        table_map.columns.append(column)
    while cursor.left():
        kind = cursor.take(1)[0]
        _optional(table_map.columns, kind, _Cursor(cursor.take(cursor.number())))
    return table_map


def _column(type_: int, meta: bytes, nullable: bool) -> MappedColumn:
    if type_ == STRING:
        # The upper two bits of a CHAR's length hide, inverted, in the byte that names the real type.
        if meta[0] & 0x30 != 0x30:
            return MappedColumn(meta[0] | 0x30, meta[1] | ((meta[0] & 0x30) ^ 0x30) << 4, 0, nullable)
        return MappedColumn(meta[0], meta[1], 0, nullable)
    if type_ in (BIT, NEWDECIMAL):
        return MappedColumn(type_, meta[0], meta[1], nullable)
    return MappedColumn(type_, int.from_bytes(meta, "little"), 0, nullable)


_SIGNEDNESS, _DEFAULT_CHARSET, _COLUMN_CHARSET, _COLUMN_NAME = 1, 2, 3, 4


def _optional(columns: list[MappedColumn], kind: int, value: _Cursor) -> None:
    """One optional metadata field. Fields we have no use for (enum members, keys, visibility…) are passed over."""
    if kind == _SIGNEDNESS:
        numeric = [column for column in columns if column.type in _NUMERIC]
        bits = value.data
        for index, column in enumerate(numeric):
            column.unsigned = bool(bits[index >> 3] & 0x80 >> (index & 7))
    elif kind == _DEFAULT_CHARSET:
        default = value.number()
        texts = [column for column in columns if column.type in _CHARACTER]
        for column in texts:
            column.collation_id = default
        while value.left():
            index = value.number()
            texts[index].collation_id = value.number()
    elif kind == _COLUMN_CHARSET:
        for column in columns:
            if column.type in _CHARACTER:
                column.collation_id = value.number()
    elif kind == _COLUMN_NAME:
        for column in columns:
            column.name = value.take(value.number()).decode()


_CHARACTER = frozenset(
    (STRING, VAR_STRING, VARCHAR, BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB_COMPRESSED, VARCHAR_COMPRESSED)
)


def check_schema(table_map: TableMap, schema: TableSchema) -> None:
    """Raise SchemaMismatch where the table in the binlog is not the table we know."""

    def refuse(reason: str) -> SchemaMismatch:
        return SchemaMismatch(schema.db, schema.table, reason)

    known = len(schema.columns) + schema.hash_columns
    if len(table_map.columns) != known:
        raise refuse(f"it has {len(table_map.columns)} columns, we know {known}")
    for number, (mapped, column) in enumerate(zip(table_map.columns, schema.columns, strict=False), 1):
        reason = _difference(mapped, column)
        if reason:
            raise refuse(f"column {number} ({column.name} {column.column_type}) {reason}")


def _difference(mapped: MappedColumn, column: Column) -> str:
    if mapped.name is not None and mapped.name.lower() != column.name.lower():
        return f"is named {mapped.name}"
    if mapped.type not in _EXPECTED.get(column.data_type, _EXPECTED_GEOMETRY):
        return f"has binlog type {mapped.type}"
    if mapped.unsigned is not None and mapped.unsigned != column.unsigned:
        return "is unsigned" if mapped.unsigned else "is signed"
    if mapped.nullable and not column.nullable:
        return "is nullable"
    if mapped.type == NEWDECIMAL and (mapped.meta, mapped.meta2) != (column.precision, column.decimals):
        return f"is decimal({mapped.meta},{mapped.meta2})"
    if mapped.type in (DATETIME2, TIMESTAMP2, TIME2) and mapped.meta != column.fsp:
        return f"has {mapped.meta} fractional digits"
    if mapped.type == BIT and mapped.meta2 * 8 + mapped.meta != column.length:
        return f"is bit({mapped.meta2 * 8 + mapped.meta})"
    if mapped.collation_id is not None and column.charset:
        charset = _charset(mapped.collation_id)
        if charset is not None and charset != _ALIASES.get(column.charset, column.charset):
            return f"has character set {charset}"
    return ""


_ALIASES = {"utf8mb3": "utf8"}


def _charset(collation_id: int) -> str | None:
    """The character set of a collation id, where PyMySQL knows the id."""
    try:
        name: str = vars(charset_by_id(collation_id))["name"]
    except KeyError:
        return None
    return _ALIASES.get(name, name)
