"""MySQL's GTID events: the transaction's name and when it was committed. Pure."""

from __future__ import annotations

from uuid import UUID

_MICROSECONDS = 0x7F_FFFF_FFFF_FFFF  # 55 bits; the top bit says that the original's time follows


def mysql_gtid(event: bytes, end: int) -> tuple[str, int | None]:
    """(GTID, commit time in microseconds) of a GTID or ANONYMOUS_GTID event with header.

    Post-header: flags, UUID, number, clock type, last_committed, sequence_number; then, since 8.0, the commit time.
    """
    uuid = str(UUID(bytes=event[20:36]))
    number = int.from_bytes(event[36:44], "little")
    commit_ts_us = None
    if event[44:45] == b"\x02" and end >= 61 + 7:
        commit_ts_us = int.from_bytes(event[61:68], "little") & _MICROSECONDS
    return f"{uuid}:{number}", commit_ts_us


def tagged_gtid(body: bytes) -> tuple[str, int | None]:
    """The same of a GTID_TAGGED event's body: numbered fields in MySQL's own serialization format."""
    raise NotImplementedError
