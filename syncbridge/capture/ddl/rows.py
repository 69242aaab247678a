"""Which tables a statement writes rows to: what binlog_format=ROW would have logged as row events."""

from __future__ import annotations

from syncbridge.capture.ddl.dialect import Dialect
from syncbridge.capture.ddl.text import NAME, WORD, Reader


def written_tables(sql: str, reader: Reader, default_db: str, dialect: Dialect) -> list[tuple[str, str]]:
    """Tables that INSERT, REPLACE, LOAD, UPDATE, DELETE or WITH may write to; the reader stands at that word.

    More than it really writes where the statement names several: capture stops at one too many rather than one too few.
    """
    if reader.take("INSERT|REPLACE"):
        while reader.take("LOW_PRIORITY|DELAYED|HIGH_PRIORITY|IGNORE|INTO"):
            pass
        return [reader.table(default_db, dialect)]
    if reader.take("LOAD"):
        while not reader.take("INTO", "TABLE"):
            if reader.done:
                return []
            reader.next()
        return [reader.table(default_db, dialect)]
    import sqlglot  # large, and a source that logs rows never needs it
    from sqlglot import expressions as exp
    from sqlglot.errors import SqlglotError

    try:
        nodes = list(sqlglot.parse_one(sql, dialect="mysql").find_all(exp.Table))
        tables = [(node.db, node.name, node.alias) for node in nodes]
    except SqlglotError:
        tables = [("", token.text, "") for token in reader.tokens if token.kind in (WORD, NAME)]
    aliases = {alias for _, _, alias in tables if alias}
    found = [
        (dialect.fold(db) or default_db, dialect.fold(table)) for db, table, _ in tables if db or table not in aliases
    ]
    return list(dict.fromkeys(found))
