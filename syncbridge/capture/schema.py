"""What a table looks like: columns in binlog order with everything that decides how SELECT prints a value.

Loaded from information_schema at start, kept in step by ddl.py, stored as schema history (`to_json`), read by
the decoder and by the SELECT renderer. This module never looks at the binlog.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from syncbridge.errors import PermanentError

#: Format number inside `TableSchema.to_json`.
FORMAT = 1

TEXT_TYPES = frozenset(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"))
BINARY_TYPES = frozenset(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"))
INTEGER_TYPES = frozenset(("tinyint", "smallint", "mediumint", "int", "bigint"))
GEOMETRY_TYPES = frozenset(
    (
        "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
        "geometrycollection", "geomcollection",
    )
)  # fmt: skip
#: MariaDB types that are text to SELECT and fixed binary strings in the binlog.
PLUGIN_TYPES = frozenset(("uuid", "inet4", "inet6"))

_TYPE = re.compile(
    r"\s*(?P<name>[a-z0-9]+(?: precision)?)\s*(?:\((?P<arguments>(?:'(?:[^'\\]|''|\\.)*'|[^')])*)\))?", re.S | re.I
)
_MEMBER = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.S)
_ESCAPED = re.compile(r"''|\\(.)", re.S)
_ESCAPES = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "Z": "\x1a"}
_SYNONYMS = {"integer": "int", "numeric": "decimal", "dec": "decimal", "real": "double", "double precision": "double"}


class SchemaMismatch(PermanentError):
    """The binlog's TABLE_MAP does not fit the TableSchema we hold: the table changed in a way we did not follow."""

    def __init__(self, db: str, table: str, reason: str) -> None:
        super().__init__(
            f"table {db}.{table} in the binlog does not match the known schema: {reason}",
            hint=f"re-read the table: syncbridge snapshot --table {db}.{table}",
        )
        self.db = db
        self.table = table


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Build it with `Column.parse`, which takes the facts out of the column type's text."""

    name: str
    data_type: str  # lower case, e.g. "int"
    column_type: str  # the full text, e.g. "int(10) unsigned zerofill"
    charset: str | None = None
    collation: str | None = None
    unsigned: bool = False
    zerofill: bool = False
    nullable: bool = True
    json: bool = False  # MySQL's JSON, or MariaDB's LONGTEXT with a json_valid check
    generated: str = ""  # "", "virtual" or "stored"
    invisible: bool = False
    members: tuple[str, ...] = ()  # of ENUM and SET
    length: int | None = None  # characters (CHAR…), bytes (BINARY…), bits (BIT), display width (integers)
    precision: int | None = None  # of DECIMAL, FLOAT(M,D), DOUBLE(M,D)
    decimals: int | None = None  # digits after the point; None where the type has no fixed number
    fsp: int = 0  # fractional seconds digits
    srid: int | None = None
    axes_swapped: bool = False  # the SRID's own axis order is latitude, longitude

    @classmethod
    def parse(
        cls,
        name: str,
        column_type: str,
        *,
        charset: str | None = None,
        collation: str | None = None,
        nullable: bool = True,
        json: bool = False,
        generated: str = "",
        invisible: bool = False,
        srid: int | None = None,
        axes_swapped: bool = False,
    ) -> Column:
        """A column from its type as information_schema and SHOW CREATE TABLE print it."""
        match = _TYPE.match(column_type)
        if match is None:
            raise PermanentError(f"column {name} has an unreadable type {column_type!r}")
        data_type = match["name"].lower()
        data_type = _SYNONYMS.get(data_type, data_type)
        arguments = match["arguments"]
        attributes = column_type[match.end() :].lower().split()
        members: tuple[str, ...] = ()
        numbers: list[int] = []
        if data_type in ("enum", "set"):
            members = tuple(_unescape(member) for member in _MEMBER.findall(arguments or ""))
        elif arguments:
            numbers = [int(number) for number in arguments.split(",") if number.strip().isdigit()]
        length = precision = decimals = None
        fsp = 0
        if data_type in ("decimal", "float", "double"):
            if len(numbers) == 2:
                precision, decimals = numbers
            elif data_type == "decimal":
                precision, decimals = (numbers[0] if numbers else 10), 0
        elif data_type in ("time", "datetime", "timestamp"):
            fsp = numbers[0] if numbers else 0
        elif data_type not in ("enum", "set"):
            length = numbers[0] if numbers else _DEFAULT_LENGTH.get(data_type)
        zerofill = "zerofill" in attributes
        return cls(
            name=name,
            data_type=data_type,
            column_type=column_type,
            charset=charset,
            collation=collation,
            unsigned=zerofill or "unsigned" in attributes,
            zerofill=zerofill,
            nullable=nullable,
            json=json or data_type == "json",
            generated=generated,
            invisible=invisible,
            members=members,
            length=length,
            precision=precision,
            decimals=decimals,
            fsp=fsp,
            srid=srid,
            axes_swapped=axes_swapped,
        )

    @property
    def kind(self) -> str | None:
        """The kind that an event's `types` names for this column; None where the JSON value says it."""
        data_type = self.data_type
        if self.json:
            return "json"
        if data_type in INTEGER_TYPES:
            return "zerofill" if self.zerofill else None
        if data_type in TEXT_TYPES:
            return None if (self.collation or "").endswith("_ci") else "text_bin"
        if data_type in BINARY_TYPES:
            return "binary"
        if data_type in PLUGIN_TYPES:
            return "text_bin"
        if data_type in GEOMETRY_TYPES:
            return "geometry_yx" if self.axes_swapped else "geometry"
        return _KINDS.get(data_type)


