"""What an event means for Redis: a mapping compiled for one table turns events into key operations.

Pure: events in, operations out. It never looks at Redis; whether an operation is newer than what is stored is decided
by apply.lua, where the operation's arguments are described.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from syncbridge.config import Config
from syncbridge.config import Mapping as MappingConfig
from syncbridge.errors import ColumnMissing, PermanentError
from syncbridge.event import CREATE, DELETE, READ, UPDATE, Event, Row, place
from syncbridge.expression import compile_expression
from syncbridge.sinks.keys import GUARD_FIELD, guard
from syncbridge.sinks.render import MASK, encode_key, json_converter, key_text, text_converter
from syncbridge.template import KEY, TABLE, Template, join_key

#: Operation codes, see apply.lua.
WRITE_HASH, WRITE_STRING = "H", "S"
REMOVE_HASH, REMOVE_STRING = "h", "s"
REMOVE_OUR_HASH, REMOVE_OUR_STRING = "d", "t"
EXPIRE_HASH, EXPIRE_STRING = "x", "y"
_WRITES = frozenset((WRITE_HASH, WRITE_STRING))

#: (column, field or name shown, converter or None)
_Plan = list[tuple[str, Any, Callable[[Any], Any] | None]]
_Renderer = Callable[[Row], str | None]


class Operation(NamedTuple):
    """One change of one key: the code, the data key and the arguments that follow the code in ARGV."""

    code: str
    key: bytes
    arguments: list[Any]

    @property
    def writes(self) -> bool:
        """Whether it sets data from the event's payload (a removal only needs the guard)."""
        return self.code in _WRITES


class Expected(NamedTuple):
    """What Redis should hold for a row: for verify and explain."""

    key: bytes
    #: "hash" or "string", as Redis's TYPE says.
    type: str
    #: Of a hash its fields without the guard, of a string its bytes.
    content: dict[bytes, bytes] | bytes


