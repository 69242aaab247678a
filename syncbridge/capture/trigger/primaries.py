"""One primary only: ids of an outbox ascend in the order of commits where one server takes writes (DESIGN 5). Pure."""

from __future__ import annotations

from collections.abc import Mapping

#: Global variable -> its value where several servers take writes.
SEVERAL_PRIMARIES = {"wsrep_on": "ON", "group_replication_single_primary_mode": "OFF"}


def several_primaries(variables: Mapping[str, str]) -> str:
    """`name=value` of the first variable that says so; empty where none does. A server may lack any of them."""
    for name, refused in SEVERAL_PRIMARIES.items():
        if variables.get(name, "").upper() == refused:
            return f"{name}={refused}"
    return ""
