"""One call of apply.lua: operations packed into its arguments, its reply sorted out. Pure; link.py sends it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import hiredis

from syncbridge import native
from syncbridge.sinks.keys import GUARD_FIELD, companion_key, companion_prefix, marks_key, meta_key
from syncbridge.sinks.mapping import REMOVE_HASH, WRITE_HASH, Operation
from syncbridge.sinks.runs import CREATE_ROWS, WRITE_ROWS, Run

#: What apply.lua answers for an operation; an error text otherwise.
APPLIED, STALE = 1, 0
#: What it answers where rows are not new: nothing was done.
REFUSED = -1


class Script:
    """A Lua file of this package."""

    def __init__(self, name: str) -> None:
        self.source = files("syncbridge.sinks").joinpath(name).read_bytes()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()  # how EVALSHA names scripts

    def call(self, keys: Sequence[Any], arguments: Sequence[Any]) -> bytes:
        """EVALSHA as it goes over the wire."""
        packed: bytes = hiredis.pack_command(("EVALSHA", self.sha, len(keys), *keys, *arguments))
        return packed


APPLY = Script("apply.lua")
SWEEP = Script("sweep.lua")


class Applier:
    """Packs calls for one pipeline. The `sink_id` names the Redis that the calls are meant for."""

    def __init__(self, pipeline: str, tombstone: float) -> None:
        self._meta = meta_key(pipeline)
        self._marks = marks_key(pipeline)
        self._prefix = companion_prefix(pipeline)
        self._tombstone = int(tombstone * 1000)

    def call(self, sink_id: str, operations: Sequence[Operation | Run], lane: int | None, mark: str) -> bytes:
        """One apply of these operations; with a lane, its mark rises to `mark` in the same call.

        Its reply is for `answers`.
        """
        keys, arguments = self._begun(sink_id, lane, mark)
        for operation in operations:
            if isinstance(operation, Run):
                keys += operation.keys
                arguments += run_arguments(operation)
            else:
                code, key, rest = operation
                keys.append(key)
                arguments.append(code)
                arguments += rest
        return APPLY.call(keys, arguments)

    def create(
        self, sink_id: str, keys: Sequence[bytes | str], guard: str, payloads: Sequence[bytes],
        lane: int | None, mark: str,
    ) -> bytes:  # fmt: skip
        """One creation of hashes, all or none; its reply is REFUSED, or for `answers`."""
        named, arguments = self._begun(sink_id, lane, mark)
        stamp = guard.encode("utf-8", "surrogateescape")
        return APPLY.call([*named, *keys], [*arguments, CREATE_ROWS, stamp, *payloads])

    def _begun(self, sink_id: str, lane: int | None, mark: str) -> tuple[list[Any], list[Any]]:
        """What the keys and the arguments of every apply begin with."""
        return [self._meta, self._marks], [sink_id, "" if lane is None else lane, mark, self._tombstone, self._prefix]

    def sweep(
        self,
        sink_id: str,
        candidates: Sequence[bytes],
        *,
        mapping_id: str,
        version: str,
        floor: str,
        hash_: bool,
        expire: float,
    ) -> bytes:
        """One sweep over candidate keys; `expire` seconds, or 0 to remove. Older writes than `floor` are stale then."""
        keys: list[Any] = [self._meta]
        for key in candidates:
            keys += (key, companion_key(self._prefix, key))
        expiry = int(expire * 1000) or ""
        arguments = [sink_id, mapping_id, version, "h" if hash_ else "s", expiry, self._tombstone, floor]
        return SWEEP.call(keys, arguments)


def answers(reply: int | list[Any]) -> list[Any]:
    """What apply.lua answered for each operation, and for each row of a run."""
    return [APPLIED] * reply if isinstance(reply, int) else reply


def run_arguments(run: Run) -> list[Any]:
    """A run as apply.lua reads it, its code first."""
    texts, rows = run.texts, len(run.keys)
    each = len(texts) // rows
    padding = -each % 4 if run.code == WRITE_ROWS else 0
    joined = join_texts(texts, each, padding)
    if joined is None:  # a value holds a NUL itself
        return [item for operation in singly(run) for item in (operation.code, *operation.arguments)]
    packed, has_nulls = joined
    if run.code != WRITE_ROWS:
        return [run.code, rows, packed]
    nulls, raws = "", run.raws
    if has_nulls or None in raws:
        nulls = " ".join(map(str, _nulls(run)))
        raws = [b"" if value is None else value for value in raws]
    counts = (each, len(raws) // rows, len(run.absent))
    return [run.code, run.ttl, rows, *counts, nulls, packed, *run.fields, *run.absent, *raws]


def join_texts(texts: Sequence[Any], each: int, padding: int) -> tuple[bytes, bool] | None:
    """(the texts of rows, `each` of them in a row, as apply.lua cuts them; whether there may be a None).

    None: one of them holds a NUL, which is what they are ended by.
    """
    if native.functions is not None:
        return native.functions.texts(list(texts), each, padding)
    rows = len(texts) // each
    joined = ("%s\0" * each + "\0" * padding) * rows % tuple(texts)
    if joined.count("\0") != (each + padding) * rows:
        return None
    # The text of a NULL may be a value's, too.
    return joined.encode("utf-8", "surrogateescape"), "\0None\0" in joined


def _nulls(run: Run) -> Iterator[int]:
    """Where a row has a NULL: row * fields + field."""
    rows, width = len(run.keys), len(run.fields)
    for values, first in ((run.texts, -1), (run.raws, len(run.texts) // rows - 1)):
        each = len(values) // rows
        for place in [place for place, value in enumerate(values) if value is None]:
            yield place // each * width + place % each + first


def _values(run: Run) -> Iterator[Sequence[Any]]:
    """Guard and values of each row."""
    rows = len(run.keys)
    texts, raws = len(run.texts) // rows, len(run.raws) // rows
    for row in range(rows):
        yield [*run.texts[row * texts : (row + 1) * texts], *run.raws[row * raws : (row + 1) * raws]]


def singly(run: Run) -> Iterator[Operation]:
    """The rows of a run as operations of their own."""
    for name, (guard, *values) in zip(run.keys, _values(run), strict=True):
        key = name if isinstance(name, bytes) else name.encode()
        stamp = guard.encode("utf-8", "surrogateescape")
        if run.code != WRITE_ROWS:
            yield Operation(REMOVE_HASH, key, [stamp])
            continue
        fields = [*zip(run.fields, values, strict=True)]
        shown = [item for pair in fields if pair[1] is not None for item in pair]
        absent = [field for field, value in fields if value is None]
        absent += run.absent
        yield Operation(WRITE_HASH, key, [run.ttl, len(shown) + 2, len(absent), GUARD_FIELD, stamp, *shown, *absent])
