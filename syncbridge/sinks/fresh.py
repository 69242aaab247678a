"""Rows that are likely new to Redis, as a load has them: whole hashes, made here, for its RESTORE. Pure.

apply.lua creates them where none of their keys is there, and otherwise leaves everything as it was, for a call that
compares (its operation N). It costs Redis four ninths of what it costs to set their fields. Only with the native
package: a payload ends with a CRC-64, and Python has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from syncbridge import native
from syncbridge.event import CREATE, READ
from syncbridge.sinks.plan import Apply
from syncbridge.sinks.runs import WRITE_ROWS, Run

#: A larger hash is written field by field: as one piece of memory it would be moved with each change.
MOST_BYTES = 1024
#: Calls of a mapping that are not tried after one that found its rows there: doubled from the first to the last.
FIRST_REST, LONGEST_REST = 8, 1024


@dataclass(frozen=True, slots=True)
class NewRows:
    """Operation N of apply.lua."""

    keys: list[bytes | str]
    #: The least of their guards.
    guard: str
    payloads: list[bytes]


@dataclass(slots=True)
class Fresh:
    """Decides which calls are tried as new rows, and remembers how that went. `of` first, then `tried`."""

    #: Mapping id -> (calls that are not tried, how many these will be next).
    _rests: dict[str, tuple[int, int]] = field(default_factory=dict)

    def of(self, step: Apply) -> NewRows | None:
        """The rows of a step, if all of them are written whole and it is worth a try."""
        if native.functions is None or not step.origins:
            return None
        mapping = step.origins[0].mapping.id
        if any(origin.op not in (READ, CREATE) or origin.mapping.id != mapping for origin in step.origins):
            return None
        rest, next_rest = self._rests.get(mapping, (0, 0))
        if rest:
            self._rests[mapping] = rest - 1, next_rest
            return None
        rows = NewRows([], "", [])
        keys, guards = rows.keys, []
        for run in step.operations:
            if not isinstance(run, Run) or run.code != WRITE_ROWS or run.ttl != "0":
                return None
            each = len(run.texts) // len(run.keys)
            fields = [name if isinstance(name, bytes) else name.encode() for name in run.fields]
            payloads = native.functions.hashes([*run.texts], each, fields, [*run.raws], MOST_BYTES)
            if payloads is None:
                return None
            rows.payloads.extend(payloads)
            keys.extend(run.keys)
            guards.append(min(run.texts[::each]))
        return NewRows(keys, min(guards), rows.payloads)

    def tried(self, step: Apply, *, created: bool) -> None:
        """How it went."""
        mapping = step.origins[0].mapping.id
        if created:
            self._rests.pop(mapping, None)
            return
        rest = min(max(2 * self._rests.get(mapping, (0, 0))[1], FIRST_REST), LONGEST_REST)
        self._rests[mapping] = rest, rest
