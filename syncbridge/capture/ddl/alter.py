"""ALTER TABLE: reads the clauses of one statement into an `Alteration`, which apply.py then applies as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from syncbridge.capture.ddl.apply import Alteration
from syncbridge.capture.ddl.columns import Definition, read_definition
from syncbridge.capture.ddl.dialect import Dialect
from syncbridge.capture.ddl.keys import read_key
from syncbridge.capture.ddl.text import Reader, Token, Unsure, split
from syncbridge.capture.ddl.types import resolve_collation
from syncbridge.capture.schema import TableSchema

#: Partition operations that remove or replace rows without row events; the others keep every row.
_LOSE_ROWS = "DROP|TRUNCATE|DISCARD|IMPORT"
_KEEP_ROWS = "ADD|COALESCE|REORGANIZE|REBUILD|OPTIMIZE|ANALYZE|CHECK|REPAIR"


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
