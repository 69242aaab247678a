"""Sweeping: the keys of a mapping that are older than a version leave Redis (TRUNCATE, DROP, end of a re-snapshot)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from syncbridge.config import Mapping
from syncbridge.event import Event
from syncbridge.sinks.apply import Applier
from syncbridge.sinks.link import command
from syncbridge.sinks.mapping import CompiledMapping, Mappings
from syncbridge.state import State

#: Sorts behind every version: a mapping that is gone loses all its keys.
EVERYTHING = "f" * 40
_SCAN_COUNT = 1000

#: Sends one packed call, waiting out a sick sink: packs anew for each try, since the sink's id may change.
Call = Callable[[Callable[[str], bytes]], Awaitable[Any]]


def swept_mappings(event: Event, mappings: Mappings, state: State) -> list[tuple[CompiledMapping, str]]:
    """(mapping, version below which its keys go) for a `t` event."""
    db, table = event["source"]["db"], event["source"]["table"]
    definitions = event.get("mappings")
    if not definitions:
        return [(mapping, event["version"]) for mapping in mappings.of(db, table)]
    gone = []
    for definition in definitions:
        mapping = Mapping.model_validate_json(definition)
        for name in _tables_of(mapping, state):
            compiled = CompiledMapping(mapping, *name)
            if all(current.id != compiled.id for current in mappings.of(*name)):
                gone.append((compiled, EVERYTHING))
    return gone


def _tables_of(mapping: Mapping, state: State) -> list[tuple[str, str]]:
    if not mapping.wildcard:
        return [(mapping.db, mapping.table.partition(".")[2])]
    return [(row.db, row.table) for row in state.snapshots.all() if row.db == mapping.db]


async def sweep(call: Call, applier: Applier, mapping: CompiledMapping, version: str, floor: str) -> int:
    """Remove (or let expire) the mapping's keys with a guard older than `version`; answers how many. Idempotent.

    From before the first key on, Redis takes no write of the mapping older than `floor`.
    """
    rule = mapping.config.on_delete
    gone = version == EVERYTHING
    if rule.action == "keep" and not gone:
        return 0
    expire = rule.after if rule.action == "expire" and not gone else 0.0
    pack = partial(
        applier.sweep, mapping_id=mapping.id, version=version, floor=floor, hash_=mapping.hash, expire=expire
    )  # fmt: skip
    await call(partial(pack, candidates=()))
    swept, cursor = 0, b"0"
    while True:
        scan = command("SCAN", cursor, "MATCH", mapping.key_pattern(), "COUNT", _SCAN_COUNT)
        reply: Any = await call(_constantly(scan))
        cursor, candidates = reply
        if candidates:
            swept += await call(partial(pack, candidates=candidates))
        if cursor == b"0":
            return swept


def _constantly(packed: bytes) -> Callable[[str], bytes]:
    return lambda _: packed
