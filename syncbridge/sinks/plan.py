"""From lane jobs to what must be done about them: a pure decision that worker.py performs.

Events of consecutive jobs of a lane become one list of steps, in order: apply these operations, or sweep a table. What
cannot be applied is set apart: failures for the retry table, rows to be read again because their payload is too old.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from syncbridge.errors import ColumnMissing, PermanentError
from syncbridge.event import TRUNCATE, Event
from syncbridge.sinks.apply import singly
from syncbridge.sinks.blocks import BlockPlans, Rows
from syncbridge.sinks.failures import error_class, error_text, oldest
from syncbridge.sinks.mapping import CompiledMapping, Mappings, Operation
from syncbridge.sinks.runs import Run
from syncbridge.state import FailedRow
from syncbridge.version import ZERO
from syncbridge.workload import Block, items

#: Operations (and roughly bytes) in one script call: bounds how long Redis serves nobody else.
CALL_OPERATIONS, CALL_BYTES = 128, 2**20
#: So many old events of one table in one plan, and the table is read again rather than row by row.
MANY_OLD = 100

APPLIED, STALE, FAILED, SKIPPED, REREAD = "applied", "stale", "failed", "skipped", "reread"
#: Lag probes: they carry no row, their way through Redis is their message.
HEARTBEAT = ("syncbridge", "heartbeat")


@dataclass(slots=True)
class Origin:
    """Which event and mapping some consecutive operations come from; or which rows of a block, one operation each."""

    source: Event | Block
    mapping: CompiledMapping
    count: int
    #: Of a block: the row of the first operation.
    first: int = 0

    @property
    def op(self) -> str:
        return self.source.op if isinstance(self.source, Block) else str(self.source["op"])

    @property
    def events(self) -> int:
        """How many events it stands for."""
        return self.count if isinstance(self.source, Block) else 1

    def singles(self) -> Iterator[tuple[Event, int]]:
        """Each event, and how many operations are its own."""
        if isinstance(self.source, Block):
            for index in range(self.first, self.first + self.count):
                yield self.source.event(index), 1
        else:
            yield self.source, self.count


@dataclass(slots=True)
class Apply:
    """One script call."""

    operations: list[Operation | Run] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    #: Of a run each row counts.
    count: int = 0
    size: int = 0

    def singly(self) -> list[Operation]:
        """The rows of runs as operations of their own."""
        return [one for item in self.operations for one in (singly(item) if isinstance(item, Run) else (item,))]


@dataclass(slots=True)
class Sweep:
    """A `t` event: the table's keys older than its version go."""

    event: Event


