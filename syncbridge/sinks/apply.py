"""One call of apply.lua: operations packed into its arguments, its reply sorted out. Pure; link.py sends it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import hiredis

from syncbridge.sinks.keys import companion_key, companion_prefix, marks_key, meta_key
from syncbridge.sinks.mapping import Operation

#: What apply.lua answers for an operation; an error text otherwise.
APPLIED, STALE = 1, 0


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

    def call(self, sink_id: str, operations: Sequence[Operation], lane: int | None, mark: str) -> bytes:
        """One apply of these operations; with a lane, its mark rises to `mark` in the same call."""
        keys: list[Any] = [self._meta, self._marks]
        arguments: list[Any] = [sink_id, "" if lane is None else lane, mark, self._tombstone]
        prefix = self._prefix
        for code, key, rest in operations:
            keys += (key, companion_key(prefix, key))
            arguments.append(code)
            arguments += rest
        return APPLY.call(keys, arguments)

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
