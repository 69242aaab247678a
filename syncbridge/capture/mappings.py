"""A changed sync.yaml: tables that Redis must show otherwise are read again, what is mapped no longer is swept (P3)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from syncbridge.capture.snapshot.snapshots import Snapshots
from syncbridge.capture.tables import Tables, existing_tables
from syncbridge.config import Config, Mapping
from syncbridge.state import State
from syncbridge.state.snapshots import WAITING

log = logging.getLogger(__name__)


def take_up_mappings(
    config: Config,
    state: State,
    tables: Tables,
    snapshots: Snapshots,
    control: Any,
    sweep: Callable[[str, str, str], None],
) -> None:
    """Compare the mappings with those that Redis was last filled by; `sweep(db, table, definition)` removes old keys.

    What is to be done is durable in the state before the new mapping counts as known.
    """
    known = state.mappings.all()
    for mapping in config.table_mappings:  # fields of an older rename go like those of a dropped column
        if (text := known.get(mapping.id)) is not None:
            tables.show_formerly(mapping, Mapping.model_validate_json(text).columns.rename.values())
    current = {mapping.id: mapping for mapping in config.table_mappings}
    changed = {identifier for identifier, mapping in current.items() if known.get(identifier) != mapping.fingerprint}
    if changed:
        for db, table in existing_tables(control, config):
            if any(mapping.id in changed for mapping in config.mappings_of(db, table)):
                _request(config, state, snapshots, db, table, "its mapping changed" if known else "initial")
    for identifier in changed:
        state.mappings.put(identifier, current[identifier].fingerprint)
    for identifier in known.keys() - current.keys():
        mapping = Mapping.model_validate_json(known[identifier])
        log.info("%s is no longer mapped to %s: removing those keys", mapping.table, mapping.key)
        sweep(mapping.db, mapping.table.partition(".")[2], known[identifier])
        state.mappings.forget(identifier)


def _request(config: Config, state: State, snapshots: Snapshots, db: str, table: str, reason: str) -> None:
    waiting = state.snapshots.load(db, table)
    if waiting is not None and waiting.status == WAITING:
        return  # the start asked for it already
    if reason == "initial" and config.source.snapshot == "never":
        return
    snapshots.request(db, table, reason)
