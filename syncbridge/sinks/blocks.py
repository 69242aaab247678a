"""Blocks of rows as key operations: what mapping.py says of single events, said of many rows at once. Pure.

The hot path of a worker. It knows the plain cases, where every row of a block is one operation; for the others it
answers None, and the rows go through `CompiledMapping.operations` as events, which is what decides in any case: both
answer the same (tests/unit/test_sinks_blocks.py). A row costs 1.5 µs here and 7 µs there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from syncbridge.event import DELETE, UPDATE
from syncbridge.sinks.keys import GUARD_FORMAT
from syncbridge.sinks.mapping import (
    REMOVE_HASH,
    REMOVE_STRING,
    WRITE_HASH,
    WRITE_STRING,
    CompiledMapping,
    Operation,
    Shape,
)
from syncbridge.sinks.render import encode_key
from syncbridge.template import KEY, TABLE
from syncbridge.workload import Block, Table

_Values = Sequence[Any]


class BlockPlans:
    """The plans of a pipeline's mappings, each for the description of its table that came last."""

    def __init__(self) -> None:
        self._plans: dict[int, BlockPlan] = {}

    def operations(self, mapping: CompiledMapping, block: Block) -> list[Operation] | None:
        """One operation for each row, in order; None where a row needs a closer look."""
        plan = self._plans.get(id(mapping))
        if plan is None or (plan.table is not block.table and plan.table != block.table):
            plan = self._plans[id(mapping)] = BlockPlan(mapping, block.table)
        plan.table = block.table  # the next block of the same job has the very same
        return plan.operations(block)


class BlockPlan:
    """One mapping and the columns of its table."""

    def __init__(self, mapping: CompiledMapping, table: Table) -> None:
        self.table = table
        self._mapping = mapping
        self._removal = REMOVE_HASH if mapping.hash else REMOVE_STRING
        self._plain = mapping.plain
        if not self._plain:
            return
        shape = self._shape = mapping.shape_of(table.columns, table.types, table.key)
        columns = table.columns
        self._key, self._owner = _key_text(shape, mapping, columns), shape.owner
        self._moves = [columns.index(name) for name in shape.key_names]
        shown = [columns.index(column) for column, _, _ in shape.plan]
        self._pick: Callable[[_Values], _Values] | None = None if shown == list(range(len(columns))) else _picker(shown)
        absent = mapping.absent_fields(shape, table.gone)
        #: ttl, fields, absent fields, then name and value in turn; the guard is the first value.
        self._full = [*shape.full_row, *absent]
        self._full[0], self._full[2] = mapping.plain_ttl, len(absent)
        self._values = slice(6, 5 + 2 * len(shown), 2)

    def operations(self, block: Block) -> list[Operation] | None:
        """See BlockPlans. Raises what a row that does not fit its description makes of it."""
        if not self._plain:
            return None
        rows = block.rows
        if block.op == DELETE:
            return self._removals(block) if self._mapping.config.on_delete.action == "delete" else None
        if block.op == UPDATE:
            for place in self._moves:
                for before, after in rows:
                    if before[place] != after[place]:
                        return None
            rows = [after for _, after in rows]
        return self._hashes(block, rows) if self._mapping.hash else self._strings(block, rows)

    def _removals(self, block: Block) -> list[Operation] | None:
        key_of, code, out = self._key, self._removal, []
        for stamp, row in zip(self._stamps(block, block.rows), block.rows, strict=True):
            key = key_of(row)
            if key is None:
                return None
            out.append(Operation(code, key, [stamp]))
        return out

    def _hashes(self, block: Block, rows: Sequence[_Values]) -> list[Operation] | None:
        key_of, pick, full, values_at = self._key, self._pick, self._full, self._values
        converters, mapping, ttl = self._shape.converters, self._mapping, self._full[0]
        out: list[Operation] = []
        for stamp, row in zip(self._stamps(block, rows), rows, strict=True):
            key = key_of(row)
            if key is None:
                return None
            values = row if pick is None else pick(row)
            if None in values:
                image = dict(zip(self.table.columns, row, strict=True))
                out.append(mapping.write_hash(self._shape, key, image, stamp, ttl, self.table.gone))
                continue
            arguments = full.copy()
            arguments[4] = stamp
            arguments[values_at] = values
            for place, convert in converters:
                arguments[place] = convert(arguments[place])
            out.append(Operation(WRITE_HASH, key, arguments))
        return out

    def _strings(self, block: Block, rows: Sequence[_Values]) -> list[Operation] | None:
        mapping, shape, columns, ttl = self._mapping, self._shape, self.table.columns, self._full[0]
        out: list[Operation] = []
        for stamp, row in zip(self._stamps(block, rows), rows, strict=True):
            key = self._key(row)
            if key is None:
                return None
            content = mapping.content(shape, dict(zip(columns, row, strict=True)))
            if content is None:
                out.append(Operation(REMOVE_STRING, key, [stamp]))
            else:
                out.append(Operation(WRITE_STRING, key, [ttl, stamp, content]))
        return out

    def _stamps(self, block: Block, rows: Sequence[_Values]) -> Sequence[str | bytes]:
        """The guard of each row."""
        begins, end = [f"{GUARD_FORMAT}{version}" for version, *_ in block.transactions], self._mapping.id
        stamps = [f"{begins[p]}{n:08x}{end}" for p, n in zip(block.places, block.numbers, strict=True)]
        owner, columns = self._owner, self.table.columns
        if owner is None:
            return stamps
        owners = [owner(dict(zip(columns, row, strict=True))) or "" for row in rows]
        return [encode_key(stamp + name) for stamp, name in zip(stamps, owners, strict=True)]


def _picker(places: list[int]) -> Callable[[_Values], _Values]:
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: [row[place] for place in places]


def _key_text(shape: Shape, mapping: CompiledMapping, columns: tuple[str, ...]) -> Callable[[_Values], bytes | None]:
    """The key of a row, None when it has none; of one column a single concatenation."""
    template, _ = mapping.templates
    names = template.columns
    literal = (template.render(lambda _: "\0") or "").split("\0")
    if len(names) != 1 or names[0] in (TABLE, KEY) or shape.types.get(names[0]) == "binary" or len(literal) != 2:

        def rendered(row: _Values) -> bytes | None:
            text = shape.key(dict(zip(columns, row, strict=True)))
            return None if text is None else encode_key(text)

        return rendered
    place, (before, after) = columns.index(names[0]), literal

    def concatenated(row: _Values) -> bytes | None:
        value = row[place]
        return None if value is None else f"{before}{value}{after}".encode("utf-8", "surrogateescape")

    return concatenated