class CompiledMapping:
    """One entry of `mappings`, ready for the rows of `db.table`.

    id: 8 hex digits that name it in guards; a wildcard mapping has one for each table. Not safe for threads.
    """

    def __init__(self, mapping: MappingConfig, db: str, table: str, *, max_value: int = 2**62) -> None:
        self.config = mapping
        self.db = db
        self.table = table
        self.place = place(db, table)
        self.id = mapping_id(mapping, db, table)
        self.hash = mapping.type == "hash"
        self._max_value = max_value
        self._template = Template(mapping.key)
        self._value = Template(mapping.value) if mapping.type == "string" else None
        self._where = compile_expression(mapping.where) if mapping.where else None
        self._shape: Shape | None = None

    # Events

    def operations(self, event: Event, *, check_size: bool = False) -> list[Operation]:
        """The key operations of a row event, in order. Raises PermanentError when the row cannot be shown.

        check_size: refuse values over the sink's limit; the caller knows whether the event can hold one.
        """
        op, types, version = event["op"], event.get("types") or {}, event["version"]
        primary = tuple(event.get("key") or ())
        before, after = event.get("before"), event.get("after")
        if op == DELETE:
            return self._deleted(event["key"] if before is None else before, types, version, primary)
        if after is None or op not in (CREATE, UPDATE, READ):
            raise PermanentError(f"a {op!r} event of {self.db}.{self.table} lacks its row")
        shape = self._shape_of(after, types, primary)
        if self._where is not None and not self._matches(after, types):
            if op == READ:
                return self._unmatched(shape, after, version)
            old = None if before is None else self._old_key(shape, before, types)
            return [] if before is None or old is None else [self._removal(shape, old, before, version)]
        key = self._key(shape, after)
        out = []
        if op == UPDATE and before is not None and shape.key_differs(before, after):
            old = self._old_key(shape, before, types)
            if old is not None and old != key:
                out.append(self._removal(shape, old, before, version))
        out.append(self._write(shape, key, after, version, event.get("gone") or ()))
        if check_size:
            self._check_size(out[-1])
        return out

    def _deleted(self, row: Row, types: Mapping[str, str], version: str, primary: tuple[str, ...]) -> list[Operation]:
        if self.config.on_delete.action == "keep":
            return []
        try:
            return self._deletion(row, types, version, primary)
        except ColumnMissing:
            if self.config.function:
                raise
            return []  # the row was gone before the mapping looked at this column: it never had a key

    def _deletion(self, row: Row, types: Mapping[str, str], version: str, primary: tuple[str, ...]) -> list[Operation]:
        shape = self._shape_of(row, types, primary)
        # A row that was read again and found missing has no image: its key columns are all we know of it.
        if len(row) > len(primary):
            if not self._matches(row, types):
                return []
        elif not self._key_columns(primary) <= set(primary):
            return []  # which key it had is unknown; verify finds what is left
        text = shape.key(row)
        if text is None:
            return []  # a row whose key has a NULL was never written
        if self.config.on_delete.action == "expire":
            code = EXPIRE_HASH if self.hash else EXPIRE_STRING
            ms = max(1, int(self.config.on_delete.after * 1000))
            return [Operation(code, encode_key(text), [self._guard(shape, row, version), ms])]
        return [self._removal(shape, encode_key(text), row, version)]

    def _unmatched(self, shape: Shape, row: Row, version: str) -> list[Operation]:
        """A row that was read and is not shown: its key goes if it is there. A tombstone for each would be too many."""
        text = shape.key(row) if shape.owner is None else None  # else the key is not known to be this row's
        if text is None:
            return []
        code = REMOVE_OUR_HASH if self.hash else REMOVE_OUR_STRING
        return [Operation(code, encode_key(text), [self._guard(shape, row, version)])]

    def _matches(self, row: Row, types: Mapping[str, str]) -> bool:
        return self._where is None or self._where(row, types) is True

    def _old_key(self, shape: Shape, row: Row, types: Mapping[str, str]) -> bytes | None:
        """The key that this image had, None when it had none."""
        try:
            if not self._matches(row, types):
                return None
            text = shape.key(row)
        except (ColumnMissing, KeyError):  # captured before the mapping looked at this column: it had no key yet
            return None
        return None if text is None else encode_key(text)

    def _removal(self, shape: Shape, key: bytes, row: Row, version: str) -> Operation:
        return Operation(REMOVE_HASH if self.hash else REMOVE_STRING, key, [self._guard(shape, row, version)])

    def _write(self, shape: Shape, key: bytes, row: Row, version: str, gone: Sequence[str]) -> Operation:
        ttl = self._ttl(row, shape.types)
        if ttl is None:
            return self._removal(shape, key, row, version)
        stamp = self._guard(shape, row, version)
        if self.hash:
            return self.write_hash(shape, key, row, stamp, ttl, gone)
        content = self.content(shape, row)
        if content is None:
            return self._removal(shape, key, row, version)
        return Operation(WRITE_STRING, key, [ttl, stamp, content])

    def write_hash(
        self, shape: Shape, key: bytes, row: Row, stamp: str | bytes, ttl: str, gone: Sequence[str]
    ) -> Operation:
        values = shape.values(row)
        if not (gone or shape.excluded or None in values):
            arguments = shape.full_row.copy()
            arguments[0], arguments[4] = ttl, stamp
            arguments[6::2] = values
            for place, converted in shape.converters:
                arguments[place] = converted(arguments[place])
            return Operation(WRITE_HASH, key, arguments)
        absent = self.absent_fields(shape, gone)
        arguments = [ttl, 0, 0, GUARD_FIELD, stamp]
        for column, field, convert in shape.plan:
            value = row[column]
            if value is None:
                absent.append(field)
            else:
                arguments.append(field)
                arguments.append(value if convert is None else convert(value))
        arguments[1] = len(arguments) - 3
        arguments[2] = len(absent)
        arguments += absent
        return Operation(WRITE_HASH, key, arguments)

    def absent_fields(self, shape: Shape, gone: Sequence[str]) -> list[bytes]:
        """Fields that no row of this shape has, and earlier ones may have left; those that are NULL not among them."""
        fields = [self.config.columns.rename.get(name, name) for name in gone]
        left = [field.encode() for field in fields if field not in shape.shown and not field.startswith("_")]
        return [*shape.excluded, *left]

    @property
    def plain(self) -> bool:
        """Whether a row's columns alone say what becomes of it: no `where`, and the ttl is the same for all."""
        return self._where is None and (self.config.ttl is None or not self.config.ttl.column)

    @property
    def plain_ttl(self) -> str:
        """The ttl of every row where `plain`, as apply.lua wants it."""
        return self._ttl({}, {}) or "0"

    def content(self, shape: Shape, row: Row) -> bytes | None:
        """What a json or string key holds; None when the value of a string is NULL."""
        if self._value is not None:
            text = shape.value(row)
            return None if text is None else encode_key(text)
        document = {}
        for column, name, convert in shape.plan:
            value = row[column]
            document[name] = value if value is None or convert is None else convert(value)
        return orjson.dumps(document)

    def _key(self, shape: Shape, row: Row) -> bytes:
        text = shape.key(row)
        if text is None:
            raise PermanentError(
                f"key {self._template.text!r} has a NULL column in this row",
                hint="leave such rows out with where: <column> IS NOT NULL",
            )
        return encode_key(text)

    def _guard(self, shape: Shape, row: Row, version: str) -> str | bytes:
        stamp = guard(version, self.id)
        return stamp if shape.owner is None else encode_key(stamp + (shape.owner(row) or ""))

    def _check_size(self, operation: Operation) -> None:
        arguments = operation.arguments
        if operation.code == WRITE_HASH:
            values = arguments[6 : 3 + arguments[1] : 2]
        else:
            values = arguments[2:] if operation.code == WRITE_STRING else []
        largest = max((len(as_bytes(value)) for value in values), default=0)
        if largest > self._max_value:
            raise PermanentError(
                f"a value of {largest} bytes is over the limit of {self._max_value}",
                hint="raise sink.max_value, or exclude the column",
            )

    def _ttl(self, row: Row, types: Mapping[str, str]) -> str | None:
        """Milliseconds to live as apply.lua wants them: "0" for ever; None when the moment has passed."""
        ttl = self.config.ttl
        if ttl is None:
            return "0"
        if not ttl.column:
            return str(max(1, int(ttl.seconds * 1000)))
        if ttl.column not in row:
            raise ColumnMissing(f"ttl names column {ttl.column}, which the row does not have")
        value = row[ttl.column]
        if value is None:
            return "0"
        ms = _milliseconds(value, types.get(ttl.column))
        return str(ms) if ms > 0 else None

    # What failures ask

    def row_key(self, event: Event) -> dict[str, Any]:
        """What names the event's row in the retry table."""
        return event.get("key") or {}

    def payload(self, event: Event) -> bytes:
        """What the retry table keeps of the event."""
        return orjson.dumps(event)

    # What verify, explain, check and sweeps ask

    def shows(self, name: str) -> bool:
        """Whether Redis sees this column."""
        return self.config.columns.shows(name)

    def expected(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> Expected | None:
        """What Redis should hold for this row now; None when it should hold nothing. Raises PermanentError."""
        shown = self._shown(row, types, primary)
        if shown is None:
            return None
        shape, key = shown
        if not self.hash:
            content = self.content(shape, row)
            return None if content is None else Expected(key, "string", content)
        fields = self.write_hash(shape, key, row, "", "", ()).arguments
        pairs = [as_bytes(item) for item in fields[5 : 3 + fields[1]]]
        return Expected(key, "hash", dict(zip(pairs[::2], pairs[1::2], strict=True)))

    def yields(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> bytes | None:
        """The key that Redis should hold for this row now, None when none. Raises PermanentError."""
        if not self.hash:  # whose value may be NULL
            expected = self.expected(row, types, primary)
            return None if expected is None else expected.key
        shown = self._shown(row, types, primary)
        return None if shown is None else shown[1]

    def _shown(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> tuple[Shape, bytes] | None:
        """Shape and key of a row that is to be in Redis now; None for any other. Raises PermanentError."""
        if not self._matches(row, types) or self._ttl(row, types) is None:
            return None
        shape = self._shape_of(row, types, primary)
        return shape, self._key(shape, row)

    def key_pattern(self) -> str:
        """The SCAN pattern that all its keys match; others may, too."""
        return self._template.glob(self.table)

    def owned(self, primary: tuple[str, ...]) -> bool:
        """Whether guards name the owner row: the template does not cover exactly the primary key (DESIGN P2)."""
        return self._key_columns(primary) != set(primary)

    def _key_columns(self, primary: tuple[str, ...]) -> set[str]:
        named = {name for name in self._template.columns if name not in (TABLE, KEY)}
        return named | set(primary) if KEY in self._template.columns else named

    def check_columns(self, kinds: Mapping[str, str], primary: tuple[str, ...]) -> list[str]:
        """What is wrong with this mapping for a table of these columns: sentences, none when it fits.

        kinds: column -> kind as event.py names it, "int" or "text" for the unnamed ones.
        """
        findings = []
        columns = self.config.columns
        templates = self._template.columns + (() if self._value is None else self._value.columns)
        named = [*templates, *columns.include, *columns.exclude, *columns.rename, *columns.mask]
        if self.config.ttl is not None and self.config.ttl.column:
            named.append(self.config.ttl.column)
        missing = [name for name in dict.fromkeys(named) if name not in kinds and name not in (TABLE, KEY)]
        findings += [f"the table has no column {name}" for name in missing]
        if not primary:
            findings.append("the table has no primary key: name unique columns that are NOT NULL")
        if self._where is not None:
            try:
                self._where.check_kinds(kinds)
            except ValueError as error:
                findings.append(f"where: {error}")
        try:
            Shape(self, list(kinds), kinds, primary)
        except PermanentError as error:
            findings.append(str(error))
        return findings

    def _shape_of(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> Shape:
        return self.shape_of(row, types, primary)

    def shape_of(self, columns: Iterable[str], types: Mapping[str, str], primary: tuple[str, ...]) -> Shape:
        """What is known of rows with these columns. Raises PermanentError when they cannot be shown."""
        shape, names = self._shape, list(columns)
        if shape is None or shape.names != names or shape.types != types or shape.primary != primary:
            shape = self._shape = Shape(self, names, types, primary)
        return shape

    def renderer(self, template: Template, shape: Shape, *, masked: bool) -> _Renderer:
        """`template` as a function of rows of this shape."""
        names = template.columns
        if len(names) == 1 and names[0] in shape.names and shape.types.get(names[0]) != "binary" and not masked:
            return _one_column(template, names[0])
        texts: dict[str, Callable[[Row], str | None]] = {}
        for name in names:
            if name == TABLE:
                texts[name] = lambda _: self.table
            elif name == KEY:
                texts[name] = shape.primary_text
            else:
                hidden = masked and name in self.config.columns.mask
                texts[name] = _column_text(template, name, shape.types.get(name), hidden=hidden)
        return lambda row: template.render(lambda name: texts[name](row))

    @property
    def templates(self) -> tuple[Template, Template | None]:
        """The key's template and the value's, for `Shape`."""
        return self._template, self._value


class Shape:
    """What can be known before a row comes: everything that depends on columns, kinds and primary key only."""

    def __init__(
        self, mapping: CompiledMapping, names: list[str], types: Mapping[str, str], primary: tuple[str, ...]
    ) -> None:
        self.names = names
        self.types = types
        self.primary = primary
        #: Field or name shown -> column.
        self.shown: dict[str, str] = {}
        self.plan: _Plan = []
        for name in names:
            self._show(mapping, name)
        #: Fields that an earlier configuration of this mapping may have written.
        hidden = [name for name in names if name not in self.shown and not name.startswith("_")]
        self.excluded = [name.encode() for name in hidden]
        columns = [column for column, _, _ in self.plan]
        #: The values of a row in the order of the plan.
        self.values: Callable[[Row], Sequence[Any]] = (
            itemgetter(*columns) if len(columns) > 1 else lambda row: [row[column] for column in columns]
        )
        #: The arguments that write a row without NULLs, but for its values, ttl and guard; and what converts values.
        self.full_row: list[Any] = ["0", 2 * len(columns) + 2, 0, GUARD_FIELD, ""]
        self.converters: list[tuple[int, Callable[[Any], Any]]] = []
        for at, (_, field, convert) in enumerate(self.plan):
            self.full_row += (field, None)
            if convert is not None:
                self.converters.append((6 + 2 * at, convert))
        template, value = mapping.templates
        self.key = mapping.renderer(template, self, masked=False)
        self.value = mapping.renderer(value or template, self, masked=bool(mapping.config.columns.mask))
        self.owner: _Renderer | None = self.primary_text if mapping.owned(primary) else None
        self.key_names = [name for name in template.columns if name not in (TABLE, KEY)]
        self.key_names += primary if KEY in template.columns else ()

    def _show(self, mapping: CompiledMapping, name: str) -> None:
        columns = mapping.config.columns
        if not mapping.shows(name):
            return
        field = columns.rename.get(name, name)
        if field in self.shown:
            raise PermanentError(
                f"columns {self.shown[field]} and {name} would both be shown as {field}", hint="rename one of them"
            )
        self.shown[field] = name
        if mapping.hash and field.startswith("_"):
            raise PermanentError(
                f"field names that start with _ are syncbridge's own, and the table has a column {name}",
                hint="rename or exclude it under mappings.columns",
            )
        kind = self.types.get(name)
        of_kind = text_converter(kind) if mapping.hash else json_converter(kind)
        convert: Callable[[Any], Any] | None = _mask if name in columns.mask else of_kind
        self.plan.append((name, field.encode() if mapping.hash else field, convert))

    def key_differs(self, before: Row, after: Row) -> bool:
        """Whether the two images may have different keys, or only one of them a key at all."""
        for name in self.key_names:  # noqa: SIM110 - any() costs twice as much for one or two columns
            if before.get(name) != after.get(name):
                return True
        return False

    def primary_text(self, row: Row) -> str | None:
        """The text of `{_key}`, also what names an owner."""
        if not self.primary:
            raise PermanentError("the row has no key columns", hint="name unique columns in this mapping")
        values = [row[name] for name in self.primary]
        if None in values:
            return None
        types = self.types
        return join_key([key_text(value, types.get(name)) for name, value in zip(self.primary, values, strict=True)])


def _one_column(template: Template, name: str) -> _Renderer:
    """The common case, a template with one column: one concatenation."""
    before, _, after = (template.render(lambda _: "\0") or "").partition("\0")
    if "\0" in after:  # the column occurs twice
        return lambda row: None if row[name] is None else template.render(lambda _: str(row[name]))

    def render(row: Row) -> str | None:
        value = row[name]
        return None if value is None else f"{before}{value}{after}"

    return render


def _column_text(template: Template, name: str, kind: str | None, *, hidden: bool) -> _Renderer:
    def text(row: Row) -> str | None:
        try:
            value = row[name]
        except KeyError:
            raise ColumnMissing(
                f"{template.text!r} names column {name}, which the row does not have",
                hint="correct the template in sync.yaml",
            ) from None
        if value is None:
            return None
        return MASK if hidden else key_text(value, kind)

    return text


def _mask(_: Any) -> str:
    return MASK


def _milliseconds(value: Any, kind: str | None) -> int:
    """Seconds from now of a number, or the way from now to a moment (UTC)."""
    if isinstance(value, int):
        return value * 1000
    try:
        if kind in ("date", "datetime"):
            day, _, clock = value.partition(" ")
            hour, minute, second = (clock or "0:0:0").split(":")
            year, month, monthday = day.split("-")
            whole, _, fraction = second.partition(".")
            moment = calendar.timegm((int(year), int(month), int(monthday), int(hour), int(minute), int(whole)))
            return int(moment * 1000 + int((fraction or "0").ljust(3, "0")[:3]) - time.time() * 1000)
        if kind in ("decimal", "float", "zerofill"):
            return int(Decimal(value) * 1000)
    except (ValueError, ArithmeticError) as error:
        raise PermanentError(f"ttl {value!r} is not a moment: {error}") from error
    raise PermanentError("a ttl column holds seconds or a date, not text")


def mapping_id(mapping: MappingConfig, db: str, table: str) -> str:
    """The mapping's id in guards: of `shop.*` the id that a mapping of `shop.orders` alone would have."""
    return mapping.model_copy(update={"table": f"{db}.{table}"}).id if mapping.wildcard else mapping.id


def as_bytes(item: Any) -> bytes:
    """An ARGV item as Redis receives it."""
    return item if isinstance(item, bytes) else str(item).encode()


class Mappings:
    """All mappings of a pipeline, compiled for each table when its first event comes."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._compiled: dict[tuple[str, str], list[CompiledMapping]] = {}

    def of(self, db: str, table: str) -> list[CompiledMapping]:
        compiled = self._compiled.get((db, table))
        if compiled is None:
            compiled = self._compiled[db, table] = [
                CompiledMapping(mapping, db, table, max_value=self._config.sink.max_value)
                for mapping in self._config.mappings_of(db, table)
            ]
        return compiled
