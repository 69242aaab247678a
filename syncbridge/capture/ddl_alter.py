"""ALTER TABLE: the clauses of one statement, read, then applied to the table's schema as the server does it.

The server looks at all clauses together (drops, then changes in place, then additions and moves in their order); so do
we: a clause is read into an `Alteration` first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from syncbridge.capture.ddl_columns import FIRST, Definition, checks_json, converted, read_definition, resolve_collation
from syncbridge.capture.ddl_dialect import Dialect
from syncbridge.capture.ddl_options import Options
from syncbridge.capture.ddl_text import Reader, Token, Unsure, split
from syncbridge.capture.schema import GEOMETRY_TYPES, Column, TableSchema

_INDEX_WORDS = "INDEX|KEY|FULLTEXT|SPATIAL|FOREIGN"
#: Partition operations that remove or replace rows without row events; the others keep every row.
_LOSE_ROWS = "DROP|TRUNCATE|DISCARD|IMPORT"
_KEEP_ROWS = "ADD|COALESCE|REORGANIZE|REBUILD|OPTIMIZE|ANALYZE|CHECK|REPAIR"
#: InnoDB's limit for a key; a unique key beyond it gets a hidden column of hashes on MariaDB.
MAX_KEY_BYTES = 3072
_LONG_TYPES = frozenset(
    ("tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob", *GEOMETRY_TYPES)
)


@dataclass(slots=True)
class Alteration:
    """Everything that the clauses of one ALTER TABLE ask for. Column names as written."""

    drops: list[str] = field(default_factory=list)
    changes: list[tuple[str, Definition]] = field(default_factory=list)
    adds: list[Definition] = field(default_factory=list)
    placed: list[Definition] = field(default_factory=list)  # additions and moves, in the order written
    renames: dict[str, str] = field(default_factory=dict)  # lower-case old name -> new name
    visibility: dict[str, bool] = field(default_factory=dict)  # lower-case name -> invisible
    unique_keys: list[list[str]] = field(default_factory=list)  # columns that a new unique key takes whole
    drop_primary: bool = False
    primary_key: list[str] | None = None
    options: Options = field(default_factory=Options)
    convert: tuple[str, str] | None = None
    rows_lost: bool = False


class AlterReader:
    """Reads the clauses for one table. Every method raises Unsure where the text is not understood for certain."""

    def __init__(self, schema: TableSchema, dialect: Dialect, sql_mode: int) -> None:
        self._schema = schema
        self._dialect = dialect
        self._sql_mode = sql_mode
        self._names = {column.name.lower() for column in schema.columns}
        self._collation = schema.collation
        self.alteration = Alteration()

    def read(self, tokens: Sequence[Token]) -> Alteration:
        """`tokens`: everything after the table's name, RENAME TO clauses taken out."""
        tokens = _without_partitioning(tokens)
        if self._read_partition_operation(Reader(tokens)):
            return self.alteration
        # Character sets first, wherever they stand: they hold for the columns of the same statement.
        later = [clause for clause in split(tokens) if clause and not self._read_charset(Reader(clause))]
        if self.alteration.options.names_charset:
            if self.alteration.convert:
                raise Unsure("CONVERT TO and another character set in one statement")
            self._collation = self.alteration.options.resolve(self._dialect, self._schema.collation)
        ordering = False
        for clause in later:
            reader = Reader(clause)
            if ordering and len(clause) <= 2 and (len(clause) == 1 or reader.peek(1).is_word("ASC", "DESC")):
                continue  # ORDER BY a, b DESC
            ordering = reader.at("ORDER", "BY")
            self._read_clause(reader)
        return self.alteration

    def _read_charset(self, reader: Reader) -> bool:
        """CONVERT TO CHARACTER SET and table options."""
        if reader.take("CONVERT", "TO"):
            if not reader.take("CHARSET"):
                reader.need("CHARACTER", "SET")
            if reader.at("DEFAULT"):
                raise Unsure("the database's character set is not known")
            charset = reader.next().text
            collation = reader.next().text if reader.take("COLLATE") else None
            reader.end()
            self.alteration.convert = resolve_collation(self._dialect, charset, collation, None)
            self._collation = self.alteration.convert[1]
            return True
        if not self.alteration.options.read(reader):
            return False
        while not reader.done:
            if not self.alteration.options.read(reader):
                raise Unsure(f"table option {reader.peek().text!r}")
        return True

    def _read_clause(self, reader: Reader) -> None:
        if reader.take("ADD"):
            self._read_add(reader)
        elif reader.take("DROP"):
            self._read_drop(reader)
        elif reader.take("MODIFY"):
            reader.take("COLUMN")
            if_exists = reader.take("IF", "EXISTS")
            name = reader.name()
            self._change(name, name, reader, if_exists=if_exists)  # MODIFY changes the name's spelling, too
        elif reader.take("CHANGE"):
            reader.take("COLUMN")
            if_exists = reader.take("IF", "EXISTS")
            name = reader.name()
            self._change(name, reader.name(), reader, if_exists=if_exists)
        elif reader.take("RENAME", "COLUMN"):
            if_exists = reader.take("IF", "EXISTS")
            name = reader.name()
            reader.need("TO")
            new_name = reader.name()
            if self._exists(name, if_exists=if_exists):
                self.alteration.renames[name.lower()] = new_name
            reader.end()
        elif reader.take("ALTER"):
            self._read_alter_column(reader)
        elif reader.take("DISCARD|IMPORT", "TABLESPACE"):
            self.alteration.rows_lost = True
            reader.end()
        elif not _harmless(reader):
            raise Unsure(f"clause {reader.peek().text!r} is not understood")

    def _read_add(self, reader: Reader) -> None:
        """ADD: a column, several in parentheses, or a key."""
        column = reader.take("COLUMN")
        if_not_exists = reader.take("IF", "NOT", "EXISTS")
        if reader.peek().is_mark("("):
            for part in split(reader.group()):
                element = Reader(part)
                if not self._read_key(element):
                    self._add(element, if_not_exists=if_not_exists)
            reader.end()
        elif column or not self._read_key(reader):
            self._add(reader, if_not_exists=if_not_exists)

    def _add(self, reader: Reader, *, if_not_exists: bool) -> None:
        name = reader.name()
        definition = read_definition(name, reader, self._dialect, self._sql_mode, self._collation)
        taken = self._names - {drop.lower() for drop in self.alteration.drops}
        taken |= {other.column.name.lower() for other in self.alteration.adds}
        if name.lower() in taken:
            if not if_not_exists:
                raise Unsure(f"column {name} exists already")
            return
        self.alteration.adds.append(definition)
        self.alteration.placed.append(definition)
        self._note_keys(definition)

    def _read_key(self, reader: Reader) -> bool:
        """A key or constraint, of which only the primary key matters; False: it is a column."""
        key = read_key(reader, self._dialect)
        if key is not None and key.primary:
            self.alteration.primary_key = key.columns
        elif key is not None and key.unique:
            self.alteration.unique_keys.append(key.columns)
        return key is not None

    def _change(self, old: str, new: str, reader: Reader, *, if_exists: bool) -> None:
        definition = read_definition(new, reader, self._dialect, self._sql_mode, self._collation)
        if self._exists(old, if_exists=if_exists):
            self.alteration.changes.append((old.lower(), definition))
            if definition.place is not None:
                self.alteration.placed.append(definition)
            self._note_keys(definition)

    def _note_keys(self, definition: Definition) -> None:
        if definition.primary:
            self.alteration.primary_key = [definition.column.name]
        elif definition.unique:
            self.alteration.unique_keys.append([definition.column.name])

    def _read_drop(self, reader: Reader) -> None:
        if reader.take("PRIMARY", "KEY"):
            self.alteration.drop_primary = True
        elif reader.take("INDEX|KEY") or self._take_constraint(reader):
            reader.take("IF", "EXISTS")
            constraint = reader.name()
            self.alteration.drop_primary |= constraint.upper() == "PRIMARY"
        elif reader.take("FOREIGN", "KEY") or reader.take("CHECK"):
            reader.take("IF", "EXISTS")
            reader.name()
        elif reader.at("PERIOD", "FOR") or reader.at("SYSTEM", "VERSIONING"):
            raise Unsure("system-versioned tables")
        else:
            reader.take("COLUMN")
            if_exists = reader.take("IF", "EXISTS")
            name = reader.name()
            reader.take("RESTRICT|CASCADE")
            if self._exists(name, if_exists=if_exists):
                self.alteration.drops.append(name.lower())
        reader.end()

    def _take_constraint(self, reader: Reader) -> bool:
        """On MariaDB a check makes a column JSON, and a constraint's name does not say which column."""
        found = reader.take("CONSTRAINT")
        if found and self._dialect.mariadb and any(column.json for column in self._schema.columns):
            raise Unsure("the constraint may be what makes a column JSON")
        return found

    def _read_alter_column(self, reader: Reader) -> None:
        """ALTER [COLUMN]: defaults and visibility; ALTER INDEX, CHECK and CONSTRAINT change nothing of the rows."""
        if reader.take("INDEX|KEY|CHECK|CONSTRAINT"):
            return
        reader.take("COLUMN")
        name = reader.name()
        if reader.take("SET", "INVISIBLE") or reader.take("SET", "VISIBLE"):
            self.alteration.visibility[name.lower()] = reader.tokens[-1].is_word("INVISIBLE")
        elif not (reader.take("SET", "DEFAULT") or reader.take("DROP", "DEFAULT")):
            raise Unsure("ALTER COLUMN")

    def _exists(self, name: str, *, if_exists: bool) -> bool:
        if name.lower() in self._names:
            return True
        if if_exists:
            return False
        raise Unsure(f"there is no column {name}")

    def _read_partition_operation(self, reader: Reader) -> bool:
        """A statement that is one operation on partitions; False: it is none."""
        if reader.at("CONVERT", "TABLE") or reader.at("CONVERT", "PARTITION"):
            raise Unsure("rows move between this table and another")
        lose, keep = reader.at(_LOSE_ROWS, "PARTITION"), reader.at(_KEEP_ROWS, "PARTITION")
        self.alteration.rows_lost = lose
        return lose or keep


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


