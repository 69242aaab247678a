"""Decides what differs between source and Redis, and gives what is in flight the time to arrive.

A row that differs is looked at again, row and key both, until it agrees, or until nothing about it has changed for
`settle` seconds: only then it counts. Memory is bounded: suspects are settled whenever there are many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from syncbridge.capture.schema import TableSchema
from syncbridge.commands.checks.tables import kinds_of
from syncbridge.commands.verification.compare import Stored, differences, expires, may_have_expired, owner_of
from syncbridge.commands.verification.keys import event_value, owner_values, readings
from syncbridge.commands.verification.rows import RowReader
from syncbridge.commands.verification.stored import StoredReader
from syncbridge.config import Config
from syncbridge.errors import ConfigError, PermanentError
from syncbridge.event import Row
from syncbridge.sinks.mapping import CompiledMapping, Expected

MISSING, DIFFERENT, EXTRA = "missing", "different", "extra"
#: Suspects kept before they are settled.
MAX_SUSPECTS = 20_000
#: Pauses between looks at suspects, seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not as its row says. `row_key`: the row's key as events hold it, None when it is not known."""

    mapping: str
    table: str
    kind: str
    key: str
    row_key: dict[str, Any] | None
    what: tuple[str, ...]
    #: For an extra key: columns that its text tells, as events hold them, and whether its row exists.
    image: dict[str, Any] | None = None
    row_exists: bool = False


@dataclass(slots=True)
class TableReport:
    """What the comparison of one table came to."""

    table: str
    rows: int = 0
    keys: int = 0
    #: Rows that cannot be shown at all (a NULL in the key): they are dead letters.
    unshowable: int = 0
    #: Keys that are missing because their time to live is over.
    expired: int = 0
    differences: list[Difference] = field(default_factory=list)


@dataclass(slots=True)
class _Suspect:
    """Something that differed at the last look. `row`: a row's key; else `redis_key`: a key that may be extra."""

    mapping: int
    difference: Difference
    state: bytes
    since: float
    row: tuple[Any, ...] | None = None
    redis_key: bytes = b""


#: A difference with what was seen, to tell whether it changes.
_Look = tuple[Difference, bytes]


