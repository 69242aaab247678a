"""Rows that are likely new to Redis, as a load has them: whole hashes, made here, for its RESTORE. Pure.

apply.lua creates them where none of their keys is there, and otherwise leaves them to a call that compares (its
operation N). It costs Redis three fifths of what it costs to set their fields. Only with the native package: a payload
ends with a CRC-64, and Python has none.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        runs = [run for run in step.operations if isinstance(run, Run) and run.code == WRITE_ROWS and run.ttl == "0"]
        if len(runs) < len(step.operations):
            return None
        rest, next_rest = self._rests.get(mapping, (0, 0))
        if rest:
            self._rests[mapping] = rest - 1, next_rest
            return None
        rows = _as_new(native.functions, runs)
        if rows is None:  # they are too large
            self.tried(step, created=False)
        return rows

    def tried(self, step: Apply, *, created: bool) -> None:
        """How it went. Of calls that were under way side by side the first one that failed counts."""
        mapping = step.origins[0].mapping.id
        rest, next_rest = self._rests.get(mapping, (0, 0))
        if created:
            self._rests.pop(mapping, None)
        elif not rest:
            rest = min(max(2 * next_rest, FIRST_REST), LONGEST_REST)
            self._rests[mapping] = rest, rest


def _as_new(functions: native.Functions, runs: Sequence[Run]) -> NewRows | None:
    keys: list[bytes | str] = []
    payloads: list[bytes] = []
    guards: list[str] = []
    for run in runs:
        each = len(run.texts) // len(run.keys)
        fields = [name if isinstance(name, bytes) else name.encode() for name in run.fields]
        made = functions.hashes([*run.texts], each, fields, [*run.raws], MOST_BYTES)
        if made is None:
            return None
        payloads += made
        keys += run.keys
        guards.append(min(run.texts[::each]))
    return NewRows(keys, min(guards), payloads)
