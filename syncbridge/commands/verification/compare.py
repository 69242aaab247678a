"""Does Redis hold what a row yields? Pure: values in, what differs out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from syncbridge.config import Mapping as MappingConfig
from syncbridge.sinks.keys import GUARD_FIELD
from syncbridge.sinks.mapping import CompiledMapping, Expected

#: Version and mapping id inside a guard: format digit, 40, 8, owner.
_ID = slice(41, 49)
_OWNER = slice(49, None)


@dataclass(frozen=True, slots=True)
class Stored:
    """What Redis holds under a key. `content` None: no key, or one of another type (`wrong_type` says which)."""

    content: dict[bytes, bytes] | bytes | None
    guard: bytes | None = None
    #: Milliseconds to live; -1 for ever, -2 no key.
    ttl_ms: int = -1
    wrong_type: str = ""

    @property
    def exists(self) -> bool:
        return self.content is not None or bool(self.wrong_type)

    @property
    def mapping_id(self) -> str:
        return (self.guard or b"")[_ID].decode("ascii", "replace")


def owner_of(guard: bytes | None) -> bytes:
    """The part of a guard that names its owner row; empty where there is none."""
    return (guard or b"")[_OWNER]


def differences(
    mapping: CompiledMapping, columns: list[str], expected: Expected, stored: Stored, *, expires: bool
) -> list[str]:
    """What is wrong, in words; empty when nothing is. `expires`: the row's key has a time to live."""
    if stored.wrong_type:
        return [f"the key is a {stored.wrong_type}, not a {expected.type}"]
    if stored.content is None:
        return ["the key is missing"]
    found = []
    if isinstance(expected.content, dict):
        assert isinstance(stored.content, dict)
        found += _hash(known_fields(mapping.config, columns), expected.content, stored.content)
    elif not _same_text(expected.content, stored.content, json=mapping.config.type == "json"):
        found.append("the value differs")
    if stored.guard is None or stored.mapping_id != mapping.id:
        found.append("the guard is missing: somebody else wrote this key")
    if expires != (stored.ttl_ms >= 0):
        found.append("the key never expires" if expires else "the key would expire")
    return found


def may_have_expired(mapping: MappingConfig, row: Mapping[str, Any], types: Mapping[str, str]) -> bool:
    """Whether a missing key may simply be over: its time to live counts from a moment that the row does not tell."""
    if mapping.ttl is None:
        return False
    if not mapping.ttl.column:
        return True
    moment = types.get(mapping.ttl.column) in ("date", "datetime")
    return row.get(mapping.ttl.column) is not None and not moment


def expires(mapping: MappingConfig, row: Mapping[str, Any]) -> bool:
    """Whether the row's key has a time to live."""
    return mapping.ttl is not None and (not mapping.ttl.column or row.get(mapping.ttl.column) is not None)


def known_fields(mapping: MappingConfig, columns: list[str]) -> set[bytes]:
    """The hash fields that are ours: each column's field, and the name of a column that is not shown."""
    return {mapping.columns.rename.get(name, name).encode() for name in columns}


def _hash(known: set[bytes], expected: dict[bytes, bytes], stored: dict[bytes, bytes]) -> list[str]:
    """Fields of others are theirs; ours must be equal."""
    found = []
    for field in sorted(known | expected.keys()):
        if field == GUARD_FIELD.encode():
            continue
        wanted, held = expected.get(field), stored.get(field)
        if wanted != held:
            what = "is missing" if held is None else "should be gone" if wanted is None else "differs"
            found.append(f"field {field.decode('utf-8', 'replace')} {what}")
    return found


def _same_text(expected: bytes, stored: Any, *, json: bool) -> bool:
    if expected == stored:
        return True
    if not json:
        return False
    try:  # the order of columns may have changed since it was written; readers do not see it
        one, other = (orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS) for text in (expected, stored))
    except orjson.JSONDecodeError:
        return False
    return one == other
