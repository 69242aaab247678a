"""Blocks of rows as operations: what mapping.py says of single events, said of many rows at once. Pure.

The hot path of a worker. It knows the plain cases, where every row of a block is one operation; for the others it
answers None, and the rows go through `CompiledMapping.operations` as events, which is what decides in any case: both
ask Redis for the same (tests/unit/test_sinks_blocks.py). A row costs 1 µs here and 7 µs there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from syncbridge.event import DELETE, UPDATE
from syncbridge.sinks.keys import GUARD_FORMAT
from syncbridge.sinks.mapping import REMOVE_STRING, WRITE_STRING, CompiledMapping, Operation, Shape
from syncbridge.sinks.render import MASK, encode_key
from syncbridge.sinks.runs import REMOVE_ROWS, WRITE_ROWS, Run
from syncbridge.template import KEY, TABLE
from syncbridge.workload import Block, Table

_Values: TypeAlias = Sequence[Any]
_Key: TypeAlias = bytes | str
#: Of a block: one operation for each row, in order.
Rows: TypeAlias = list[Operation] | Run


class BlockPlans:
    """The plans of a pipeline's mappings, each for the description of its table that came last."""

    def __init__(self) -> None:
        self._plans: dict[int, BlockPlan] = {}

    def operations(self, mapping: CompiledMapping, block: Block) -> Rows | None:
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
        self._plain = mapping.plain
        if not self._plain:
            return
        shape = self._shape = mapping.shape_of(table.columns, table.types, table.key)
        columns = table.columns
        self._ttl = mapping.plain_ttl
        self._key, self._owner = _key_text(shape, mapping, columns), shape.owner
        self._moves = [columns.index(name) for name in shape.key_names]
        masked = mapping.config.columns.mask
        raw = {column: convert for column, _, convert in shape.plan if convert and column not in masked}
        texts = [columns.index(column) for column, _, _ in shape.plan if column not in raw]
        self._texts = None if texts == list(range(len(columns))) else _picker(texts)
        #: Of a row: where a value is masked, among those that `texts` picks.
        self._masked = [texts.index(columns.index(name)) for name in masked if name in shape.shown.values()]
        self._raws = [(columns.index(column), convert) for column, convert in raw.items()]
        fields = {column: field for column, field, _ in shape.plan}
        self._fields = [fields[columns[place]] for place in texts] + [fields[column] for column in raw]
        self._absent = mapping.absent_fields(shape, table.gone)

    def operations(self, block: Block) -> Rows | None:
        """See BlockPlans. Raises what a row that does not fit its description makes of it."""
        if not self._plain:
            return None
        rows = block.rows
        if block.op == UPDATE:
            for place in self._moves:
                for before, after in rows:
                    if before[place] != after[place]:
                        return None
            rows = [after for _, after in rows]
        keys = [key for key in map(self._key, rows) if key is not None]
        if len(keys) < len(rows) or (block.op == DELETE and self._mapping.config.on_delete.action != "delete"):
            return None
        stamps = self._stamps(block, rows)
        if not self._mapping.hash:
            return self._strings(block.op, keys, stamps, rows)
        if block.op == DELETE:
            return Run(REMOVE_ROWS, keys, stamps)
        raws = [None if row[at] is None else convert(row[at]) for row in rows for at, convert in self._raws]
        return Run(WRITE_ROWS, keys, self._row_texts(stamps, rows), self._fields, raws, self._absent, self._ttl)

    def _row_texts(self, stamps: Sequence[str], rows: Sequence[_Values]) -> list[Any]:
        """Row by row the guard and the values of the text fields."""
        texts: list[Any] = []
        pick, masked = self._texts, self._masked
        if masked:
            for stamp, row in zip(stamps, rows, strict=True):
                values = [*(row if pick is None else pick(row))]
                for place in masked:
                    values[place] = None if values[place] is None else MASK
                texts += (stamp, *values)
        elif pick is None:
            for stamp, row in zip(stamps, rows, strict=True):
                texts.append(stamp)
                texts += row
        else:
            for stamp, row in zip(stamps, rows, strict=True):
                texts.append(stamp)
                texts += pick(row)
        return texts

    def _strings(
        self, op: str, keys: Sequence[_Key], stamps: Sequence[str], rows: Sequence[_Values]
    ) -> list[Operation]:
        mapping, shape, columns = self._mapping, self._shape, self.table.columns
        out: list[Operation] = []
        for name, guard, row in zip(keys, stamps, rows, strict=True):
            key, stamp = name if isinstance(name, bytes) else name.encode(), encode_key(guard)
            content = None if op == DELETE else mapping.content(shape, dict(zip(columns, row, strict=True)))
            if content is None:
                out.append(Operation(REMOVE_STRING, key, [stamp]))
            else:
                out.append(Operation(WRITE_STRING, key, [self._ttl, stamp, content]))
        return out

    def _stamps(self, block: Block, rows: Sequence[_Values]) -> list[str]:
        """The guard of each row."""
        begins, end = [f"{GUARD_FORMAT}{version}" for version, *_ in block.transactions], self._mapping.id
        places, numbers, many = block.places, block.numbers, len(rows)
        if numbers.count(numbers[0]) == many == places.count(places[0]):  # a snapshot's: all of one version
            stamps = [f"{begins[places[0]]}{numbers[0]:08x}{end}"] * many
        else:
            stamps = [f"{begins[p]}{n:08x}{end}" for p, n in zip(places, numbers, strict=True)]
        owner, columns = self._owner, self.table.columns
        if owner is None:
            return stamps
        owners = [owner(dict(zip(columns, row, strict=True))) or "" for row in rows]
        return [stamp + name for stamp, name in zip(stamps, owners, strict=True)]


def _picker(places: list[int]) -> Callable[[_Values], _Values]:
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: [row[place] for place in places]


def _key_text(shape: Shape, mapping: CompiledMapping, columns: tuple[str, ...]) -> Callable[[_Values], _Key | None]:
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

    def concatenated(row: _Values) -> str | None:
        value = row[place]
        return None if value is None else f"{before}{value}{after}"

    return concatenated
