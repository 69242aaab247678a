"""What an ALTER TABLE makes of a table's schema, all clauses together: drops, then changes, additions and moves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from syncbridge.capture.ddl.columns import FIRST, Definition
from syncbridge.capture.ddl.dialect import Dialect
from syncbridge.capture.ddl.keys import is_long, named_key, refuse_hash_columns
from syncbridge.capture.ddl.options import Options
from syncbridge.capture.ddl.text import Unsure
from syncbridge.capture.ddl.types import converted
from syncbridge.capture.schema import Column, TableSchema


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


def _shows_else(old: Column, new: Column, *, redefined: bool) -> bool:
    """Whether SELECT may show another value in the same row. A laxer column, with nothing else changed, does not."""
    if redefined and (old.generated or new.generated):
        return True  # the expression may be another one
    if new.nullable:
        old = replace(old, nullable=True)
    return old != new
