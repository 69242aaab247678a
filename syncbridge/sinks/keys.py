"""The names and guards that syncbridge keeps in Redis beside the data. Pure."""

from __future__ import annotations

#: First character of every guard; a higher digit was written by a newer syncbridge.
GUARD_FORMAT = "1"
#: The field of a hash that holds its guard.
GUARD_FIELD = "_v"


def meta_key(pipeline: str) -> str:
    """Hash: format, sink_id, epoch, identity. See marks.py."""
    return f"syncbridge:{pipeline}:meta"


def marks_key(pipeline: str) -> str:
    """Hash: lane -> version of the last event applied."""
    return f"syncbridge:{pipeline}:marks"


def companion_prefix(pipeline: str) -> bytes:
    return f"syncbridge:{pipeline}:g:".encode()


def companion_key(prefix: bytes, key: bytes) -> bytes:
    """Where the guard of a string, or the tombstone of `key`, lives: in the same Cluster slot as the key.

    A key with a lone brace cannot share its slot with anything but itself; outside Cluster that does not matter.
    """
    opening = key.find(b"{")
    if opening >= 0:
        closing = key.find(b"}", opening + 1)
        if closing > opening + 1:
            return prefix + key
    return b"%b{%b}" % (prefix, key)


def guard(version: str, mapping_id: str, owner: str = "") -> str:
    """Format digit, version (40 hex), mapping id (8 hex), owner row."""
    return f"{GUARD_FORMAT}{version}{mapping_id}{owner}"
