"""Keys and checks in CREATE and ALTER TABLE, as far as they decide what a table's rows look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from syncbridge.capture.ddl.dialect import Dialect
from syncbridge.capture.ddl.text import Reader, Token, Unsure, split
from syncbridge.capture.schema import GEOMETRY_TYPES, Column

_INDEX_WORDS = "INDEX|KEY|FULLTEXT|SPATIAL|FOREIGN"
#: InnoDB's limit for a key; a unique key beyond it gets a hidden column of hashes on MariaDB.
MAX_KEY_BYTES = 3072
_LONG_TYPES = frozenset(
    ("tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob", *GEOMETRY_TYPES)
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key or constraint, read; all that matters of one that is neither primary nor unique is that it is none."""

    primary: bool = False
    unique: bool = False
    columns: list[str] = field(default_factory=list)  # of a unique key: those without a prefix length


def read_key(reader: Reader, dialect: Dialect) -> Key | None:
    """A key or constraint of CREATE or ALTER TABLE; None where it is a column instead. Raises Unsure."""
    if reader.at("PERIOD", "FOR") or reader.at("SYSTEM", "VERSIONING"):
        raise Unsure("system-versioned tables")
    if reader.take("CONSTRAINT"):
        reader.take("IF", "NOT", "EXISTS")
        if not reader.at("PRIMARY|UNIQUE|FOREIGN|CHECK"):
            reader.name()
    if reader.take("PRIMARY", "KEY"):
        return Key(primary=True, columns=[Reader(part).name() for part in _key_parts(reader)])
    if reader.take("UNIQUE"):
        parts = [part for part in _key_parts(reader) if not Reader(part[1:]).peek().is_mark("(")]
        return Key(unique=True, columns=[part[0].text for part in parts if part])
    if reader.take("CHECK"):
        if dialect.mariadb and checks_json(reader.group()) is not None:
            raise Unsure("a check that makes a column JSON")
        return Key()
    return Key() if reader.at(_INDEX_WORDS) or reader.at("VECTOR", "INDEX|KEY") else None


def _key_parts(reader: Reader) -> list[Sequence[Token]]:
    """The parts of a key, whose name and type come before them."""
    while not reader.peek().is_mark("("):
        if reader.done:
            raise Unsure("a key without columns")
        reader.next()
    return split(reader.group())


def checks_json(condition: Sequence[Token]) -> str | None:
    """The column, in lower case, of a check that is just json_valid(column); Unsure for more about json_valid."""
    condition = list(condition)
    while len(condition) > 2 and condition[0].is_mark("(") and condition[-1].is_mark(")"):
        condition = condition[1:-1]
    if not any(token.is_word("JSON_VALID") for token in condition):
        return None
    call = condition[1:]
    if len(call) == 3 and call[0].is_mark("(") and call[2].is_mark(")"):
        return call[1].text.lower()
    raise Unsure("a check on json_valid and more")


def named_key(names: Sequence[str], columns: Sequence[Column]) -> tuple[str, ...]:
    """Key columns in the spelling of the columns. Raises Unsure."""
    spelling = {column.name.lower(): column.name for column in columns}
    try:
        return tuple(spelling[name.lower()] for name in names)
    except KeyError as missing:
        raise Unsure(f"there is no column {missing}") from None


def is_long(column: Column, dialect: Dialect) -> bool:
    """Whether MariaDB makes a unique key over the whole column with a hidden column of hashes."""
    if column.data_type in _LONG_TYPES:
        return True
    width = dialect.widths.get(column.charset, 4) if column.charset else 1
    return column.data_type not in ("enum", "set") and (column.length or 0) * width > MAX_KEY_BYTES


def refuse_hash_columns(keys: Sequence[Sequence[str]], columns: Sequence[Column], dialect: Dialect) -> None:
    """Raises Unsure where one of the unique keys may need a hidden column (TableSchema.hash_columns)."""
    named = {column.name.lower(): column for column in columns}
    for key in keys:
        parts = [named[name.lower()] for name in key if name.lower() in named]
        widths = [(column.length or 8) * dialect.widths.get(column.charset or "", 1) for column in parts]
        if any(is_long(column, dialect) for column in parts) or sum(widths) > MAX_KEY_BYTES:
            raise Unsure("a unique key over long columns")
