"""Lanes: which lane a row belongs to, and how its events are cut into jobs (DESIGN section 5, "Jobs are batched").

A row keeps its lane for life, so that its changes stay in order. Nothing here touches a socket: jobs go to a LaneQueue.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from syncbridge.capture.changes import JsonRows, ReadRows, Shape, Transaction
from syncbridge.event import CREATE, DELETE, READ, UPDATE, Event
from syncbridge.seams import LaneQueue
from syncbridge.workload import Draft, decode_job, encode_job

#: A job is cut when it holds this many events, or about this many bytes of binlog.
MAX_EVENTS = 500
MAX_BYTES = 256 * 1024
#: Tables whose shape is remembered at one time.
MAX_SHAPES = 1000


def lane_of(db: str, table: str, key: Sequence[Any], lanes: int) -> int:
    """The lane of a row: stable across restarts and hosts."""
    return zlib.crc32(orjson.dumps([db, table, *key])) % lanes


def hash_start(db: str, table: str) -> int:
    """What the hashes begin with that the lanes of this table's rows are found by: the JSON of the key goes on."""
    return zlib.crc32(orjson.dumps([db, table])[:-1] + b",")


def lane_finder(shape: Shape, lanes: int) -> Callable[[Sequence[Any]], int]:
    """`lane_of` rows of one table that come as tuples: what they share is digested once (0.2 instead of 0.6 µs)."""
    crc32, dumps = zlib.crc32, orjson.dumps
    start = hash_start(shape.db, shape.table)
    values = shape.key_values
    places = [shape.columns.index(name) for name in shape.key_columns]
    if len(places) > 1:
        return lambda row: crc32(dumps(values(row))[1:], start) % lanes
    (place,) = places

    def lane(row: Sequence[Any]) -> int:
        value = row[place]
        return crc32(b"%d]" % value if type(value) is int else dumps(value) + b"]", start) % lanes

    return lane


