"""A column's type and character set as information_schema prints them, from the words of a definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from syncbridge.capture.ddl.dialect import Dialect
from syncbridge.capture.ddl.text import Token, Unsure
from syncbridge.capture.schema import GEOMETRY_TYPES, PLUGIN_TYPES, Column

#: TEXT types by the bytes that they hold.
TEXT_SIZES = {"tinytext": 0xFF, "text": 0xFFFF, "mediumtext": 0xFFFFFF, "longtext": 0xFFFFFFFF}

_INTEGER_DISPLAY = {"tinyint": (4, 3), "smallint": (6, 5), "mediumint": (9, 8), "int": (11, 10), "bigint": (20, 20)}
_PLAIN = frozenset(
    ("date", "tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob", "json")
)


@dataclass(slots=True)
class Draft:
    """What the words of a column definition said."""

    data_type: str
    numbers: list[int] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    unsigned: bool = False
    zerofill: bool = False
    charset: str | None = None
    collation: str | None = None
    binary: bool = False  # the BINARY attribute: the character set's _bin collation
    nullable: bool | None = None
    primary: bool = False
    unique: bool = False
    auto_increment: bool = False
    has_default: bool = False
    generated: str = ""
    invisible: bool = False
    srid: int | None = None
    checks: list[Sequence[Token]] = field(default_factory=list)
    mariadb_json: bool = False


def resolve_collation(
    dialect: Dialect, charset: str | None, collation: str | None, default: str | None, *, binary: bool = False
) -> tuple[str, str]:
    """(character set, collation) from what was written, else from the default collation. Raises Unsure."""
    known = dialect.charset(charset) if charset is not None else dialect.charsets.get(default or "")
    if collation is not None:
        collation = dialect.collation(collation, known)
    elif binary and known not in (None, "binary"):
        collation = dialect.collation(f"{known}_bin", None)
    elif charset is not None:
        collation = dialect.default_collations[known] if known else None
    else:
        collation = default
    if collation is None or collation not in dialect.charsets:
        raise Unsure("the character set is not known")
    if charset is not None and dialect.charsets[collation] != known:
        raise Unsure("collation and character set do not fit")
    return dialect.charsets[collation], collation


def type_text(draft: Draft, dialect: Dialect, charset: str | None) -> str:
    """The type as information_schema.COLUMNS.COLUMN_TYPE prints it. Raises Unsure for types we do not know."""
    kind, numbers = draft.data_type, draft.numbers
    if kind in _INTEGER_DISPLAY:
        text = kind + _display_width(draft, dialect)
    elif kind in ("float", "double", "decimal"):
        text = _real_text(kind, numbers)
    elif kind in ("enum", "set"):
        text = f"{kind}({','.join(_quote(member.rstrip(' ')) for member in draft.members)})"
    elif kind in ("char", "binary", "bit"):
        text = f"{kind}({numbers[0] if numbers else 1})"
    elif kind in ("varchar", "varbinary") and numbers:
        if numbers[0] * (dialect.widths.get(charset, 4) if charset else 1) > 65535:
            raise Unsure("a VARCHAR this long may have become TEXT")
        text = f"{kind}({numbers[0]})"
    elif kind in ("text", "blob") and numbers:
        text = _sized_text(kind, numbers[0], dialect, charset)
    elif kind in ("time", "datetime", "timestamp"):
        text = f"{kind}({numbers[0]})" if numbers and numbers[0] else kind
    elif kind == "year":
        text = (f"year({numbers[0]})" if numbers else "year(4)") if dialect.integer_widths else kind
    elif kind == "vector" and (numbers or not dialect.mariadb):
        text = f"vector({numbers[0] if numbers else 2048})"
    elif not numbers and (kind in _PLAIN or kind in GEOMETRY_TYPES or (kind in PLUGIN_TYPES and dialect.mariadb)):
        text = kind
    else:
        raise Unsure(f"the type {kind} is not known")
    return text + " unsigned" * draft.unsigned + " zerofill" * draft.zerofill


def _display_width(draft: Draft, dialect: Dialect) -> str:
    signed, unsigned = _INTEGER_DISPLAY[draft.data_type]
    width = draft.numbers[0] if draft.numbers and draft.numbers[0] else unsigned if draft.unsigned else signed
    boolean = draft.data_type == "tinyint" and width == 1 and not draft.unsigned
    return f"({width})" if dialect.integer_widths or draft.zerofill or boolean else ""


def _real_text(kind: str, numbers: list[int]) -> str:
    if kind == "decimal":
        precision, decimals = (*numbers, 0, 0)[:2]
        return f"decimal({precision or 10},{decimals})"
    if len(numbers) == 2:
        return f"{kind}({numbers[0]},{numbers[1]})"
    if numbers and kind == "double":
        raise Unsure("DOUBLE with one number")
    return "double" if numbers and numbers[0] > 24 else kind


def _sized_text(kind: str, length: int, dialect: Dialect, charset: str | None) -> str:
    """TEXT(n) and BLOB(n) become the smallest type that holds n characters."""
    if length == 0:
        raise Unsure("servers differ in what TEXT(0) is")
    size = length * (dialect.widths[charset] if charset else 1)
    return smallest_text(size).replace("text", kind)


def smallest_text(size: int) -> str:
    """The smallest TEXT type for `size` bytes."""
    return next((name for name, most in TEXT_SIZES.items() if size <= most), "longtext")


def _quote(member: str) -> str:
    escaped = member.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0")
    return "'" + escaped.replace("\n", "\\n").replace("\r", "\\r") + "'"


def converted(column: Column, dialect: Dialect, charset: str, collation: str) -> Column:
    """The column after CONVERT TO CHARACTER SET: TEXT grows where its characters would no longer fit."""
    if column.charset is None:
        return column
    if "binary" in (charset, column.charset):
        raise Unsure("converting to or from binary")
    if any(not member.isascii() or member in ("", "?") for member in column.members):
        raise Unsure("servers garble members of ENUM and SET that are not ASCII, both ways")
    kind, text = column.data_type, column.column_type
    if kind in TEXT_SIZES:
        size = TEXT_SIZES[kind] // dialect.widths[column.charset] * dialect.widths[charset]
        if kind != text:
            raise Unsure("a TEXT with attributes")
        text = smallest_text(size)
    elif kind == "varchar" and (column.length or 0) * dialect.widths[charset] > 65535:
        raise Unsure("a VARCHAR this long may have become TEXT")
    if text == column.column_type:
        return replace(column, charset=charset, collation=collation)
    return replace(column, data_type=text, column_type=text, charset=charset, collation=collation)
