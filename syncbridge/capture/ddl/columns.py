"""One column definition of CREATE or ALTER TABLE -> the Column that information_schema would show for it."""

from __future__ import annotations

from dataclasses import dataclass

from syncbridge.capture.ddl.dialect import Dialect
from syncbridge.capture.ddl.keys import checks_json
from syncbridge.capture.ddl.text import MAXDB, NAME, NUMBER, ORACLE, REAL_AS_FLOAT, STRING, WORD, Reader, Unsure, split
from syncbridge.capture.ddl.types import Draft, resolve_collation, type_text
from syncbridge.capture.schema import TEXT_TYPES, Column

#: What a column's place clause says: None (no clause), FIRST, or the name of the column that it follows.
FIRST = ""

_SYNONYMS = {
    "INT1": "tinyint", "INT2": "smallint", "INT3": "mediumint", "MIDDLEINT": "mediumint", "INT4": "int",
    "INTEGER": "int", "INT8": "bigint", "NUMERIC": "decimal", "DEC": "decimal", "FIXED": "decimal",
    "FLOAT4": "float", "FLOAT8": "double", "DOUBLE PRECISION": "double", "CHARACTER VARYING": "varchar",
    "CHAR VARYING": "varchar", "CHARACTER": "char", "LONG VARBINARY": "mediumblob", "LONG VARCHAR": "mediumtext",
    "LONG CHAR VARYING": "mediumtext", "LONG CHARACTER VARYING": "mediumtext", "LONG": "mediumtext",
}  # fmt: skip
_NATIONAL = {
    "NATIONAL CHARACTER VARYING": "varchar", "NATIONAL CHAR VARYING": "varchar", "NATIONAL VARCHAR": "varchar",
    "NATIONAL CHARACTER": "char", "NATIONAL CHAR": "char", "NCHAR VARYING": "varchar", "NCHAR VARCHAR": "varchar",
    "NCHAR": "char", "NVARCHAR": "varchar",
}  # fmt: skip
_LONGEST_FIRST = sorted({*_SYNONYMS, *_NATIONAL}, key=lambda name: -name.count(" "))
_AS_BINARY = {"char": "binary", "varchar": "varbinary", "tinytext": "tinyblob", "text": "blob",
              "mediumtext": "mediumblob", "longtext": "longblob"}  # fmt: skip
#: Spatial reference systems whose axis order we know without asking the server.
_LATITUDE_FIRST = {0: False, 4326: True, 3857: False}


@dataclass(frozen=True, slots=True)
class Definition:
    """A column definition, read."""

    column: Column
    primary: bool = False
    place: str | None = None
    unique: bool = False
    shows: bool = False  # rows that exist already show something other than NULL in it


def read_definition(
    name: str, reader: Reader, dialect: Dialect, sql_mode: int, table_collation: str | None
) -> Definition:
    """The definition of column `name`; the reader stands at its type and ends behind a FIRST or AFTER clause.

    `table_collation` is the table's default. Raises Unsure where anything is not understood for certain.
    """
    if sql_mode & (ORACLE | MAXDB):
        raise Unsure("this sql_mode gives types another meaning")
    draft = _read_type(reader, dialect, sql_mode)
    place = None
    while not reader.done:
        if reader.take("FIRST"):
            place = FIRST
        elif reader.take("AFTER"):
            place = reader.name()
        elif not _read_attribute(reader, draft):
            raise Unsure(f"column {name}: {reader.peek().text!r} is not understood")
    return Definition(
        _finish(name, draft, dialect, table_collation),
        draft.primary,
        place,
        draft.unique,
        shows=draft.nullable is False or draft.has_default or draft.auto_increment or bool(draft.generated),
    )