class TableVerifier:
    """Compares one table with the keys of all its mappings."""

    def __init__(self, config: Config, db: str, table: str, rows: RowReader, stored: StoredReader) -> None:
        self._rows = rows
        self._stored = stored
        self.db, self.table = db, table
        self.report = TableReport(f"{db}.{table}")
        numbered = [(i, m) for i, m in enumerate(config.mappings) if m.covers(db, table)]
        self.mappings = [CompiledMapping(mapping, db, table) for _, mapping in numbered]
        self._paths = [f"mappings[{index}]" for index, _ in numbered]
        self._suspects: dict[Any, _Suspect] = {}
        self.schema: TableSchema | None = None
        self._key: tuple[str, ...] = ()
        self._types: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._load_schema()

    def _load_schema(self) -> None:
        self.schema = self._rows.schema(self.db, self.table)
        if self.schema is None:
            return
        self._types, self._kinds = self.schema.types(), kinds_of(self.schema)
        self._key = self.schema.primary_key or next((m.config.unique for m in self.mappings if m.config.unique), ())
        if not self._key:
            raise ConfigError(
                f"table {self.db}.{self.table} has no primary key",
                hint="syncbridge check tells how to mend it",
            )

    def run(self, settle: float, progress: Callable[[int], None] = lambda _: None) -> TableReport:
        """Compare everything. `progress` hears of rows as they are compared."""
        if self.schema is not None:
            for chunk in self._rows.chunks(self.schema, self._key):
                for index in range(len(self.mappings)):
                    self._suspect(index, self._look_at_rows(index, chunk, count=True).items())
                self.report.rows += len(chunk)
                progress(len(chunk))
                self._settle_if_many(settle)
        for index, mapping in enumerate(self.mappings):
            for guards in self._stored.scan(mapping):
                self.report.keys += len(guards)
                self._suspect(index, self._look_at_keys(index, guards).items())
                self._settle_if_many(settle)
        self.report.differences += self.settle(settle)
        return self.report

    # -- suspects ----------------------------------------------------------------------------------------------------

    def _suspect(self, index: int, looks: Iterable[tuple[Any, _Look]]) -> None:
        now = time.monotonic()
        for identity, (difference, state) in looks:
            row = identity if isinstance(identity, tuple) else None
            key = identity if isinstance(identity, bytes) else b""
            self._suspects[index, identity] = _Suspect(index, difference, state, now, row, key)

    def suspect_again(self, found: Sequence[Difference]) -> None:
        """Look at these once more, for example after a repair."""
        paths = {path: index for index, path in enumerate(self._paths)}
        for one in found:
            index, now = paths[one.mapping], time.monotonic()
            if one.kind == EXTRA:
                key = one.key.encode("utf-8", "surrogateescape")
                self._suspects[index, key] = _Suspect(index, one, b"", now, None, key)
            else:
                row = tuple((one.row_key or {}).values())
                self._suspects[index, row] = _Suspect(index, one, b"", now, row)

    def _settle_if_many(self, settle: float) -> None:
        if len(self._suspects) >= MAX_SUSPECTS:
            self.report.differences += self.settle(settle)

    def settle(self, settle: float, give_up: Callable[[], bool] = lambda: False) -> list[Difference]:
        """Look at the suspects until each agrees or has stood still for `settle` seconds; the latter are answered."""
        confirmed: list[Difference] = []
        pause = FIRST_PAUSE
        while self._suspects:
            self._look_again()
            now, over = time.monotonic(), give_up()
            for identity, suspect in list(self._suspects.items()):
                if now - suspect.since >= settle or over:
                    confirmed.append(suspect.difference)
                    del self._suspects[identity]
            if self._suspects:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        return confirmed

    def _look_again(self) -> None:
        self._load_schema()
        for index in range(len(self.mappings)):
            mine = [suspect for suspect in self._suspects.values() if suspect.mapping == index]
            keys = [list(suspect.row) for suspect in mine if suspect.row is not None]
            looks: dict[Any, _Look] = {}
            if keys and self.schema is not None:
                looks.update(self._look_at_rows(index, self._rows.by_key(self.schema, self._key, keys)))
            if extra := [suspect.redis_key for suspect in mine if suspect.row is None]:
                held = self._stored.read(self.mappings[index], extra)
                guards = {key: stored.guard for key, stored in zip(extra, held, strict=True)}
                looks.update(self._look_at_keys(index, guards))
            for suspect in mine:
                identity = suspect.row if suspect.row is not None else suspect.redis_key
                look = looks.get(identity)
                if look is None:
                    del self._suspects[index, identity]
                elif look[1] != suspect.state:
                    suspect.difference, suspect.state, suspect.since = *look, time.monotonic()

    # -- looking -----------------------------------------------------------------------------------------------------

    def _look_at_rows(self, index: int, rows: Sequence[Row], *, count: bool = False) -> dict[Any, _Look]:
        """Rows whose key is missing or different, by the row's key."""
        assert self.schema is not None
        mapping, types = self.mappings[index], self._types
        columns = [column.name for column in self.schema.columns]
        shown: list[tuple[Row, Expected]] = []
        for row in rows:
            try:
                expected = mapping.expected(row, types, self._key)
            except PermanentError:
                self.report.unshowable += count
                continue
            if expected is not None:
                shown.append((row, expected))
        held = self._stored.read(mapping, [expected.key for _, expected in shown])
        looks: dict[Any, _Look] = {}
        for (row, expected), stored in zip(shown, held, strict=True):
            if not stored.exists and may_have_expired(mapping.config, row, types):
                self.report.expired += count
                continue
            what = differences(mapping, columns, expected, stored, expires=expires(mapping.config, row))
            if what:
                difference = Difference(
                    mapping=self._paths[index],
                    table=self.report.table,
                    kind=DIFFERENT if stored.exists else MISSING,
                    key=_text(expected.key),
                    row_key={name: row[name] for name in self._key},
                    what=tuple(what),
                )
                looks[tuple(row[name] for name in self._key)] = (difference, _state(row, stored))
        return looks

    def _look_at_keys(self, index: int, guards: Mapping[bytes, bytes | None]) -> dict[Any, _Look]:
        """Keys of this mapping, each with its guard, that no row yields now."""
        mapping = self.mappings[index]
        told = {key: self._told(mapping, key, guard) for key, guard in guards.items()}
        rows: dict[tuple[Any, ...], Row] = {}
        if self.schema is not None:
            wanted = {tuple(image[name] for name in self._key): None for images in told.values() for image in images}
            for row in self._rows.by_key(self.schema, self._key, list(wanted)):
                rows[tuple(row[name] for name in self._key)] = row
        yielded = {key for row in rows.values() if (key := self._yields(mapping, row)) is not None}
        looks: dict[Any, _Look] = {}
        extra = [key for key in guards if key not in yielded]
        for key, stored in zip(extra, self._stored.read(mapping, extra), strict=True):
            images = told[key]
            existing = [image for image in images if tuple(image[name] for name in self._key) in rows]
            if not stored.exists or self._kept(mapping, stored, row_exists=bool(existing)):
                continue
            told_by = next(iter(existing or images), None)
            difference = Difference(
                mapping=self._paths[index],
                table=self.report.table,
                kind=EXTRA,
                key=_text(key),
                row_key=None if told_by is None else {name: told_by[name] for name in self._key},
                what=("no row yields this key",),
                image=told_by,
                row_exists=bool(existing),
            )
            teller = None if told_by is None else rows.get(tuple(told_by[name] for name in self._key))
            looks[key] = (difference, _state(teller, stored))
        return looks

    def _told(self, mapping: CompiledMapping, key: bytes, guard: bytes | None) -> list[dict[str, Any]]:
        """What key and guard tell of the row that wrote the key: every possible image, its key columns always in it."""
        if self.schema is None:
            return []
        kinds = self._kinds
        texts = readings(mapping.templates[0], self.table, self._key, key)
        if mapping.owned(self._key):
            named = owner_of(guard)
            owner = owner_values(named, self._key) if named else None
            texts = [] if owner is None else [{**text, **owner} for text in texts or [{}]]
        images = []
        for text in texts:
            try:
                image = {name: event_value(value, kinds[name]) for name, value in text.items() if name in kinds}
            except ValueError:
                continue
            if all(name in image for name in self._key):
                images.append(image)
        return images

    def _yields(self, mapping: CompiledMapping, row: Row) -> bytes | None:
        try:
            return mapping.yields(row, self._types, self._key)
        except PermanentError:
            return None

    @staticmethod
    def _kept(mapping: CompiledMapping, stored: Stored, *, row_exists: bool) -> bool:
        """Whether on_delete wants the key of a row that is gone to stay."""
        rule = mapping.config.on_delete.action
        return not row_exists and (rule == "keep" or (rule == "expire" and stored.ttl_ms >= 0))


def _state(row: Row | None, stored: Stored) -> bytes:
    """Everything seen at one look, to tell whether the next one sees something else."""
    content = stored.content
    held: Any = repr(content) if isinstance(content, dict) else content
    return orjson.dumps([row, repr(held), repr(stored.guard), stored.wrong_type])


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
