"""Follows DDL in the binlog: the text of a QUERY_EVENT -> what it did to the tables that matter.

Pure: it asks for the schemas known so far and answers with effects; capture acts on them. It never guesses: what it
does not understand for certain is SchemaUnsure, and capture reads the table again (DESIGN P4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from syncbridge.capture.ddl.alter import AlterReader
from syncbridge.capture.ddl.apply import Altered, apply
from syncbridge.capture.ddl.create import read_table
from syncbridge.capture.ddl.dialect import Dialect, load_dialect
from syncbridge.capture.ddl.effects import (
    Effect,
    RowsInStatement,
    SchemaChanged,
    SchemaUnsure,
    TableCreated,
    TableDropped,
    TableRenamed,
    TableTruncated,
)
from syncbridge.capture.ddl.rows import written_tables
from syncbridge.capture.ddl.text import NAME, WORD, Reader, Token, Unsure, split, tokens_of
from syncbridge.capture.schema import TableSchema

Known = Callable[[str, str], TableSchema | None]
Mapped = Callable[[str, str], bool]

#: Statements that change no table's shape and no row, or whose effect on rows comes as row events.
_HARMLESS = frozenset(
    (
        "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START", "XA", "GRANT", "REVOKE", "FLUSH",
        "ANALYZE", "OPTIMIZE", "CHECK", "CHECKSUM", "REPAIR", "LOCK", "UNLOCK", "USE", "SHOW", "SELECT", "DO", "RESET",
        "PURGE", "INSTALL", "UNINSTALL", "KILL", "END",
    )
)  # fmt: skip
_FIRST_WORD = re.compile(r"\s*([A-Za-z]+)")
#: Session variables of MariaDB's SET STATEMENT … FOR that leave the meaning of DDL alone.
_INERT_VARIABLES = frozenset(
    (
        "MAX_STATEMENT_TIME", "LOCK_WAIT_TIMEOUT", "INNODB_LOCK_WAIT_TIMEOUT", "ALTER_ALGORITHM", "OLD_ALTER_TABLE",
        "FOREIGN_KEY_CHECKS", "UNIQUE_CHECKS", "CHECK_CONSTRAINT_CHECKS", "SQL_LOG_BIN", "SORT_BUFFER_SIZE",
    )
)  # fmt: skip


def follow(
    sql: str,
    default_db: str,
    known: Known,
    mapped: Mapped,
    *,
    dialect: Dialect,
    sql_mode: int = 0,
    tables_of: Callable[[str], Iterable[str]] = lambda db: (),
) -> list[Effect]:
    """What the statement did, in order; [] where it touched no table that is mapped or known.

    `known` gives a table's schema before the statement, `mapped` says whether rows of a table matter, `tables_of`
    lists a database's known tables (for DROP DATABASE). `sql_mode` is the number in the event's status variables.
    """
    first = _FIRST_WORD.match(sql)
    if first and first[1].upper() in _HARMLESS:
        return []
    return _Statement(sql, dialect.fold(default_db), known, mapped, dialect, sql_mode, tables_of).effects()


class _Statement:
    """One statement being followed. `_schemas` holds what it changed so far, for statements with several parts."""

    def __init__(
        self,
        sql: str,
        default_db: str,
        known: Known,
        mapped: Mapped,
        dialect: Dialect,
        sql_mode: int,
        tables_of: Callable[[str], Iterable[str]],
    ) -> None:
        self._sql = sql
        self._default_db = default_db
        self._known = known
        self._mapped = mapped
        self._dialect = dialect
        self._sql_mode = sql_mode
        self._tables_of = tables_of
        self._schemas: dict[tuple[str, str], TableSchema | None] = {}
        self._effects: list[Effect] = []
        self._reader = Reader([])

    def effects(self) -> list[Effect]:
        try:
            self._reader = Reader(list(tokens_of(self._sql, self._dialect, self._sql_mode)))
        except Unsure:
            words = [Token(WORD, word) for word in re.findall(r"[\w$]+", self._sql)]
            return self._unsure_of_all(words)
        try:
            doubtful = self._set_statement()
            self._dispatch()
        except Unsure:
            return self._unsure_of_all(self._reader.tokens)
        if doubtful and any(isinstance(effect, SchemaChanged | TableCreated) for effect in self._effects):
            return self._unsure_of_all(self._reader.tokens)
        return self._effects

    def _set_statement(self) -> bool:
        """Step over SET STATEMENT … FOR; whether it sets what may change the meaning of the rest."""
        reader, doubtful = self._reader, False
        if not reader.take("SET", "STATEMENT"):
            return False
        while not reader.take("FOR"):
            if reader.done:
                raise Unsure("SET STATEMENT without FOR")
            if reader.peek(1).is_mark("="):
                doubtful |= not reader.peek().is_word(*_INERT_VARIABLES)
            reader.next()
        return doubtful

    def _dispatch(self) -> None:
        reader = self._reader
        word = reader.next()
        match word.text.upper():
            case "ALTER":
                while reader.take("ONLINE"):
                    pass
                ignore = reader.take("IGNORE")
                if reader.take("TABLE"):
                    self._alter(rows_lost=ignore)
            case "CREATE":
                replaces = reader.take("OR", "REPLACE")
                if reader.take("UNIQUE", "INDEX"):
                    self._create_unique()
                if reader.take("TABLE"):
                    self._create(replaces=replaces)
            case "DROP":
                self._drop()
            case "RENAME":
                if reader.take("TABLE|TABLES"):
                    self._rename()
            case "TRUNCATE":
                reader.take("TABLE")
                name = self._table()
                if self._matters(*name):
                    self._effects.append(TableTruncated(*name))
            case "INSERT" | "REPLACE" | "LOAD" | "UPDATE" | "DELETE" | "WITH":
                reader.position -= 1
                written = written_tables(self._sql, reader, self._default_db, self._dialect)
                self._effects += [RowsInStatement(*name, self._sql) for name in written if self._mapped(*name)]
            case "SET" | "" | ";":
                pass
            case harmless if harmless in _HARMLESS:
                pass  # it stood behind a comment
            case _:
                raise Unsure("an unknown statement")

    # Tables

    def _table(self) -> tuple[str, str]:
        return self._reader.table(self._default_db, self._dialect)

    def _schema(self, db: str, table: str) -> TableSchema | None:
        return self._schemas[db, table] if (db, table) in self._schemas else self._known(db, table)

    def _matters(self, db: str, table: str) -> bool:
        return self._mapped(db, table) or self._schema(db, table) is not None

    def _unsure_of_all(self, tokens: Sequence[Token]) -> list[Effect]:
        """The statement is not understood: every table that it may name is in doubt."""
        found: dict[tuple[str, str], None] = {}
        for index, token in enumerate(tokens):
            if token.kind not in (WORD, NAME):
                continue
            name = self._dialect.fold(token.text)
            qualified = index > 1 and tokens[index - 1].is_mark(".") and tokens[index - 2].kind in (WORD, NAME)
            db = self._dialect.fold(tokens[index - 2].text) if qualified else self._default_db
            # A mapping may be db.*: then every word of the text would be a mapped table, were it not for `known`.
            certain = qualified or token.kind == NAME
            if self._known(db, name) is not None or (certain and self._mapped(db, name)):
                found[db, name] = None
        return [SchemaUnsure(db, table, self._sql) for db, table in found]

    # Statements

    def _create(self, *, replaces: bool) -> None:
        reader = self._reader
        if_not_exists = reader.take("IF", "NOT", "EXISTS")
        db, table = name = self._table()
        exists = self._known(db, table) is not None
        if if_not_exists and exists:
            return
        body = reader.position
        like = reader.take("LIKE") or (reader.mark("(") and reader.take("LIKE"))
        if like:
            pattern = self._schema(*self._table())
            # A copy of a known table is followed even when it is not mapped: tools swap it in later.
            if self._mapped(db, table) or exists or pattern is not None:
                self._created(name, pattern and replace(pattern, db=db, table=table), replaces=replaces)
            return
        if not self._matters(db, table):
            return
        reader.position = body
        schema = None
        selects = any(
            token.is_word("SELECT", "VALUES", "AS", "TABLE") for token in _outside_parentheses(reader.tokens[body:])
        )
        if not selects:
            try:
                elements = reader.group()
                selects = bool(elements) and elements[0].is_word("SELECT", "WITH")
                schema = read_table(db, table, elements, reader, self._dialect, self._sql_mode)
            except Unsure:
                schema = None
        self._created(name, schema, replaces=replaces)
        if selects and self._mapped(db, table):
            self._effects.append(RowsInStatement(db, table, self._sql))

    def _created(self, name: tuple[str, str], schema: TableSchema | None, *, replaces: bool) -> None:
        if replaces and self._matters(*name):
            self._effects.append(TableDropped(*name))
        self._schemas[name] = schema
        self._effects.append(TableCreated(*name, schema, self._sql))

    def _drop(self) -> None:
        reader = self._reader
        if reader.take("DATABASE|SCHEMA"):
            reader.take("IF", "EXISTS")
            db = self._dialect.fold(reader.name())
            self._effects += [TableDropped(db, table) for table in sorted(self._tables_of(db))]
        elif reader.take("TABLE|TABLES"):
            reader.take("IF", "EXISTS")
            while True:
                name = self._table()
                if self._matters(*name):
                    self._effects.append(TableDropped(*name))
                if not reader.mark(","):
                    break
        elif reader.take("INDEX"):
            reader.take("IF", "EXISTS")
            index = reader.next()
            reader.need("ON")
            self._alter_index(self._table(), [*_words("DROP INDEX"), index])

    def _create_unique(self) -> None:
        """CREATE UNIQUE INDEX: on MariaDB it may add a hidden column."""
        while not self._reader.take("ON"):
            if self._reader.done:
                raise Unsure("CREATE INDEX without ON")
            self._reader.next()
        table = self._table()
        self._alter_index(table, [*_words("ADD UNIQUE"), *self._reader.tokens[self._reader.position :]])

    def _alter_index(self, table: tuple[str, str], clause: list[Token]) -> None:
        """An index comes or goes; silent where nothing but the index does."""
        before = self._schema(*table)
        if before is not None:
            self._alter_known(*table, clause)
            if self._schema(*table) == before:
                self._effects.pop()

    def _rename(self) -> None:
        reader = self._reader
        reader.take("IF", "EXISTS")
        while True:
            old = self._table()
            if reader.take("WAIT"):
                reader.number()
            reader.take("NOWAIT")
            reader.need("TO")
            self._renamed(old, self._table())
            if not reader.mark(","):
                break
        reader.end()

    def _renamed(self, old: tuple[str, str], new: tuple[str, str]) -> None:
        schema = self._schema(*old)
        if schema is not None or self._mapped(*old) or self._mapped(*new):
            moved = schema and replace(schema, db=new[0], table=new[1])
            self._effects.append(TableRenamed(*old, *new, moved))
            self._schemas[new] = moved
        self._schemas[old] = None

    def _alter(self, *, rows_lost: bool) -> None:
        reader = self._reader
        reader.take("IF", "EXISTS")
        db, table = self._table()
        if reader.take("WAIT"):
            reader.number()
        reader.take("NOWAIT")
        tokens = reader.tokens[reader.position :]
        if tokens and tokens[-1].is_mark(";"):
            tokens = tokens[:-1]
        if reader.take("EXCHANGE", "PARTITION"):
            reader.name()
            reader.need("WITH", "TABLE")
            self._rows_swapped((db, table), self._table())
            return
        clauses, new_names = [], []
        for clause in split(tokens):
            new_name = _rename_clause(Reader(clause), self._default_db, self._dialect)
            if new_name:
                new_names.append(new_name)
            else:
                clauses += [*clause, Token("mark", ",")]
        if self._matters(db, table) and (clauses or rows_lost):
            self._alter_known(db, table, clauses[:-1], rows_lost=rows_lost, renamed=bool(new_names))
        for new_name in new_names:
            self._renamed((db, table), new_name)

    def _alter_known(
        self, db: str, table: str, clauses: list[Token], *, rows_lost: bool = False, renamed: bool = False
    ) -> None:
        schema = self._schema(db, table)
        try:
            alteration = AlterReader(_certain(schema), self._dialect, self._sql_mode).read(clauses)
            altered = apply(_certain(schema), alteration, self._dialect)
        except Unsure:
            self._schemas[db, table] = None
            if not renamed:  # TableRenamed says it with its missing schema
                self._effects.append(SchemaUnsure(db, table, self._sql))
            return
        self._changed(altered, rows_lost=rows_lost)

    def _rows_swapped(self, *names: tuple[str, str]) -> None:
        for name in names:
            schema = self._schema(*name)
            if schema is not None:
                self._changed(Altered(schema, resnapshot=True, reshaped=False))
            elif self._mapped(*name):
                self._effects.append(SchemaUnsure(*name, self._sql))

    def _changed(self, altered: Altered, *, rows_lost: bool = False) -> None:
        schema = altered.schema
        self._schemas[schema.db, schema.table] = schema
        self._effects.append(
            SchemaChanged(
                schema.db,
                schema.table,
                schema,
                resnapshot=altered.resnapshot or rows_lost,
                statement=self._sql,
                reshaped=altered.reshaped,
            )
        )


def _words(text: str) -> list[Token]:
    return [Token(WORD, word) for word in text.split()]


def _certain(schema: TableSchema | None) -> TableSchema:
    if schema is None:
        raise Unsure("the table is not known")
    return schema


def _rename_clause(reader: Reader, default_db: str, dialect: Dialect) -> tuple[str, str] | None:
    """The new name in RENAME [TO | AS | =] name; None for every other clause."""
    if not reader.take("RENAME") or reader.at("COLUMN|INDEX|KEY"):
        return None
    if not reader.take("TO|AS"):
        reader.mark("=")
    name = reader.table(default_db, dialect)
    reader.end()
    return name


def _outside_parentheses(tokens: Iterable[Token]) -> Iterable[Token]:
    depth = 0
    for token in tokens:
        depth += token.is_mark("(") - token.is_mark(")")
        if depth == 0:
            yield token


__all__ = [
    "Dialect",
    "Effect",
    "RowsInStatement",
    "SchemaChanged",
    "SchemaUnsure",
    "TableCreated",
    "TableDropped",
    "TableRenamed",
    "TableTruncated",
    "follow",
    "load_dialect",
]