_DEFAULT_LENGTH = {"char": 1, "binary": 1, "bit": 1, "year": 4}
_KINDS = {
    "decimal": "decimal",
    "float": "float",
    "double": "float",
    "date": "date",
    "time": "time",
    "datetime": "datetime",
    "timestamp": "datetime",
    "year": "year",
}


def _unescape(member: str) -> str:
    if "'" not in member and "\\" not in member:
        return member
    return _ESCAPED.sub(lambda match: "'" if match[1] is None else _ESCAPES.get(match[1], match[1]), member)


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table: its columns in binlog order (that is, ordinal position) and its primary key in key order."""

    db: str
    table: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    collation: str | None = None  # the table's default: what a later ADD COLUMN without one takes
    #: MariaDB's invisible DB_ROW_HASH_n columns (of unique keys over long columns): last in the binlog, never selected.
    hash_columns: int = 0

    def types(self) -> dict[str, str]:
        """The `types` of every event of this table: column name -> kind, columns without a kind left out."""
        return {column.name: column.kind for column in self.columns if column.kind}

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def to_json(self) -> bytes:
        return orjson.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | bytes) -> TableSchema:
        """Raises PermanentError when another version of syncbridge wrote it."""
        stored: dict[str, Any] = orjson.loads(text)
        if stored.get("format") != FORMAT:
            raise PermanentError(
                f"stored table schema has format {stored.get('format')!r}, this syncbridge reads format {FORMAT}",
                hint="run the syncbridge version that wrote the state, or start with a new state database",
            )
        columns = tuple(Column(**{**column, "members": tuple(column["members"])}) for column in stored["columns"])
        primary_key = tuple(stored["primary_key"])
        return cls(
            stored["db"], stored["table"], columns, primary_key, stored["collation"], stored.get("hash_columns", 0)
        )


def load_tables(connection: Any, tables: Iterable[tuple[str, str]]) -> dict[tuple[str, str], TableSchema]:
    """The schemas of those of `tables` that exist, keyed by (db, table) as given.

    `connection` is a PyMySQL connection, raw or not. Reads information_schema only; takes no locks.
    """
    wanted = list(dict.fromkeys(tables))
    loaded: dict[tuple[str, str], TableSchema] = {}
    if not wanted:
        return loaded
    mariadb = "mariadb" in _rows(connection, "SELECT LOWER(CONCAT(VERSION(), ' ', @@version_comment))")[0][0]
    for start in range(0, len(wanted), _CHUNK):
        loaded.update(_load_chunk(connection, wanted[start : start + _CHUNK], mariadb=mariadb))
    return loaded


#: Tables per information_schema query: bounds the statement's length, not the result's meaning.
_CHUNK = 200


def _load_chunk(
    connection: Any, wanted: Sequence[tuple[str, str]], *, mariadb: bool
) -> dict[tuple[str, str], TableSchema]:
    chosen = "(" + ",".join(["(%s,%s)"] * len(wanted)) + ")"
    arguments = [part for pair in wanted for part in pair]
    json_columns = _mariadb_json(connection, chosen, arguments) if mariadb else set()
    columns: dict[tuple[str, str], list[Column]] = defaultdict(list)
    srid = "NULL, NULL" if mariadb else "c.SRS_ID, s.DEFINITION"
    join = "" if mariadb else "LEFT JOIN information_schema.ST_SPATIAL_REFERENCE_SYSTEMS s ON s.SRS_ID = c.SRS_ID"
    for db, table, name, type_, charset, collation, nullable, extra, srs_id, definition in _rows(
        connection,
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, c.COLUMN_TYPE, c.CHARACTER_SET_NAME, c.COLLATION_NAME,"  # noqa: S608 - constants
        f" c.IS_NULLABLE, c.EXTRA, {srid} FROM information_schema.COLUMNS c {join}"
        f" WHERE (c.TABLE_SCHEMA, c.TABLE_NAME) IN {chosen} ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION",
        arguments,
    ):
        extra = (extra or "").upper()
        generated = (
            "virtual" if "VIRTUAL" in extra else "stored" if ("STORED" in extra or "PERSISTENT" in extra) else ""
        )
        column = Column.parse(
            name,
            type_,
            charset=charset,
            collation=collation,
            nullable=nullable == "YES",
            json=(db, table, name) in json_columns,
            generated=generated,
            invisible="INVISIBLE" in extra,
            srid=None if srs_id is None else int(srs_id),
            axes_swapped=latitude_first(definition or ""),
        )
        columns[db, table].append(column)
    keys: dict[tuple[str, str], list[str]] = defaultdict(list)
    hashes: Counter[tuple[str, str]] = Counter()
    for db, table, index, part, type_, name in _rows(
        connection,
        "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX, INDEX_TYPE, COLUMN_NAME"  # noqa: S608 - constants
        f" FROM information_schema.STATISTICS WHERE (TABLE_SCHEMA, TABLE_NAME) IN {chosen}"
        " ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
        arguments,
    ):
        if index == "PRIMARY":
            keys[db, table].append(name)
        if mariadb and type_ == "HASH" and int(part) == 1:
            hashes[db, table] += 1
    collations: dict[tuple[str, str], str | None] = {
        (db, table): collation
        for db, table, collation in _rows(
            connection,
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_COLLATION FROM information_schema.TABLES"  # noqa: S608 - constants
            f" WHERE (TABLE_SCHEMA, TABLE_NAME) IN {chosen}",
            arguments,
        )
    }
    # A server with lower_case_table_names answers in its own spelling; the caller's spelling keys the result.
    asked = {(db.lower(), table.lower()): (db, table) for db, table in wanted} | {pair: pair for pair in wanted}
    return {
        asked.get(pair, asked.get((pair[0].lower(), pair[1].lower()), pair)): TableSchema(
            *pair, tuple(found), tuple(keys[pair]), collations.get(pair), hashes[pair]
        )
        for pair, found in columns.items()
    }


def _mariadb_json(connection: Any, chosen: str, arguments: Sequence[str]) -> set[tuple[str, str, str]]:
    """(db, table, column) of LONGTEXT columns that are MariaDB's JSON alias: they carry a json_valid check."""
    found = set()
    for db, table, clause in _rows(
        connection,
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS"  # noqa: S608
        f" WHERE (CONSTRAINT_SCHEMA, TABLE_NAME) IN {chosen} AND LOWER(CHECK_CLAUSE) LIKE 'json_valid(%%'",
        arguments,
    ):
        match = re.fullmatch(r"json_valid\(`((?:[^`]|``)+)`\)", clause, re.I)
        if match:
            found.add((db, table, match[1].replace("``", "`")))
    return found


def latitude_first(definition: str) -> bool:
    """Whether a spatial reference system (its WKT definition) is geographic with latitude as its first axis.

    ST_AsText prints such coordinates latitude first, while GeoJSON and the stored WKB have longitude first.
    """
    if not definition.lstrip().upper().startswith("GEOGCS"):
        return False
    axis = re.search(r'AXIS\s*\[\s*"[^"]*"\s*,\s*(\w+)', definition, re.I)
    return axis is None or axis[1].upper() in ("NORTH", "SOUTH")


def _rows(connection: Any, sql: str, arguments: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return [tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in cursor.fetchall()]


__all__ = ["Column", "SchemaMismatch", "TableSchema", "latitude_first", "load_tables"]