def _without_partitioning(tokens: Sequence[Token]) -> Sequence[Token]:
    """Cut PARTITION BY … or REMOVE PARTITIONING off the end: every row stays."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += token.is_mark("(") - token.is_mark(")")
        if depth == 0 and index + 1 < len(tokens):
            following = tokens[index + 1]
            if (token.is_word("PARTITION") and following.is_word("BY")) or (
                token.is_word("REMOVE") and following.is_word("PARTITIONING")
            ):
                return tokens[:index]
    return tokens


def _harmless(reader: Reader) -> bool:
    return (
        reader.at("ALGORITHM|LOCK|FORCE|NOWAIT|SECONDARY_LOAD|SECONDARY_UNLOAD")
        or reader.at("WITH|WITHOUT", "VALIDATION")
        or reader.at("ENABLE|DISABLE", "KEYS")
        or reader.at("ORDER", "BY")
        or reader.at("RENAME", "INDEX|KEY")
    )


@dataclass(frozen=True, slots=True)
class Altered:
    """A table after an ALTER; the flags as in SchemaChanged."""

    schema: TableSchema
    resnapshot: bool
    reshaped: bool


def apply(schema: TableSchema, alteration: Alteration, dialect: Dialect) -> Altered:
    """The table after the alteration. Raises Unsure where the clauses contradict each other or the schema."""
    changes = dict(alteration.changes)
    if len(changes) != len(alteration.changes) or changes.keys() & {*alteration.renames, *alteration.drops}:
        raise Unsure("one column is changed twice")
    if alteration.convert and (changes or alteration.adds):
        raise Unsure("CONVERT TO and column definitions in one statement")
    origin: dict[str, str] = {}  # new name -> old name, of columns that stay
    columns: list[Column] = []
    for column in schema.columns:
        key = column.name.lower()
        if key in alteration.drops:
            continue
        change = changes.get(key)
        after = change.column if change else _kept(column, alteration, dialect)
        origin[after.name] = column.name
        if change is None or change.place is None:
            columns.append(after)
    for definition in alteration.placed:
        _insert(columns, definition)
    names = [column.name.lower() for column in columns]
    if not columns or len(set(names)) != len(names):
        raise Unsure("the columns do not add up")
    renamed = {old: new for new, old in origin.items()}
    primary_key = _primary_key(schema, alteration, renamed, columns)
    columns = [replace(column, nullable=False) if column.name in primary_key else column for column in columns]
    collation = schema.collation
    if alteration.convert:
        collation = alteration.convert[1]
    elif alteration.options.names_charset:
        collation = alteration.options.resolve(dialect, schema.collation)
    old = {column.name: column for column in schema.columns}
    if dialect.mariadb:
        grown = [
            column for column in columns if column.name in origin and not is_long(old[origin[column.name]], dialect)
        ]
        if schema.hash_columns or any(is_long(column, dialect) for column in grown):
            raise Unsure("hidden columns of unique keys over long columns may come or go")
        refuse_hash_columns(alteration.unique_keys, columns, dialect)
    result = replace(schema, columns=tuple(columns), primary_key=primary_key, collation=collation)
    order = [origin[column.name] for column in columns if column.name in origin]
    return Altered(
        result,
        resnapshot=alteration.rows_lost
        or alteration.options.keeps_no_rows
        or bool(alteration.drops)
        or any(definition.shows for definition in alteration.adds)
        or primary_key != schema.primary_key
        or any(
            _shows_else(old[origin[column.name]], column, redefined=origin[column.name].lower() in changes)
            for column in columns
            if column.name in origin
        ),
        reshaped=[column.name for column in columns] != [column.name for column in schema.columns]
        or order != [column.name for column in schema.columns],
    )


def _kept(column: Column, alteration: Alteration, dialect: Dialect) -> Column:
    key = column.name.lower()
    if alteration.convert:
        column = converted(column, dialect, *alteration.convert)
    if key in alteration.renames:
        column = replace(column, name=alteration.renames[key])
    if key in alteration.visibility:
        column = replace(column, invisible=alteration.visibility[key])
    return column


def _insert(columns: list[Column], definition: Definition) -> None:
    if definition.place is None:
        columns.append(definition.column)
    elif definition.place == FIRST:
        columns.insert(0, definition.column)
    else:
        names = [column.name.lower() for column in columns]
        if definition.place.lower() not in names:
            raise Unsure(f"there is no column {definition.place}")
        columns.insert(names.index(definition.place.lower()) + 1, definition.column)


def _primary_key(
    schema: TableSchema, alteration: Alteration, renamed: dict[str, str], columns: list[Column]
) -> tuple[str, ...]:
    if alteration.primary_key is not None:
        if schema.primary_key and not alteration.drop_primary:
            raise Unsure("a second primary key")
        return named_key(alteration.primary_key, columns)
    if alteration.drop_primary:
        return ()
    return tuple(renamed[name] for name in schema.primary_key if name in renamed)


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


def _shows_else(old: Column, new: Column, *, redefined: bool) -> bool:
    """Whether SELECT may show another value in the same row. A laxer column, with nothing else changed, does not."""
    if redefined and (old.generated or new.generated):
        return True  # the expression may be another one
    if new.nullable:
        old = replace(old, nullable=True)
    return old != new


__all__ = ["AlterReader", "Alteration", "Altered", "apply", "named_key", "read_key", "refuse_hash_columns"]
