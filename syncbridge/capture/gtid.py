"""GTID sets: what a server has executed, in both servers' notations. Pure values, no IO.

MySQL: `uuid[:tag]:1-5:7,uuid:…` (tags since 8.3). MariaDB: the last `domain-server-sequence` of every domain.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from uuid import UUID

from syncbridge.errors import ConfigError


class GtidSet:
    """A set of MySQL GTIDs: per (uuid, tag) the sorted, disjoint, inclusive intervals of transaction numbers."""

    def __init__(self, text: str = "") -> None:
        self._intervals: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for part in text.replace("\n", "").split(","):
            if part.strip():
                self._parse(part.strip().lower())

    def _parse(self, part: str) -> None:
        uuid, *pieces = part.split(":")
        tag = ""
        try:
            uuid = str(UUID(uuid.strip()))
            for piece in pieces:
                first, dash, last = piece.strip().partition("-")
                if first.isdigit():
                    self._insert(uuid, tag, int(first), int(last) if dash else int(first))
                else:
                    tag = first
        except ValueError as error:
            raise ConfigError(f"{part!r} is not a GTID set", hint="write it as uuid:1-5[:7-9],uuid:…") from error

    def _insert(self, uuid: str, tag: str, first: int, last: int) -> None:
        intervals = self._intervals.setdefault((uuid, tag), [])
        if intervals and intervals[-1][1] == first - 1:  # the common case: the next transaction
            intervals[-1] = (intervals[-1][0], last)
            return
        intervals.append((first, last))
        intervals.sort()
        merged = [intervals[0]]
        for start, end in intervals[1:]:
            if start <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        intervals[:] = merged

    def add(self, gtid: str) -> None:
        """Add one GTID (`uuid:5`, `uuid:tag:5`) or a whole set."""
        uuid, _, number = gtid.rpartition(":")
        intervals = self._intervals.get((uuid, ""))
        if intervals and number.isdigit() and intervals[-1][1] == int(number) - 1:  # nearly always
            intervals[-1] = (intervals[-1][0], intervals[-1][1] + 1)
            return
        for part in gtid.split(","):
            self._parse(part.strip().lower())

    def contains(self, other: GtidSet) -> bool:
        """Whether every GTID of `other` is in this set."""
        for key, intervals in other._intervals.items():
            mine = self._intervals.get(key, [])
            for first, last in intervals:
                index = bisect_right(mine, (first, 1 << 63)) - 1
                if index < 0 or mine[index][1] < last:
                    return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and self._intervals == other._intervals

    def __hash__(self) -> int:
        return hash(str(self))

    def __bool__(self) -> bool:
        return bool(self._intervals)

    def __iter__(self) -> Iterator[tuple[str, str, list[tuple[int, int]]]]:
        for uuid, tag in sorted(self._intervals):
            yield uuid, tag, self._intervals[uuid, tag]

    def __str__(self) -> str:
        parts: list[str] = []
        previous = ""
        for uuid, tag, intervals in self:
            ranges = ":".join(f"{first}-{last}" if last > first else f"{first}" for first, last in intervals)
            text = f"{tag}:{ranges}" if tag else ranges
            if uuid == previous:
                parts[-1] += f":{text}"
            else:
                parts.append(f"{uuid}:{text}")
            previous = uuid
        return ",".join(parts)

    def encode(self) -> bytes:
        """The set as COM_BINLOG_DUMP_GTID carries it; the tagged format only where there are tags."""
        sets = list(self)
        tagged = any(tag for _, tag, _ in sets)
        # In the tagged format the first and last byte of the count hold the format number, 1.
        out = [struct.pack("<Q", len(sets)) if not tagged else struct.pack("<Q", (len(sets) << 8) | 1 | (1 << 56))]
        for uuid, tag, intervals in sets:
            out.append(UUID(uuid).bytes)
            if tagged:
                out.append(bytes((len(tag) << 1,)) + tag.encode())
            out.append(struct.pack("<Q", len(intervals)))
            out.extend(struct.pack("<QQ", first, last + 1) for first, last in intervals)
        return b"".join(out)


class MariaGtidPosition:
    """MariaDB's GTID position: for each domain the last transaction, `domain-server-sequence`."""

    def __init__(self, text: str = "") -> None:
        self._domains: dict[int, tuple[int, int]] = {}
        for part in text.replace("\n", "").split(","):
            if part.strip():
                self.add(part.strip())

    def add(self, gtid: str) -> None:
        """Advance the GTID's domain to it."""
        try:
            domain, server_id, sequence = gtid.split("-")
            self._domains[int(domain)] = (int(server_id), int(sequence))
        except ValueError as error:
            raise ConfigError(f"{gtid!r} is not a MariaDB GTID", hint="write it as domain-server-sequence") from error

    def contains(self, other: MariaGtidPosition) -> bool:
        """Whether this position is at or past `other` in every domain (by sequence number)."""
        return all(self._domains.get(domain, (0, -1))[1] >= last[1] for domain, last in other._domains.items())

    def within(self, binlog_state: str) -> bool:
        """Whether a binlog holds, or once held, all of this position. `binlog_state`: @@gtid_binlog_state, the last
        `domain-server-sequence` of every server that wrote there; sequence numbers alone do not tell servers apart."""
        last: dict[tuple[int, int], int] = {}
        for part in binlog_state.replace("\n", "").split(","):
            if part.strip():
                domain, server, sequence = (int(number) for number in part.split("-"))
                last[domain, server] = sequence
        return all(last.get((domain, server), -1) >= seq for domain, (server, seq) in self._domains.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MariaGtidPosition) and self._domains == other._domains

    def __hash__(self) -> int:
        return hash(str(self))

    def __bool__(self) -> bool:
        return bool(self._domains)

    def __str__(self) -> str:
        return ",".join(f"{domain}-{server}-{seq}" for domain, (server, seq) in sorted(self._domains.items()))
