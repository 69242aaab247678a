"""MySQL's GTID events: the transaction's name and when it was committed. Pure."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

#: The 55 bits that hold a commit time, microseconds; the bit above says that the original's time follows.
COMMIT_TIME = 0x7F_FFFF_FFFF_FFFF


@lru_cache(1024)
def uuid_text(uuid: bytes) -> str:
    """A server's UUID as text."""
    return str(UUID(bytes=uuid))


def mysql_gtid(event: bytes, end: int) -> tuple[str, int | None]:
    """(GTID, commit time in microseconds) of a GTID or ANONYMOUS_GTID event with header.

    Post-header: flags, UUID, number, clock type, last_committed, sequence_number; then, since 8.0, the commit time.
    """
    number = int.from_bytes(event[36:44], "little")
    commit_ts_us = None
    if event[44:45] == b"\x02" and end >= 61 + 7:
        commit_ts_us = int.from_bytes(event[61:68], "little") & COMMIT_TIME
    return f"{uuid_text(event[20:36])}:{number}", commit_ts_us


def tagged_gtid(body: bytes) -> tuple[str, int | None]:
    """The same of a GTID_TAGGED event's body: numbered fields in MySQL's own serialization format.

    Format version, size, last field that may not be ignored; then field number and value, in ascending order. Raises
    ValueError or IndexError where a field is missing or unknown before the ones we need.
    """
    at = 0
    head = []
    for _ in range(3):
        value, at = _varint(body, at)
        head.append(value)
    if head[0] != _SERIALIZATION_VERSION:
        raise ValueError(f"tagged GTID has serialization version {head[0]}")
    fields: dict[int, int] = {}
    uuid, tag = b"", ""
    while at < len(body) and _COMMIT_TS not in fields:
        field, at = _varint(body, at)
        if field == _UUID:
            octets = []
            for _ in range(16):
                octet, at = _varint(body, at)
                octets.append(octet)
            uuid = bytes(octets)
        elif field == _TAG:
            size, at = _varint(body, at)
            tag = body[at : at + size].decode("ascii")
            at += size
        elif field <= _COMMIT_TS:
            fields[field], at = _varint(body, at)
        else:
            break
    number = fields[_NUMBER] >> 1  # signed: the lowest bit is the sign
    name = f"{uuid_text(uuid)}:{tag}:{number}" if tag else f"{uuid_text(uuid)}:{number}"
    return name, fields.get(_COMMIT_TS)


_SERIALIZATION_VERSION = 1
_UUID, _NUMBER, _TAG, _COMMIT_TS = 1, 2, 3, 6


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer whose first byte's trailing ones count the bytes that follow it, and the offset after it."""
    first = data[at]
    more = (~first & (first + 1)).bit_length() - 1
    if more >= 8:
        return int.from_bytes(data[at + 1 : at + 9], "little"), at + 9
    return int.from_bytes(data[at : at + 1 + more], "little") >> (more + 1), at + 1 + more
