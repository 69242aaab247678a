"""CREATE TABLE with a full definition -> the table's schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from syncbridge.capture.ddl.columns import Definition, read_definition
from syncbridge.capture.ddl.dialect import Dialect
from syncbridge.capture.ddl.keys import Key, named_key, read_key, refuse_hash_columns
from syncbridge.capture.ddl.options import Options
from syncbridge.capture.ddl.text import Reader, Token, Unsure, split
from syncbridge.capture.schema import TableSchema


def read_table(
    db: str, table: str, elements: Sequence[Token], options: Reader, dialect: Dialect, sql_mode: int
) -> TableSchema:
    """The schema from the tokens in the parentheses and the table options behind them.

    Raises Unsure also where it depends on what the statement does not say: the database's default character set, or
    MySQL's sql_generate_invisible_primary_key.
    """
    collation = _read_options(options).resolve(dialect, None)
    definitions: list[Definition] = []
    primary_key: list[str] = []
    unique_keys: list[list[str]] = []
    for part in split(elements):
        reader = Reader(part)
        key = read_key(reader, dialect)
        if key is None:
            name = reader.name()
            definition = read_definition(name, reader, dialect, sql_mode, collation)
            definitions.append(definition)
            key = Key(definition.primary, definition.unique, [name])
        if key.primary:
            primary_key += key.columns
        elif key.unique:
            unique_keys.append(key.columns)
    columns = [definition.column for definition in definitions]
    if dialect.mariadb:
        refuse_hash_columns(unique_keys, columns, dialect)
    names = named_key(primary_key, columns)
    if not columns or (not names and not dialect.mariadb):
        raise Unsure("the server may have added a primary key of its own")
    return TableSchema(
        db,
        table,
        tuple(replace(column, nullable=column.nullable and column.name not in names) for column in columns),
        names,
        collation,
    )


def _read_options(reader: Reader) -> Options:
    options = Options()
    while not reader.done and not reader.peek().is_mark(";"):
        if reader.at("PARTITION", "BY"):
            break
        reader.mark(",")
        if not options.read(reader):
            raise Unsure(f"table option {reader.peek().text!r}")
    return options
