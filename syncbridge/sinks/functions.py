"""Mappings of plain functions: from jobs as hand-written triggers submit them to operations on keys. Pure.

An object has no version and no image of before, so nothing here is guarded: what is taken last is what Redis shows, and
only a failed object that a newer one of its key has overtaken is not tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from syncbridge.config import Config
from syncbridge.config import Mapping as MappingConfig
from syncbridge.errors import PermanentError
from syncbridge.event import CREATE, DELETE, Event, Row, place
from syncbridge.expression import compile_expression
from syncbridge.sinks.mapping import (
    EXPIRE_HASH,
    EXPIRE_STRING,
    REMOVE_HASH,
    REMOVE_STRING,
    WRITE_HASH,
    WRITE_STRING,
    CompiledMapping,
    Expected,
    Operation,
    Shape,
    as_bytes,
)
from syncbridge.sinks.objects import decode_objects, encode_object, row_of
from syncbridge.sinks.plan import FAILED, SKIPPED, Plan, failed_row, undecodable
from syncbridge.state import FailedRow
from syncbridge.version import Version

if TYPE_CHECKING:
    from syncbridge.expression import Expression

#: Operation code with a guard -> without, see apply.lua.
_UNGUARDED = {
    WRITE_HASH: "P", WRITE_STRING: "V", REMOVE_HASH: "p", REMOVE_STRING: "v", EXPIRE_HASH: "q", EXPIRE_STRING: "w",
}  # fmt: skip
#: Shapes of objects kept compiled; a member that is NULL or missing now and then makes another one.
_MAX_SHAPES = 200


class FunctionMapping(CompiledMapping):
    """One entry of `mappings` for the jobs of a function. Not safe for threads."""

    def __init__(self, mapping: MappingConfig, *, max_value: int = 2**62) -> None:
        super().__init__(mapping, "", mapping.function, max_value=max_value)
        self._delete_when = compile_expression(mapping.delete_when) if mapping.delete_when else None
        self._shapes: dict[tuple[Any, ...], Shape] = {}

    def event(self, element: Any, version: str) -> Event:
        """What failures and metrics say of an element of a job; operations() fills in the rest."""
        source = {"db": "", "table": self.table}
        return {"op": CREATE, "source": source, "key": {}, "version": version, "element": element}

    def operations(self, event: Event, *, check_size: bool = True) -> list[Operation]:
        """The key operations of event(): none where the object is not meant. Raises PermanentError."""
        row, types = row_of(event["element"])
        key = {name: row.get(name) for name in self.templates[0].columns}
        if None not in key.values():
            event["key"] = key
        if not self._matches(row, types):
            return []
        event |= {"types": types, "before": None, "after": row}
        if self._delete_when is not None and _holds(self._delete_when, row, types):
            event |= {"op": DELETE, "before": row, "after": None}
        try:
            operations = super().operations({**event, "key": key}, check_size=check_size)
        except (KeyError, TypeError, ValueError) as error:
            raise PermanentError(f"the object cannot be shown: {error!r}") from error
        return [_unguarded(operation) for operation in operations]

    def left_by(self, operation: Operation) -> Expected | None:
        """What an operation leaves under its key; None: nothing, now or later."""
        if operation.code == _UNGUARDED[WRITE_STRING]:
            return Expected(operation.key, "string", operation.arguments[1])
        if operation.code != _UNGUARDED[WRITE_HASH]:
            return None
        pairs = [as_bytes(item) for item in operation.arguments[3 : 3 + operation.arguments[1]]]
        return Expected(operation.key, "hash", dict(zip(pairs[::2], pairs[1::2], strict=True)))

    def row_key(self, event: Event) -> dict[str, Any]:
        return event["key"] or {"job": _digest(encode_object(event["element"]))}

    def payload(self, event: Event) -> bytes:
        return encode_object(event["element"])

    def shows(self, name: str) -> bool:
        """Members that start with _ tell what happened, they are not shown."""
        return super().shows(name) and (not name.startswith("_") or name in self.config.columns.rename)

    def owned(self, primary: tuple[str, ...]) -> bool:
        """Never: an object is known by its key."""
        return False

    def _matches(self, row: Row, types: Mapping[str, str]) -> bool:
        return self._where is None or _holds(self._where, row, types)

    def _ttl(self, row: Row, types: Mapping[str, str]) -> str | None:
        column = self.config.ttl.column if self.config.ttl is not None else ""
        if column and column not in row:
            row = {**row, column: None}
        elif column not in types and isinstance(row.get(column), str):
            types = {**types, column: "datetime"}  # JSON has no dates of its own
        return super()._ttl(row, types)

    def _shape_of(self, row: Row, types: Mapping[str, str], primary: tuple[str, ...]) -> Shape:
        name = (*row, *types.items())
        shape = self._shapes.get(name)
        if shape is None:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            shape = self._shapes[name] = Shape(self, list(row), types, primary)
        return shape


class Functions:
    """Every mapped function of a pipeline."""

    def __init__(self, config: Config) -> None:
        self._of: dict[str, list[FunctionMapping]] = {name: [] for name in config.functions}
        for mapping in config.function_mappings:
            self._of[mapping.function].append(FunctionMapping(mapping, max_value=config.sink.max_value))

    def of(self, function: str) -> list[FunctionMapping]:
        return self._of.get(function, [])

    def plan(self, function: str, workloads: Iterable[bytes], now: float) -> Plan:
        """The plan of consecutive jobs of a function. Never raises for what is in them.

        now: when they were taken, seconds. It is all the version that their failures have.
        """
        plan = Plan()
        taken = int(now * 1_000_000)
        number = 0
        for workload in workloads:
            try:
                elements = decode_objects(workload)
            except PermanentError as error:
                plan.failures.append(undecodable(workload, error, function, str(Version(0, 0, taken, number))))
                plan.outcomes[place("", function), CREATE, FAILED] += 1
                number += 1
                continue
            size = len(workload) // max(1, len(elements))
            for element in elements:
                version = str(Version(0, 0, taken, number))
                number += 1
                for mapping in self.of(function):
                    self._add(plan, mapping, mapping.event(element, version), size)
        return plan

    def _add(self, plan: Plan, mapping: FunctionMapping, event: Event, size: int) -> None:
        name = place("", mapping.table)
        try:
            operations = mapping.operations(event)
        except PermanentError as error:
            plan.failures.append(failed_row(event, mapping, error))
            plan.outcomes[name, event["op"], FAILED] += 1
            return
        if operations:
            plan.put(event, mapping, operations, size)
        else:
            plan.outcomes[name, event["op"], SKIPPED] += 1

    def again(self, row: FailedRow) -> list[Operation]:
        """What a failed row asks for now. Raises PermanentError."""
        operations = []
        mappings = [mapping for mapping in self.of(row.table) if row.mapping in ("", mapping.id)]
        for element in decode_objects(row.payload):
            for mapping in mappings:
                operations += mapping.operations(mapping.event(element, row.version))
        return operations


def _holds(expression: Expression, row: Row, types: Mapping[str, str]) -> bool:
    """Whether it is true of the row; a member that is missing is NULL."""
    missing = {name: None for name in expression.columns if name not in row}
    return expression({**row, **missing} if missing else row, types) is True


def _unguarded(operation: Operation) -> Operation:
    code, key, arguments = operation
    if code == WRITE_HASH:
        ttl, pairs, gone, _, _, *fields = arguments
        arguments = [ttl, pairs - 2, gone, *fields]
    elif code == WRITE_STRING:
        arguments = [arguments[0], arguments[2]]
    else:
        arguments = arguments[1:]
    return Operation(_UNGUARDED[code], key, arguments)


def _digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()
