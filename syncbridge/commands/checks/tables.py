"""What `check` thinks of the mapped tables and of the mappings over them. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from syncbridge.capture.schema import INTEGER_TYPES, TEXT_TYPES, Column, TableSchema
from syncbridge.commands.checks.finding import Finding, error, ok, warning
from syncbridge.config import Config, Mapping
from syncbridge.sinks.mapping import CompiledMapping
from syncbridge.template import KEY, TABLE, Template

#: MySQL logs cascaded changes of child rows from here on. No server fires triggers for them.
CASCADES_LOGGED = (9, 6)
#: Foreign key rules that change child rows.
CASCADES = frozenset(("CASCADE", "SET NULL", "SET DEFAULT"))
#: information_schema's word for what is no view.
BASE_TABLE = "BASE TABLE"
#: Kinds of columns that say when a key expires.
_MOMENTS = frozenset(("int", "decimal", "float", "zerofill", "date", "datetime"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A foreign key of a mapped (child) table."""

    name: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_delete: str
    on_update: str

    @property
    def cascades(self) -> bool:
        return self.on_delete in CASCADES or self.on_update in CASCADES


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One mapped table. `schema` None: it does not exist, or the account may not see it."""

    db: str
    table: str
    schema: TableSchema | None = None
    #: "BASE TABLE", "VIEW", ...
    kind: str = BASE_TABLE
    engine: str = "InnoDB"
    #: Column sets of its unique indexes over whole columns, the primary key first.
    unique: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    #: Why a SELECT on it is refused; empty when it is not.
    select_error: str = ""

    @property
    def name(self) -> str:
        return f"{self.db}.{self.table}"


class Silence(NamedTuple):
    """What capture hears nothing of, and why: it reads the binlog, or what triggers report."""

    views: str
    #: Empty: cascaded changes are heard.
    cascades: str


def judge_tables(config: Config, tables: Sequence[TableFacts], flavor: str, version: tuple[int, ...]) -> list[Finding]:
    """Every mapped table, then every mapping of it, then what the mappings do to each other."""
    findings: list[Finding] = []
    silent = _silence(config, flavor, version)
    for facts in tables:
        found = list(_judge_table(facts, silent))
        if facts.schema is not None and facts.kind == BASE_TABLE:
            for index, mapping in enumerate(config.mappings):
                if mapping.covers(facts.db, facts.table):
                    found += _judge_mapping(f"mappings[{index}]", mapping, facts)
        findings += found or [ok("table", f"{facts.name} can be mirrored")]
    for index, mapping in enumerate(config.mappings):
        if mapping.db == "syncbridge":
            findings.append(
                error("own-schema", f"mappings[{index}] maps syncbridge's own schema", "remove this mapping")
            )
        elif mapping.wildcard and not any(mapping.covers(facts.db, facts.table) for facts in tables):
            findings.append(
                warning(
                    "no-tables",
                    f"mappings[{index}]: database {mapping.db} has no tables, or the account may not see them",
                    f"GRANT SELECT ON {_quoted(mapping.db)}.* TO the account of source.url;",
                )
            )
    findings += _same_keys(config, tables)
    return findings


def _silence(config: Config, flavor: str, version: tuple[int, ...]) -> Silence:
    if config.source.capture == "trigger":
        return Silence("no trigger fires for its changes", "without firing a trigger")
    logged = flavor == "mysql" and version >= CASCADES_LOGGED
    return Silence("its changes are not in the binlog", "" if logged else "without a trace in the binlog")


def _judge_table(facts: TableFacts, silent: Silence) -> Iterator[Finding]:
    name = _quoted(facts.db, facts.table)
    if facts.schema is None:
        yield error(
            "table-missing",
            f"table {facts.name} does not exist, or the account may not see it",
            f"correct the mapping, create the table, or GRANT SELECT ON {name} TO the account of source.url;",
        )
        return
    if facts.kind != BASE_TABLE:
        yield error(
            "not-a-table",
            f"{facts.name} is a {facts.kind.lower()}: {silent.views}",
            "map the tables that it is made of",
        )
        return
    if facts.select_error:
        yield error(
            "select-privilege",
            f"{facts.name} cannot be read: {facts.select_error}",
            f"GRANT SELECT ON {name} TO the account of source.url;",
        )
    if facts.engine.lower() != "innodb":
        yield error(
            "engine",
            f"{facts.name} uses {facts.engine}, which has no consistent reads: a snapshot of it could be wrong",
            f"ALTER TABLE {name} ENGINE=InnoDB;",
        )
    if not silent.cascades:
        return
    for key in facts.foreign_keys:
        if key.cascades:
            rules = " ".join(
                f"ON {what} {rule}"
                for what, rule in (("DELETE", key.on_delete), ("UPDATE", key.on_update))
                if rule in CASCADES
            )
            yield error(
                "cascade",
                f"foreign key {key.name} of {facts.name} ({rules}) changes its rows {silent.cascades}",
                _without_cascade(facts, key),
            )


def _without_cascade(facts: TableFacts, key: ForeignKey) -> str:
    child = ", ".join(_quoted(column) for column in key.columns)
    parent = ", ".join(_quoted(column) for column in key.parent_columns)
    return (
        f"ALTER TABLE {_quoted(facts.db, facts.table)} DROP FOREIGN KEY {_quoted(key.name)}, ADD FOREIGN KEY ({child})"
        f" REFERENCES {_quoted(*key.parent.split('.', 1))} ({parent});  -- and change the child rows by statements"
    )


def _judge_mapping(path: str, mapping: Mapping, facts: TableFacts) -> Iterator[Finding]:
    schema = facts.schema
    assert schema is not None
    identity, wrong = _identity(path, mapping, facts, schema)
    yield from wrong
    for sentence in CompiledMapping(mapping, facts.db, facts.table).check_columns(kinds_of(schema), identity or ("?",)):
        yield error("mapping", f"{path}: {sentence} ({facts.name})", f"correct {path} in sync.yaml")
    known = {column.name: column for column in schema.columns}
    if mapping.ttl is not None and mapping.ttl.column in known:
        kind = kinds_of(schema)[mapping.ttl.column]
        if kind not in _MOMENTS:
            yield error(
                "ttl",
                f"{path}.ttl: column {mapping.ttl.column} of {facts.name} is {kind}, not seconds and not a moment",
                "name an integer, decimal, DATE, DATETIME or TIMESTAMP column, or a fixed duration such as 7d",
            )
    yield from _judge_key(path, mapping, facts, schema, identity)


def _identity(
    path: str, mapping: Mapping, facts: TableFacts, schema: TableSchema
) -> tuple[tuple[str, ...], list[Finding]]:
    """The columns that name a row, and what is wrong with them."""
    if schema.primary_key:
        return schema.primary_key, []
    name = _quoted(facts.db, facts.table)
    if not mapping.unique:
        return (), [
            error(
                "no-primary-key",
                f"{facts.name} has no primary key",
                f"ALTER TABLE {name} ADD COLUMN id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY;"
                f" or name unique NOT NULL columns: {path}.unique",
            )
        ]
    columns = {column.name: column for column in schema.columns}
    if missing := [column for column in mapping.unique if column not in columns]:
        return (), [
            error("unique", f"{path}.unique: {facts.name} has no column {missing[0]}", f"correct {path}.unique")
        ]
    findings = []
    quoted = ", ".join(_quoted(column) for column in mapping.unique)
    if nullable := [column for column in mapping.unique if columns[column].nullable]:
        findings.append(
            error(
                "unique",
                f"{path}.unique: column {nullable[0]} of {facts.name} may be NULL",
                f"ALTER TABLE {name} MODIFY {_quoted(nullable[0])} {columns[nullable[0]].column_type} NOT NULL;",
            )
        )
    if not _is_unique(mapping.unique, facts):
        findings.append(
            error(
                "unique",
                f"{path}.unique: {', '.join(mapping.unique)} of {facts.name} is not unique",
                f"ALTER TABLE {name} ADD UNIQUE ({quoted});",
            )
        )
    return mapping.unique, findings


def _judge_key(
    path: str, mapping: Mapping, facts: TableFacts, schema: TableSchema, identity: tuple[str, ...]
) -> Iterator[Finding]:
    template = Template(mapping.key)
    named = [part for name in template.columns if name != TABLE for part in (identity if name == KEY else (name,))]
    columns = {column.name: column for column in schema.columns}
    if not named or any(name not in columns for name in named):
        return  # said elsewhere
    if not _is_unique(named, facts):
        yield error(
            "key-not-unique",
            f"{path}.key: {mapping.key} holds one row, but {', '.join(named)} of {facts.name} is not unique: rows would"
            " overwrite one another",
            f"ALTER TABLE {_quoted(facts.db, facts.table)} ADD UNIQUE ({', '.join(_quoted(n) for n in named)});"
            f" or add a column to {path}.key",
        )
    if nullable := [name for name in named if columns[name].nullable and "null" not in mapping.where.lower()]:
        yield warning(
            "key-nullable",
            f"{path}.key: rows of {facts.name} whose {nullable[0]} is NULL have no key and become dead letters",
            f'where: "{nullable[0]} IS NOT NULL"  in {path}',
        )
    yield from _ambiguous(path, mapping, facts, template, columns)


def _ambiguous(
    path: str, mapping: Mapping, facts: TableFacts, template: Template, columns: dict[str, Column]
) -> Iterator[Finding]:
    """Two different rows may yield one text: `{a}{b}` of (1, 23) and (12, 3)."""
    parts = template.render(lambda name: f"\0{name}\0") or ""
    pieces = parts.split("\0")  # literal, name, literal, name, ..., literal
    for index in range(1, len(pieces) - 2, 2):
        first, between, second = pieces[index : index + 3]
        if first == TABLE or second == TABLE:
            continue
        if not between:
            yield error(
                "key-ambiguous",
                f"{path}.key: {{{first}}} and {{{second}}} stand side by side, so two rows may share a key",
                f"put a character between them: {{{first}}}:{{{second}}}",
            )
        elif (column := columns.get(first)) is not None and column.data_type in TEXT_TYPES - {"enum"}:
            yield warning(
                "key-ambiguous",
                f"{path}.key: a {first} that contains {between!r} may give two rows of {facts.name} one key",
                f"put {{{first}}} last in {path}.key, or make sure that it never contains {between!r}",
            )


def _is_unique(columns: Sequence[str], facts: TableFacts) -> bool:
    """Whether these columns contain a unique index."""
    return any(set(unique) <= set(columns) for unique in facts.unique)


def _same_keys(config: Config, tables: Sequence[TableFacts]) -> Iterator[Finding]:
    """Two mappings whose keys are one text once `{_table}` and `{_key}` are filled in."""
    seen: dict[str, str] = {}
    for facts in tables:
        if facts.schema is None:
            continue
        identity = facts.schema.primary_key
        for index, mapping in enumerate(config.mappings):
            if not mapping.covers(facts.db, facts.table):
                continue
            names = {TABLE: facts.table, KEY: ":".join(f"\0{name}" for name in identity or mapping.unique)}
            shape = Template(mapping.key).render(lambda name, names=names: names.get(name, f"\0{name}")) or ""  # type: ignore[misc]
            what = f"mappings[{index}] for {facts.name}"
            # Of two tables, whatever the columns are called; of one, only if they are the same.
            other = seen.setdefault(shape, what)
            if other != what:
                yield error("same-keys", f"{what} writes the same keys as {other}", f"change mappings[{index}].key")


def kinds_of(schema: TableSchema) -> dict[str, str]:
    """Column -> kind as events name it, "int" or "text" for the plain ones."""
    integers = INTEGER_TYPES | {"bit"}
    return {
        column.name: column.kind or ("int" if column.data_type in integers else "text") for column in schema.columns
    }


def _quoted(*names: str) -> str:
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)
