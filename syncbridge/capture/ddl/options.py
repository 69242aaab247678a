"""Table options of CREATE and ALTER TABLE, of which only the default character set and BLACKHOLE matter."""

from __future__ import annotations

from dataclasses import dataclass

from syncbridge.capture.ddl.dialect import Dialect
from syncbridge.capture.ddl.text import MARK, NAME, STRING, WORD, Reader, Unsure
from syncbridge.capture.ddl.types import resolve_collation

_OPTIONS = frozenset(
    (
        "AUTOEXTEND_SIZE", "AUTO_INCREMENT", "AVG_ROW_LENGTH", "CHECKSUM", "COMMENT", "COMPRESSION", "CONNECTION",
        "DATA DIRECTORY", "DELAY_KEY_WRITE", "ENCRYPTED", "ENCRYPTION", "ENCRYPTION_KEY_ID", "ENGINE",
        "ENGINE_ATTRIBUTE", "IETF_QUOTES", "INDEX DIRECTORY", "INSERT_METHOD", "KEY_BLOCK_SIZE", "MAX_ROWS",
        "MIN_ROWS", "PACK_KEYS", "PAGE_CHECKSUM", "PAGE_COMPRESSED", "PAGE_COMPRESSION_LEVEL", "PASSWORD",
        "ROW_FORMAT", "SECONDARY_ENGINE", "SECONDARY_ENGINE_ATTRIBUTE", "SEQUENCE", "STATS_AUTO_RECALC",
        "STATS_PERSISTENT", "STATS_SAMPLE_PAGES", "TABLESPACE", "TABLE_CHECKSUM", "TRANSACTIONAL", "TYPE", "UNION",
    )
)  # fmt: skip


@dataclass(slots=True)
class Options:
    """What a statement's table options said."""

    charset: str | None = None
    collation: str | None = None
    keeps_no_rows: bool = False  # ENGINE=BLACKHOLE

    @property
    def names_charset(self) -> bool:
        return self.charset is not None or self.collation is not None

    def resolve(self, dialect: Dialect, default: str | None) -> str:
        """The table's default collation. Raises Unsure."""
        return resolve_collation(dialect, self.charset, self.collation, default)[1]

    def read(self, reader: Reader) -> bool:
        """Read one option, the reader stands at it; False where it is none that we know."""
        start = reader.position
        if reader.take("START", "TRANSACTION"):
            return True
        reader.take("DEFAULT")
        if reader.take("CHARACTER", "SET") or reader.take("CHARSET"):
            self.charset = _value(reader)
        elif reader.take("COLLATE"):
            self.collation = _value(reader)
        else:
            words = [reader.next().text.upper()]
            if words[0] in ("DATA", "INDEX"):
                words.append(reader.next().text.upper())
            if " ".join(words) not in _OPTIONS:
                reader.position = start
                return False
            if reader.peek().is_mark("=") and reader.peek(1).is_mark("("):
                reader.mark("=")
            if reader.peek().is_mark("("):
                reader.group()
                return True
            value = _value(reader, any_value=True)
            self.keeps_no_rows |= words == ["ENGINE"] and value == "blackhole"
            if words == ["TABLESPACE"] and reader.take("STORAGE"):
                reader.name()
        return True


def _value(reader: Reader, *, any_value: bool = False) -> str:
    reader.mark("=")
    token = reader.next()
    if token.kind == MARK or (not any_value and (token.kind not in (WORD, NAME, STRING) or token.is_word("DEFAULT"))):
        raise Unsure(f"{token.text!r} is not a value of a table option")
    return token.text.lower()
