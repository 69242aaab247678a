"""What an event means for Redis: a mapping compiled for one table turns events into key operations.

Pure: events in, operations out. It never looks at Redis; whether an operation is newer than what is stored is decided
by apply.lua, where the operation's arguments are described.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from syncbridge.config import Config
from syncbridge.config import Mapping as MappingConfig
from syncbridge.errors import PermanentError
from syncbridge.event import CREATE, DELETE, READ, UPDATE, Event, Row
from syncbridge.expression import compile_expression
from syncbridge.sinks.keys import GUARD_FIELD, guard
from syncbridge.sinks.render import MASK, encode_key, json_converter, key_text, text_converter
from syncbridge.template import KEY, TABLE, Template, join_key

#: Operation codes, see apply.lua.
WRITE_HASH, WRITE_STRING = "H", "S"
REMOVE_HASH, REMOVE_STRING = "h", "s"
EXPIRE_HASH, EXPIRE_STRING = "x", "y"
_WRITES = frozenset((WRITE_HASH, WRITE_STRING))

#: (column, field or name shown, converter or None)
_Plan = list[tuple[str, Any, Callable[[Any], Any] | None]]


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
        self.id = mapping_id(mapping, db, table)
        self.hash = mapping.type == "hash"
        self._max_value = max_value
        self._key = Template(mapping.key)
        self._value = Template(mapping.value) if mapping.type == "string" else None
        self._where = compile_expression(mapping.where) if mapping.where else None
        self._plan_for: tuple[list[str], Mapping[str, str]] = ([], {})
        self._plan: _Plan = []
        self._excluded: list[bytes] = []
        self._owned: dict[tuple[str, ...], bool] = {}

    # Events

    def operations(self, event: Event, *, check_size: bool = False) -> list[Operation]:
        """The key operations of a row event, in order. Raises PermanentError when the row cannot be shown.

        check_size: refuse values over the sink's limit; the caller knows whether the event can hold one.
        """
        op, types, version = event["op"], event.get("types") or {}, event["version"]
        primary = tuple(event.get("key") or ())
        before, after = event.get("before"), event.get("after")
        if op == DELETE:
            return self._deleted(event, before, types, primary)
        if after is None or op not in (CREATE, UPDATE, READ):
            raise PermanentError(f"a {op!r} event of {self.db}.{self.table} lacks its row")
        old = self._old_key(before, types, primary) if op == UPDATE and before is not None else None
        if not self._matches(after, types):
            if op == READ:
                old = self._old_key(after, types, primary)
            return [] if old is None else [self._removal(old, version, before or after, types, primary)]
        key = self._key_of(after, types, primary)
        out = []
        if old is not None and old != key:
            out.append(self._removal(old, version, before or after, types, primary))
        out.append(self._write(key, after, types, version, primary, event.get("gone") or ()))
        if check_size:
            self._check_size(out[-1])
        return out

    def _deleted(
        self, event: Event, before: Row | None, types: Mapping[str, str], primary: tuple[str, ...]
    ) -> list[Operation]:
        # A row that was read again and found missing has no image: its key is all we know of it.
        row = event["key"] if before is None else before
        if self.config.on_delete.action == "keep":
            return []
        if len(row) > len(primary):
            if not self._matches(row, types):
                return []
        elif not self._covers(primary):
            return []  # which key it had is unknown; verify finds what is left
        text = self._render(self._key, row, types, primary)
        if text is None:
            return []  # a row whose key has a NULL was never written
        key = encode_key(text)
        if self.config.on_delete.action == "expire":
            code = EXPIRE_HASH if self.hash else EXPIRE_STRING
            ms = max(1, int(self.config.on_delete.after * 1000))
            return [Operation(code, key, [self._guard(event["version"], row, types, primary), ms])]
        return [self._removal(key, event["version"], row, types, primary)]

    def _matches(self, row: Row, types: Mapping[str, str]) -> bool:
        return self._where is None or self._where(row, types) is True

    def _old_key(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> bytes | None:
        """The key that this image had, None when it had none."""
        if not self._matches(row, types):
            return None
        text = self._render(self._key, row, types, primary)
        return None if text is None else encode_key(text)

    def _removal(
        self, key: bytes, version: str, row: Row, types: Mapping[str, str], primary: tuple[str, ...]
    ) -> Operation:
        code = REMOVE_HASH if self.hash else REMOVE_STRING
        return Operation(code, key, [self._guard(version, row, types, primary)])

    def _write(
        self,
        key: bytes,
        row: Row,
        types: Mapping[str, str],
        version: str,
        primary: tuple[str, ...],
        gone: Sequence[str] = (),
    ) -> Operation:
        ttl = self._ttl(row, types)
        if ttl is None:
            return self._removal(key, version, row, types, primary)
        stamp = self._guard(version, row, types, primary)
        if self.hash:
            return self._write_hash(key, row, types, stamp, ttl, gone)
        content = self._content(row, types, primary)
        if content is None:
            return self._removal(key, version, row, types, primary)
        return Operation(WRITE_STRING, key, [ttl, stamp, content])

    def _write_hash(
        self, key: bytes, row: Row, types: Mapping[str, str], stamp: str, ttl: str, gone: Sequence[str] = ()
    ) -> Operation:
        """`gone`: columns that the table had once; their fields are deleted too."""
        absent = []
        arguments: list[Any] = [ttl, 0, 0, GUARD_FIELD, stamp]
        for column, field, convert in self._plan_of(row, types):
            value = row[column]
            if value is None:
                absent.append(field)
            else:
                arguments.append(field)
                arguments.append(value if convert is None else convert(value))
        arguments[1] = len(arguments) - 3
        absent += self._excluded
        if gone:
            shown = {field for _, field, _ in self._plan}
            names = {self.config.columns.rename.get(name, name).encode() for name in gone}
            absent += sorted(name for name in names - shown if not name.startswith(b"_"))
        arguments[2] = len(absent)
        return Operation(WRITE_HASH, key, arguments + absent)

    def _content(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> bytes | None:
        """What a json or string key holds; None when the value of a string is NULL."""
        if self._value is not None:
            text = self._render(self._value, row, types, primary, self._masked(row))
            return None if text is None else encode_key(text)
        document = {}
        for column, name, convert in self._plan_of(row, types):
            value = row[column]
            document[name] = value if value is None or convert is None else convert(value)
        return orjson.dumps(document)

    def _check_size(self, operation: Operation) -> None:
        for argument in operation.arguments:
            size = 0 if isinstance(argument, int) else len(as_bytes(argument))
            if size > self._max_value:
                raise PermanentError(
                    f"a value of {size} bytes is over the limit of {self._max_value}",
                    hint="raise sink.max_value, or exclude the column",
                )

    # What verify, explain and check ask

    def expected(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> Expected | None:
        """What Redis should hold for this row now; None when it should hold nothing. Raises PermanentError."""
        if not self._matches(row, types) or self._ttl(row, types) is None:
            return None
        key = self._key_of(row, types, primary)
        if not self.hash:
            content = self._content(row, types, primary)
            return None if content is None else Expected(key, "string", content)
        fields = self._write_hash(key, row, types, "", "").arguments
        pairs = [as_bytes(item) for item in fields[5 : 3 + fields[1]]]
        return Expected(key, "hash", dict(zip(pairs[::2], pairs[1::2], strict=True)))

    def key_pattern(self) -> str:
        """The SCAN pattern that all its keys match; others may, too."""
        return self._key.glob(self.table)

    def check_columns(self, kinds: Mapping[str, str], primary: tuple[str, ...]) -> list[str]:
        """What is wrong with this mapping for a table of these columns: sentences, none when it fits.

        kinds: column -> kind as event.py names it, "int" or "text" for the unnamed ones.
        """
        findings = []
        columns = self.config.columns
        templates = self._key.columns + (() if self._value is None else self._value.columns)
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
            self._build_plan(list(kinds), kinds)
        except PermanentError as error:
            findings.append(str(error))
        return findings

    # Parts

    def _plan_of(self, row: Row, types: Mapping[str, str]) -> _Plan:
        names = list(row)
        if self._plan_for != (names, types):
            self._plan = self._build_plan(names, types)
            self._plan_for = (names, types)
        return self._plan

    def _build_plan(self, names: list[str], types: Mapping[str, str]) -> _Plan:
        columns = self.config.columns
        plan: _Plan = []
        shown: dict[str, str] = {}
        for name in names:
            if (columns.include and name not in columns.include) or name in columns.exclude:
                continue
            field = columns.rename.get(name, name)
            if field in shown:
                raise PermanentError(
                    f"columns {shown[field]} and {name} would both be shown as {field}", hint="rename one of them"
                )
            shown[field] = name
            if self.hash and field.startswith("_"):
                raise PermanentError(
                    f"field names that start with _ are syncbridge's own, and the table has a column {name}",
                    hint="rename or exclude it under mappings.columns",
                )
            plan.append((name, field.encode() if self.hash else field, self._converter(name, types.get(name))))
        # Fields that an earlier configuration of this mapping may have written.
        self._excluded = [name.encode() for name in names if name not in shown and not name.startswith("_")]
        return plan

    def _converter(self, name: str, kind: str | None) -> Callable[[Any], Any] | None:
        if name in self.config.columns.mask:
            return _mask
        return text_converter(kind) if self.hash else json_converter(kind)

    def _masked(self, row: Row) -> Row:
        masked = self.config.columns.mask
        return {name: MASK if name in masked and value is not None else value for name, value in row.items()}

    def _key_of(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> bytes:
        text = self._render(self._key, row, types, primary)
        if text is None:
            raise PermanentError(
                f"key {self._key.text!r} has a NULL column in this row",
                hint="leave such rows out with where: <column> IS NOT NULL",
            )
        return encode_key(text)

    def _render(
        self,
        template: Template,
        row: Row,
        types: Mapping[str, str],
        primary: tuple[str, ...],
        shown: Row | None = None,
    ) -> str | None:
        values = row if shown is None else shown

        def value_of(name: str) -> str | None:
            if name == TABLE:
                return self.table
            if name == KEY:
                return self._primary_text(row, types, primary)
            try:
                value = values[name]
            except KeyError:
                raise PermanentError(
                    f"{template.text!r} names column {name}, which the row does not have",
                    hint="correct the template in sync.yaml",
                ) from None
            return None if value is None else key_text(value, None if value is MASK else types.get(name))

        return template.render(value_of)

    def _primary_text(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> str | None:
        if not primary:
            raise PermanentError("the row has no key columns", hint="name unique columns in this mapping")
        values = [row[name] for name in primary]
        if None in values:
            return None
        return join_key([key_text(value, types.get(name)) for name, value in zip(primary, values, strict=True)])

    def _guard(self, version: str, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> Any:
        stamp = guard(version, self.id)
        if not self.owned(primary):
            return stamp
        return encode_key(stamp + (self._primary_text(row, types, primary) or ""))

    def owned(self, primary: tuple[str, ...]) -> bool:
        """Whether guards name the owner row: the template does not cover exactly the primary key (DESIGN P2)."""
        owned = self._owned.get(primary)
        if owned is None:
            owned = self._owned[primary] = self._key_columns(primary) != set(primary)
        return owned

    def _covers(self, primary: tuple[str, ...]) -> bool:
        """Whether the key can be told from the primary key alone."""
        return self._key_columns(primary) <= set(primary)

    def _key_columns(self, primary: tuple[str, ...]) -> set[str]:
        named = {name for name in self._key.columns if name not in (TABLE, KEY)}
        return named | set(primary) if KEY in self._key.columns else named

    def _ttl(self, row: Row, types: Mapping[str, str]) -> str | None:
        """Milliseconds to live as apply.lua wants them: "0" for ever; None when the moment has passed."""
        ttl = self.config.ttl
        if ttl is None:
            return "0"
        if not ttl.column:
            return str(max(1, int(ttl.seconds * 1000)))
        if ttl.column not in row:
            raise PermanentError(f"ttl names column {ttl.column}, which the row does not have")
        value = row[ttl.column]
        if value is None:
            return "0"
        ms = _milliseconds(value, types.get(ttl.column))
        return str(ms) if ms > 0 else None


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