def _read_type(reader: Reader, dialect: Dialect, sql_mode: int) -> Draft:
    draft = Draft("")
    for words in _LONGEST_FIRST:
        if reader.take(*words.split()):
            draft.data_type = _SYNONYMS.get(words) or _NATIONAL[words]
            if words in _NATIONAL:
                draft.charset = "utf8"
            break
    else:
        if reader.peek().kind != WORD:
            raise Unsure(f"{reader.peek().text!r} is not a type")
        draft.data_type = reader.next().text.lower()
    match draft.data_type:
        case "bool" | "boolean":
            draft.data_type, draft.numbers = "tinyint", [1]
        case "serial":
            draft.data_type, draft.unsigned, draft.nullable, draft.auto_increment = "bigint", True, False, True
        case "real":
            draft.data_type = "float" if sql_mode & REAL_AS_FLOAT else "double"
        case "geometrycollection" if not dialect.mariadb:
            draft.data_type = "geomcollection"
        case "json" if dialect.mariadb:
            draft.data_type, draft.mariadb_json = "longtext", True
        case "enum" | "set":
            draft.members = [Reader(part).string() for part in split(reader.group())]
            return draft
    if reader.peek().is_mark("("):
        draft.numbers = [Reader(part).number() for part in split(reader.group())]
    return draft


def _read_attribute(reader: Reader, draft: Draft) -> bool:
    """Read one attribute into the draft; False where the next word is none that we know."""
    if reader.take("NOT", "NULL"):
        draft.nullable = False
    elif reader.take("NULL"):
        draft.nullable = True
    elif reader.take("UNSIGNED"):
        draft.unsigned = True
    elif reader.take("ZEROFILL"):
        draft.unsigned = draft.zerofill = True
    elif reader.take("SIGNED") or reader.take("VISIBLE"):
        pass
    elif reader.take("INVISIBLE"):
        draft.invisible = True
    elif reader.take("DEFAULT"):
        draft.has_default |= not _read_default(reader)
    elif reader.take("ON", "UPDATE"):
        _read_default(reader)
    elif reader.take("AUTO_INCREMENT") or reader.take("SERIAL", "DEFAULT", "VALUE"):
        draft.auto_increment, draft.nullable = True, False
    elif reader.take("PRIMARY", "KEY") or reader.take("KEY"):
        draft.primary = True
    elif reader.take("SRID"):
        draft.srid = reader.number()
    elif reader.take("UNIQUE", "KEY") or reader.take("UNIQUE"):
        draft.unique = True
    else:
        return _read_charset(reader, draft) or _read_expression(reader, draft) or _read_harmless(reader)
    return True


def _read_charset(reader: Reader, draft: Draft) -> bool:
    if reader.take("CHARACTER", "SET") or reader.take("CHARSET"):
        draft.charset = _charset_name(reader)
    elif reader.take("COLLATE"):
        draft.collation = _charset_name(reader)
    elif reader.take("ASCII"):
        draft.charset = "latin1"
    elif reader.take("UNICODE"):
        draft.charset = "ucs2"
    elif reader.take("BYTE"):
        draft.charset = "binary"
    elif reader.take("BINARY"):
        draft.binary = True
    else:
        return False
    return True


def _charset_name(reader: Reader) -> str:
    token = reader.next()
    if token.kind not in (WORD, NAME, STRING) or token.is_word("DEFAULT"):
        raise Unsure(f"{token.text!r} is not the name of a character set or collation")
    return token.text.lower()


def _read_expression(reader: Reader, draft: Draft) -> bool:
    """Generated columns and CHECK."""
    if reader.at("GENERATED", "ALWAYS", "AS") or reader.at("AS"):
        reader.take("GENERATED", "ALWAYS")
        reader.need("AS")
        reader.group()
        draft.generated = "stored" if reader.take("STORED") or reader.take("PERSISTENT") else "virtual"
        reader.take("VIRTUAL")
    elif reader.at("CONSTRAINT") or reader.at("CHECK"):
        if reader.take("CONSTRAINT") and not reader.at("CHECK"):
            reader.name()
        reader.need("CHECK")
        draft.checks.append(reader.group())
        if not reader.take("NOT", "ENFORCED"):
            reader.take("ENFORCED")
    else:
        return False
    return True


