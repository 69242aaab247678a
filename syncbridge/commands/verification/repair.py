"""Mending differences the normal way: capture reads the rows again and their events overtake what Redis holds.

Nothing here writes to Redis. An extra key that no row tells how to remove goes with a snapshot of its table, which
ends in a sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from syncbridge.capture.schema import TableSchema
from syncbridge.commands.verification.verifier import EXTRA, Difference
from syncbridge.config import Mapping
from syncbridge.state import State
from syncbridge.state.requests import REREAD, SNAPSHOT


def reread_payload(difference: Difference, mapping: Mapping, schema: TableSchema) -> dict[str, Any] | None:
    """What to ask capture for; None when reading one row again cannot mend it. Pure.

    A missing or different key: its row is read and written again. An extra key: its row, with the image that the key
    tells, so that the key goes even if the row yields another one now.
    """
    if difference.row_key is None:
        return None
    payload: dict[str, Any] = {"key": difference.row_key}
    if difference.kind != EXTRA:
        return payload
    image = difference.image or {}
    if image.keys() == difference.row_key.keys():
        # The key follows from the primary key: a row that is gone takes it along, one that no longer matches does not.
        return None if difference.row_exists and mapping.where else payload
    if mapping.where:
        return None  # whether an image in parts matched cannot be told
    return {**payload, "rows": [image], "types": schema.types()}


def request_repairs(
    state: State, found: Sequence[Difference], mappings: dict[str, Mapping], schema: TableSchema | None
) -> None:
    """File what mends these differences of one table; durable when it returns."""
    whole: set[tuple[str, str]] = set()
    for difference in found:
        db, _, table = difference.table.partition(".")
        mapping = mappings[difference.mapping]
        payload = None if schema is None else reread_payload(difference, mapping, schema)
        if payload is None:
            whole.add((db, table))
        else:
            state.requests.file(REREAD, db, table, payload)
    for db, table in whole:
        state.requests.file(SNAPSHOT, db, table, {"reason": "verify found keys without a row"})