@dataclass(slots=True)
class Plan:
    """What a batch of jobs asks for."""

    steps: list[Apply | Sweep] = field(default_factory=list)
    failures: list[FailedRow] = field(default_factory=list)
    #: Events whose rows must be read again.
    old: list[Event] = field(default_factory=list)
    #: (db.table, op, outcome) -> number of events.
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    #: Version of the last event: what the lane's mark rises to.
    mark: str = ""
    #: When the oldest event was captured, microseconds.
    oldest_us: int = 0

    def put(self, event: Event, mapping: CompiledMapping, operations: list[Operation], size: int) -> None:
        """One more event to apply; `size`: its bytes, roughly."""
        step = self._step()
        step.operations += operations
        step.origins.append(Origin(event, mapping, len(operations)))
        step.count += len(operations)
        step.size += size

    def put_block(self, block: Block, mapping: CompiledMapping, rows: Rows, size: int) -> None:
        """The rows of a block, one operation each; `size`: bytes of a row, roughly."""
        first, total = 0, len(block.rows)
        while first < total:
            step = self._step()
            room = min(CALL_OPERATIONS - step.count, max(1, (CALL_BYTES - step.size) // (size or 1)))
            count = min(room, total - first)
            if isinstance(rows, Run):
                step.operations.append(rows.cut(first, count))
            else:
                step.operations += rows[first : first + count]
            step.origins.append(Origin(block, mapping, count, first))
            step.count += count
            step.size += size * count
            first += count

    def _step(self) -> Apply:
        """The call that has room."""
        step = self.steps[-1] if self.steps else None
        full = isinstance(step, Apply) and (step.count >= CALL_OPERATIONS or step.size >= CALL_BYTES)
        if not isinstance(step, Apply) or full:
            step = Apply()
            self.steps.append(step)
        return step


class Planner:
    """Plans for one pipeline. Not safe for threads."""

    def __init__(self, mappings: Mappings, *, tombstone: float, max_value: int) -> None:
        self._mappings = mappings
        self._blocks = BlockPlans()
        self._tombstone = tombstone
        self._max_value = max_value

    def plan(self, workloads: Iterable[bytes], now: float) -> Plan:
        """The plan of consecutive jobs of a lane. Never raises for what is in them."""
        plan = Plan()
        oldest_applied = oldest(now, self._tombstone)
        for workload in workloads:
            try:
                parts = items(workload)
            except PermanentError as error:
                plan.failures.append(undecodable(workload, error))
                continue
            # What a workload cannot hold, no value in it can be.
            check_size = 2 * len(workload) > self._max_value
            size = len(workload) // (sum([len(part.rows) if type(part) is Block else 1 for part in parts]) or 1)
            for part in parts:
                if not isinstance(part, Block):
                    self._add(plan, part, oldest_applied, size, check_size=check_size)
                    plan.mark = part["version"]
                    continue
                if check_size or not self._add_block(plan, part, oldest_applied, size):
                    for event in part.events():
                        self._add(plan, event, oldest_applied, size, check_size=check_size)
                plan.mark = part.version(-1)
        return plan

    def _add_block(self, plan: Plan, block: Block, oldest_applied: float, size: int) -> bool:
        """The rows of a block at once; False where they need a look one by one, and nothing is added."""
        table = block.table
        captured = min([transaction[1] for transaction in block.transactions])
        if captured < oldest_applied:
            return False
        mappings = self._mappings.of(table.db, table.table)
        planned: list[tuple[CompiledMapping, Rows]] = []
        for mapping in mappings:
            try:
                operations = self._blocks.operations(mapping, block)
            except (PermanentError, LookupError, TypeError, ValueError, AttributeError):
                return False
            if operations is None:
                return False
            planned.append((mapping, operations))
        for mapping, operations in planned:
            plan.put_block(block, mapping, operations, size)
        if not plan.oldest_us or captured < plan.oldest_us:
            plan.oldest_us = captured
        return True

    def _add(self, plan: Plan, event: Event, oldest_applied: float, size: int, *, check_size: bool) -> None:
        source = event["source"]
        name = (source["db"], source["table"])
        captured = event.get("ts_us") or 0
        if captured < plan.oldest_us or not plan.oldest_us:
            plan.oldest_us = captured
        if event["op"] == TRUNCATE:
            plan.steps.append(Sweep(event))
            return
        mappings = self._mappings.of(*name)
        if not mappings:
            return
        if captured < oldest_applied:
            plan.old.append(event)
            plan.outcomes[f"{name[0]}.{name[1]}", event["op"], REREAD] += 1
            return
        for mapping in mappings:
            try:
                operations = mapping.operations(event, check_size=check_size)
            except PermanentError as error:
                plan.failures.append(failed_row(event, mapping, error))
                plan.outcomes[f"{name[0]}.{name[1]}", event["op"], FAILED] += 1
                continue
            except (KeyError, TypeError, ValueError, AttributeError) as error:  # an event that is not what it says
                wrong = PermanentError(f"event does not fit its description: {error!r}")
                plan.failures.append(failed_row(event, mapping, wrong))
                plan.outcomes[f"{name[0]}.{name[1]}", event["op"], FAILED] += 1
                continue
            if not operations:
                plan.outcomes[f"{name[0]}.{name[1]}", event["op"], SKIPPED] += 1
                continue
            plan.put(event, mapping, operations, size)


def record(plan: Plan, step: Apply, results: int | list[Any]) -> None:
    """Enter what apply.lua answered for a step: outcomes, and failures of single rows."""
    if isinstance(results, int):  # all applied: nearly always
        for origin in step.origins:
            plan.outcomes[origin.mapping.place, origin.op, APPLIED] += origin.events
        return
    position = 0
    for origin in step.origins:
        for event, count in origin.singles():
            its = results[position : position + count]
            position += count
            errors = [answer for answer in its if isinstance(answer, bytes)]
            if errors:
                text = errors[0].decode("utf-8", "replace")
                plan.failures.append(failed_row(event, origin.mapping, text))
                outcome = FAILED
            else:
                outcome = APPLIED if any(its) else STALE
            plan.outcomes[origin.mapping.place, origin.op, outcome] += 1


def failed_row(event: Event, mapping: CompiledMapping, error: Exception | str) -> FailedRow:
    """The retry-table row of one event that one mapping could not apply."""
    key = mapping.row_key(event)
    return FailedRow(
        db=event["source"]["db"],
        table=event["source"]["table"],
        mapping=mapping.id,
        key=key,
        version=event["version"],
        payload=mapping.payload(event),
        error_class=error_class(error),
        message=error_text(error),
        # Another row may own the key by then, or the mapping may look at more columns than when the row was captured:
        # only what the source holds now is right.
        stale=mapping.owned(tuple(key)) or (isinstance(error, ColumnMissing) and not mapping.config.function),
    )


def undecodable(workload: bytes, error: Exception, function: str = "", version: str = ZERO) -> FailedRow:
    """The retry-table row of a job that is no job: of a lane, or of a plain function."""
    return FailedRow.undecodable(workload, error_class(error), error_text(error), function, version)


def reread_request(event: Event) -> dict[str, Any]:
    """The payload of a `reread` request: the key, and the images whose keys must go if the row no longer has them."""
    rows = [row for row in (event.get("before"), event.get("after")) if row]
    return {"key": event.get("key") or {}, "rows": rows, "types": event.get("types") or {}}