class Lanes:
    """Collects events for each lane and submits them as jobs."""

    def __init__(
        self,
        queue: LaneQueue,
        count: int,
        max_packet: int,
        *,
        slim: Callable[[Event], Event],
        refuse: Callable[[Event, int], None],
    ) -> None:
        """`slim` answers a lighter form of an event that is too large for a job, itself where there is none; such an
        event is `refuse`d, with its bytes, and the lane goes on (DESIGN P5)."""
        self.count = count
        self._queue = queue
        self._slim = slim
        self._refuse = refuse
        self._max_job = max_packet - 1024  # function name and packet header
        self._shape: Shape | None = None
        self._find: Callable[[Sequence[Any]], int]
        self._key_places: list[int] = []
        self._finders: dict[int, tuple[Shape, Callable[[Sequence[Any]], int]]] = {}
        #: Sequence number of the last job submitted.
        self.submitted = 0
        self.clear()

    def add(self, lane: int, event: Event, size: int) -> None:
        """Put an event into its lane; `size`: about how many bytes it weighs."""
        draft = self._drafts[lane]
        if draft.count and self._bytes[lane] + size > MAX_BYTES:
            self._flush(lane)
            draft = self._drafts[lane]
        draft.add(event)
        self._bytes[lane] += size
        if draft.count >= MAX_EVENTS:
            self._flush(lane)

    def add_rows(
        self, transaction: Transaction, shape: Shape, op: str, rows: Sequence[Any], now_us: int, weight: int
    ) -> None:
        """Put the rows of one ROWS event into their lanes, numbered as they come.

        rows: tuples of `shape.columns`, pairs of them for a u; weight: about how many bytes each weighs. An update that
        changes a row's key becomes two events, d of the old row and c of the new one: each has the lane of its own key.
        Hot: a row costs its lane and two appends; one that comes alone, as most do, goes the short way.
        """
        if shape is not self._shape:
            self._look_at(shape)
        find, number, single = self._find, transaction.rows, len(rows) == 1
        if op == UPDATE:
            for before, after in rows:
                for place in self._key_places:
                    if before[place] != after[place]:
                        self._add_moved(transaction, shape, rows, now_us, weight)
                        return
        if single:
            row = rows[0]
            lane = find(after if op == UPDATE else row)
            transaction.rows = number + 1
            if self._bytes[lane] + weight > MAX_BYTES and self._drafts[lane].count:
                self._flush(lane)
            draft = self._drafts[lane]
            draft.add_row(shape, transaction, op, now_us, number, row)
            self._bytes[lane] += weight
            if draft.count >= MAX_EVENTS:
                self._flush(lane)
            return
        transaction.rows = number + len(rows)
        shares: list[tuple[list[int], list[Any]]] = [([], []) for _ in range(self.count)]
        for row in rows:
            numbers, its = shares[find(row[1] if op == UPDATE else row)]
            numbers.append(number)
            its.append(row)
            number += 1
        for lane, (numbers, its) in enumerate(shares):
            if its:
                self._extend(lane, transaction, shape, op, now_us, numbers, its, weight)

    def add_reads(
        self, transaction: Transaction, shape: Shape, number: int, rows: ReadRows, now_us: int, weight: int
    ) -> None:
        """Put rows of a snapshot into their lanes. They all have the version of their watermark, so one `number`."""
        shares: list[list[Any]] = [[] for _ in range(self.count)]
        if isinstance(rows, JsonRows):
            for text, its_hash in zip(rows.rows, rows.hashes, strict=True):
                shares[its_hash % self.count].append(text)
        else:
            if shape is not self._shape:
                self._look_at(shape)
            find = self._find
            for row in rows:
                shares[find(row)].append(row)
        for lane, its in enumerate(shares):
            if its:
                self._extend(lane, transaction, shape, READ, now_us, [number] * len(its), its, weight)

    def _look_at(self, shape: Shape) -> None:
        """Rows of this table come now."""
        known = self._finders.get(id(shape))
        if known is None:
            if len(self._finders) > MAX_SHAPES:
                self._finders.clear()
            known = self._finders[id(shape)] = shape, lane_finder(shape, self.count)
        self._shape, self._find = known
        self._key_places = [shape.columns.index(name) for name in shape.key_columns]

    def _add_moved(self, transaction: Transaction, shape: Shape, rows: Sequence[Any], now_us: int, weight: int) -> None:
        """Updates of which some changed their row's key, one after the other."""
        key, find = shape.key_values, self._find
        for before, after in rows:
            moved = key(before) != key(after)
            for op, row, image in (
                [(DELETE, before, before), (CREATE, after, after)] if moved else [(UPDATE, (before, after), after)]
            ):
                number = transaction.rows
                transaction.rows = number + 1
                self._extend(find(image), transaction, shape, op, now_us, [number], [row], weight)

    def _extend(
        self,
        lane: int,
        transaction: Transaction,
        shape: Shape,
        op: str,
        now_us: int,
        numbers: list[int],
        rows: list[Any],
        weight: int,
    ) -> None:
        while True:
            draft, size = self._drafts[lane], self._bytes[lane]
            room = min(MAX_EVENTS - draft.count, (MAX_BYTES - size) // (weight or 1))
            if room >= len(rows):
                draft.add_rows(shape, transaction, op, now_us, numbers, rows)
                self._bytes[lane] = size + weight * len(rows)
                return
            if room > 0 or not draft.count:
                room = max(room, 1)
                draft.add_rows(shape, transaction, op, now_us, numbers[:room], rows[:room])
                numbers, rows = numbers[room:], rows[room:]
            self._flush(lane)
            if not rows:
                return

    def flush(self) -> int:
        """Submit whatever is collected. Everything added before is covered by the sequence number returned."""
        for lane, draft in enumerate(self._drafts):
            if draft.count:
                self._flush(lane)
        return self.submitted

    def clear(self) -> None:
        """Forget what is collected but not submitted: capture will read it again."""
        self._drafts = [Draft() for _ in range(self.count)]
        self._bytes = [0] * self.count

    def _flush(self, lane: int) -> None:
        draft, self._drafts[lane] = self._drafts[lane], Draft()
        self._bytes[lane] = 0
        workload = draft.dump()
        if len(workload) <= self._max_job:
            self.submitted = self._queue.submit(lane, workload)
        else:  # JSON weighs more than the binlog
            self._submit_cut(lane, decode_job(workload))

    def _submit_cut(self, lane: int, events: list[Event]) -> None:
        if len(events) > 1:
            middle = len(events) // 2
            self._submit(lane, events[:middle])
            self._submit(lane, events[middle:])
            return
        (event,) = events
        slim = self._slim(event)
        if slim is not event:
            self._submit(lane, [slim])
        else:
            self._refuse(event, len(encode_job(events)))

    def _submit(self, lane: int, events: list[Event]) -> None:
        workload = encode_job(events)
        if len(workload) <= self._max_job:
            self.submitted = self._queue.submit(lane, workload)
        else:
            self._submit_cut(lane, events)