def _read_harmless(reader: Reader) -> bool:
    """Attributes that say nothing of the column's values."""
    if reader.take("COMMENT"):
        reader.string()
    elif reader.take("COLUMN_FORMAT") or reader.take("STORAGE"):
        reader.name()
    elif reader.take("ENGINE_ATTRIBUTE") or reader.take("SECONDARY_ENGINE_ATTRIBUTE"):
        reader.mark("=")
        reader.string()
    elif reader.take("REFERENCES"):
        reader.name()
        if reader.mark("."):
            reader.name()
        if reader.peek().is_mark("("):
            reader.group()
        while reader.take("MATCH", "FULL|PARTIAL|SIMPLE") or reader.at("ON", "DELETE|UPDATE"):
            if reader.take("ON", "DELETE|UPDATE") and not (
                reader.take("SET", "NULL|DEFAULT") or reader.take("NO", "ACTION")
            ):
                reader.need("RESTRICT|CASCADE")
    elif reader.take("REF_SYSTEM_ID"):
        reader.mark("=")
        reader.number()
    else:
        return reader.take("NOT", "SECONDARY")
    return True


def _read_default(reader: Reader) -> bool:
    """Step over a default value; whether it is NULL."""
    while reader.mark("-") or reader.mark("+"):
        pass
    if reader.peek().is_mark("("):
        reader.group()
        return False
    if reader.take("NEXT", "VALUE", "FOR"):
        reader.name()
        if reader.mark("."):
            reader.name()
        return False
    token = reader.next()
    if token.kind not in (WORD, STRING, NUMBER):
        raise Unsure(f"{token.text!r} is not a default value")
    if token.kind == WORD and reader.peek().is_mark("("):
        reader.group()
    while reader.peek().kind == STRING:  # an introducer's text (_latin1'x', x'41', DATE'…'), or adjacent strings
        reader.next()
    return token.is_word("NULL")


def _finish(name: str, draft: Draft, dialect: Dialect, table_collation: str | None) -> Column:
    charset = collation = None
    if draft.data_type in TEXT_TYPES:
        charset, collation = _character_set(draft, dialect, table_collation)
        if charset == "binary":
            if draft.mariadb_json or draft.data_type in ("enum", "set"):
                raise Unsure("servers differ in what a binary ENUM or JSON is")
            draft.data_type, charset, collation = _AS_BINARY[draft.data_type], None, None
    elif draft.charset is not None or draft.collation is not None or draft.binary:
        raise Unsure(f"{draft.data_type} has no character set")
    nullable = draft.nullable
    if nullable is None:
        nullable = draft.data_type != "timestamp" or dialect.explicit_timestamps or bool(draft.generated)
    draft.nullable = nullable
    axes_swapped = False
    if draft.srid is not None:
        if draft.srid not in _LATITUDE_FIRST:
            raise Unsure(f"the axis order of SRID {draft.srid} is not known")
        axes_swapped = _LATITUDE_FIRST[draft.srid]
    return Column.parse(
        name,
        type_text(draft, dialect, charset),
        charset=charset,
        collation=collation,
        nullable=nullable,
        json=dialect.mariadb and _is_json(name, draft),
        generated=draft.generated,
        invisible=draft.invisible,
        srid=draft.srid,
        axes_swapped=axes_swapped,
    )


def _is_json(name: str, draft: Draft) -> bool:
    """Whether MariaDB ends up with the check json_valid(`name`): JSON adds it unless the column has its own."""
    if not draft.checks:
        return draft.mariadb_json
    if len(draft.checks) > 1:
        raise Unsure("several checks on one column")
    return checks_json(draft.checks[0]) == name.lower()


def _character_set(draft: Draft, dialect: Dialect, table_collation: str | None) -> tuple[str, str]:
    """(character set, collation) that a text column gets."""
    if draft.mariadb_json and draft.charset is None and draft.collation is None:
        return "utf8mb4", "utf8mb4_bin"
    return resolve_collation(dialect, draft.charset, draft.collation, table_collation, binary=draft.binary)
