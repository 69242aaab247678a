"""Snapshots and re-reads: which table is being read, and chunks turned into events at their watermark (DESIGN P3).

Lives in capture's loop; the reading itself happens in ChunkReader's threads. A chunk becomes events once capture has
met its place in the binlog (watermark.py): its rows then carry that version, so later changes win and older ones lose.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from syncbridge import metrics
from syncbridge.capture.changes import Shape, Transaction, event, reread_events
from syncbridge.capture.delivery import Delivery
from syncbridge.capture.snapshot.chunks import ChunkReader
from syncbridge.capture.snapshot.orders import Chunk, ChunkOrder
from syncbridge.capture.snapshot.scan import Piece
from syncbridge.capture.snapshot.under_way import UnderWay
from syncbridge.capture.start import file_number
from syncbridge.capture.tables import Name, Tables
from syncbridge.event import DELETE, READ
from syncbridge.state import Request, SnapshotRow, State
from syncbridge.state.requests import REREAD, SNAPSHOT
from syncbridge.state.snapshots import DONE, RUNNING, SWEEPING, WAITING

log = logging.getLogger(__name__)

#: Rows read again in one go.
REREAD_BATCH = 200
#: Tables that are read wait for others, to be swept together: so many of them, so many seconds at most.
MANY_SWEEPS, SWEEP_WAIT = 100, 1.0
#: How often an idle one asks the state whether a table waits, beside every request made here, seconds.
LOOK_INTERVAL = 0.5


class CaptureLoop(Protocol):
    """What snapshots need of the loop they live in."""

    def sweep_all(self, tables: Iterable[tuple[str, str, str]]) -> None:
        """Barrier: wait until the lanes are empty, remove each db.table's keys older than a version, wait again."""

    def idle(self, timeout: float) -> None:
        """Let the queue breathe for at most `timeout` seconds."""

    def transaction_before(self, file: str, pos: int) -> Transaction:
        """A stand-in for whatever transaction ends at this position."""

    @property
    def position(self) -> str:
        """Version of the transaction being read: nothing emitted so far is newer."""

    @property
    def stopping(self) -> bool: ...


@dataclass(slots=True)
class _Watermark:
    """A watermark met in the binlog."""

    transaction: Transaction
    version: str


class Snapshots:
    """All snapshots and re-reads of one pipeline."""

    def __init__(
        self,
        pipeline: str,
        state: State,
        tables: Tables,
        reader: ChunkReader,
        delivery: Delivery,
        loop: CaptureLoop,
    ) -> None:
        self._pipeline = pipeline
        self._state = state
        self._tables = tables
        self._reader = reader
        self._delivery = delivery
        self._loop = loop
        self._under_way: dict[Name, UnderWay] = {}
        self._waiting: deque[SnapshotRow] = deque()  # tables to be read after those
        self._sweeps: deque[SnapshotRow] = deque()  # tables that are read and durable
        self._sweep_by = 0.0  # when those wait no longer for others, monotonic
        self._next_look = 0.0  # when to look into the state for tables to read
        self._stale = 0  # chunks up to this token were read from a server that is the source no longer
        self._chunks: dict[int, Chunk] = {}
        self._watermarks: dict[int, _Watermark] = {}
        self._rereading: set[int] = set()
        self._emptied: dict[Name, str] = {}  # chunks from before this version hold rows that are gone
        self._next_place: tuple[int, int] | None = None  # of the first chunk that waits for reached()
        self._shaped: dict[Name, str] = {}  # since when row events of a once blind table are decoded

    # -- what to read ------------------------------------------------------------------------------------------------

    def request(self, db: str, table: str, reason: str) -> None:
        """(Re)load a table. Durable when this returns; one that is under way starts again."""
        now = time.time()
        if not self._tables.mapped(db, table):
            return  # left out, see Tables.refuse
        if self._tables.wanted(db, table):
            self._tables.blind(db, table, "")  # its first chunk brings its shape
        log.info("snapshot of %s.%s requested: %s", db, table, reason)
        self._state.snapshots.save(SnapshotRow(db=db, table=table, status=WAITING, reason=reason, started_at=now))
        self._next_look = 0.0
        self._waiting.clear()
        self._abandon((db, table))

    def forget(self, db: str, table: str) -> None:
        """The table is gone; so is its snapshot."""
        row = self._state.snapshots.load(db, table)
        if row is not None and row.status != DONE:
            self._state.snapshots.save(replace(row, status=DONE, finished_at=time.time()))
            self._waiting.clear()
        self._abandon((db, table))

    def emptied(self, db: str, table: str, version: str) -> None:
        """TRUNCATE, DROP: rows read before it must not come back behind its sweep."""
        self._emptied[(db, table)] = version
        reading = (db, table) in self._under_way
        if self._tables.is_blind(db, table) or (reading and self._tables.get(db, table) is not None):
            self.request(db, table, "emptied while it was read")
        elif self._tables.get(db, table) is None:
            self.forget(db, table)

    def restart_unfinished(self) -> None:
        """Another server: watermarks written to the old one will never be met."""
        self._forget_chunks()
        for row in self._state.snapshots.all():
            if row.status != DONE:
                self.request(row.db, row.table, row.reason)

    def restart_all(self, names: list[Name], reason: str) -> None:
        """Positions are no longer comparable: every table is read again from its first row."""
        self._forget_chunks()
        self._sweeps.clear()
        read_before = [(row.db, row.table) for row in self._state.snapshots.all()]
        for db, table in dict.fromkeys([*names, *read_before]):  # one that is gone meanwhile ends with its sweep
            if self._tables.mapped(db, table):
                self.request(db, table, reason)

    def _forget_chunks(self) -> None:
        """Those read from another server, on their way to us too; what they were to serve is still in the state."""
        for name in list(self._under_way):
            self._abandon(name)
        self._stale = self._reader.reset()
        self._chunks.clear()
        self._watermarks.clear()
        self._rereading.clear()

    def rewound(self, version: str) -> None:
        """Capture goes back to `version`: chunks emitted behind it may be lost, so their tables start again."""
        for row in self._state.snapshots.all():
            if row.last_version >= version:
                self.request(row.db, row.table, "read again after Redis or the queue lost data")

    def reread(self, requests: list[Request]) -> None:
        """Read single rows again, as asked by workers and commands."""
        groups: dict[Name, list[Request]] = {}
        for request in requests:
            if request.id in self._rereading:
                continue
            if not self._tables.mapped(request.db, request.table):
                self._state.requests.done(request.id)
                continue
            groups.setdefault((request.db, request.table), []).append(request)
        for (db, table), group in groups.items():
            for start in range(0, len(group), REREAD_BATCH):
                batch = group[start : start + REREAD_BATCH]
                self._rereading.update(request.id for request in batch)
                keys = [request.payload["key"] for request in batch]
                self._reader.read(
                    ChunkOrder(db=db, table=table, key_columns=self._tables.key_columns, keys=keys, purpose=batch)
                )

    def take_requests(self) -> None:
        """Start what commands and workers asked for in the state: whole tables."""
        for request in self._state.requests.pending(SNAPSHOT):
            names = {*self._tables.names(), *((row.db, row.table) for row in self._state.snapshots.all())}
            if request.table:
                names.add((request.db, request.table))
            for db, table in sorted(names):
                if request.db in ("", db) and request.table in ("", table) and self._tables.mapped(db, table):
                    self.request(db, table, str(request.payload.get("reason", "asked for")))
            self._state.requests.done(request.id)

    def poll_requests(self) -> None:
        """Collect the re-reads asked for in the state."""
        if len(self._rereading) < 5 * REREAD_BATCH:
            self.reread(self._state.requests.pending(REREAD))

    @property
    def sweep_due(self) -> bool:
        """Tables are read and durable, and finish_sweeps() has work. A barrier costs the same for one and for many."""
        if not self._sweeps:
            return False
        reading = bool(self._under_way or self._waiting)
        return not reading or len(self._sweeps) >= MANY_SWEEPS or time.monotonic() >= self._sweep_by

    # -- in capture's loop -------------------------------------------------------------------------------------------

    def watermark(self, token: int, transaction: Transaction, version: str) -> None:
        """Capture met this watermark in the binlog."""
        self._watermarks[token] = _Watermark(transaction, version)
        while len(self._watermarks) > 1000:  # watermarks of other processes, or of chunks read again
            del self._watermarks[next(iter(self._watermarks))]
        name = self._reader.reading(token)
        if name is not None and self._tables.is_blind(*name):
            # Row events behind this watermark need the schema that its chunk brings.
            while self._reader.reading(token) and not self._loop.stopping:
                self._loop.idle(0.01)
        self.step()

    def step(self) -> None:
        """Do what can be done now; called at every turn of the loop, never while a row event is being handled."""
        self._collect()
        self._emit_placed()
        self._order_more()

    def _emit_placed(self) -> None:
        """Chunks whose place was met become events, those of one table in the order of its key."""
        emitted = True
        while emitted:
            emitted = False
            for token in [token for token in self._chunks if token in self._watermarks]:
                chunk = self._chunks.get(token)
                if chunk is None or not self._may_emit(chunk):  # another one may have dropped it
                    continue
                del self._chunks[token]
                self._emit(chunk, self._watermarks.pop(token))
                emitted = True

    def _may_emit(self, chunk: Chunk) -> bool:
        table = chunk.order.purpose
        if not isinstance(table, UnderWay):
            return True
        # The first chunk is small, and what comes behind its watermark may need the shape that it brings.
        return table.is_next(chunk) and not table.ended and not (table.begun and self._delivery.full)

    @property
    def expects_position(self) -> bool:
        """A chunk without a watermark row waits for reached()."""
        return self._next_place is not None

    def reached(self, file: str, pos: int) -> None:
        """Capture has read up to here: chunks that are placed by a position before it become events."""
        here = file_number(file), pos
        if self._next_place is not None and here < self._next_place and not self._reader.any_finished:
            return
        self._collect()
        for token, chunk in list(self._chunks.items()):
            place = chunk.place
            if place is None or place.order > here or token in self._watermarks or token not in self._chunks:
                continue
            transaction = self._loop.transaction_before(place.file, place.pos)
            version = transaction.version(0xFFFFFFFF)
            if self._came_too_late(chunk, version, exact=place.order == here):
                self._chunks.pop(token, None)
            else:
                self._watermarks[token] = _Watermark(transaction, version)
                self._emit_placed()
        waiting = [chunk.place for token, chunk in self._chunks.items() if token not in self._watermarks]
        self._next_place = min((place.order for place in waiting if place is not None), default=None)

    def _came_too_late(self, chunk: Chunk, version: str, *, exact: bool) -> bool:
        """Whether row events behind the chunk's place were passed over for want of its shape: it is read again.

        A capture that is behind stops at the very place, and nothing is passed over. One that keeps up is past it.
        """
        db, table = chunk.order.db, chunk.order.table
        if not isinstance(chunk.order.purpose, UnderWay) or chunk.schema is None:
            return False
        if self._tables.is_blind(db, table) and not exact:
            self._tables.put(chunk.schema, self._loop.position)
            self._shaped[(db, table)] = self._loop.position
        if version >= self._shaped.get((db, table), ""):
            return False
        self.request(db, table, "its shape is known now")
        return True

    def finish_sweeps(self) -> None:
        """Sweep tables that are read; called between transactions only, for it waits until the lanes are empty."""
        rows = list(self._sweeps)
        self._loop.sweep_all((row.db, row.table, row.first_version) for row in rows)
        for row in rows:
            self._sweeps.remove(row)
            done = replace(
                row,
                status=DONE,
                finished_at=time.time(),
                last_version=max(row.last_version, self._loop.position),
            )
            self._state.snapshots.save(done)
            metrics.SNAPSHOT_RUNNING.labels(f"{row.db}.{row.table}").set(0)
            log.info("snapshot of %s.%s done: %d rows", row.db, row.table, row.rows_done)

    def _sweep_later(self, row: SnapshotRow) -> None:
        if not self._sweeps:
            self._sweep_by = time.monotonic() + SWEEP_WAIT
        self._sweeps.append(row)

    def _collect(self) -> None:
        for chunk in self._reader.finished():
            name, table = (chunk.order.db, chunk.order.table), chunk.order.purpose
            if isinstance(table, UnderWay) and table is not self._under_way.get(name):
                continue
            if chunk.refusal is not None:
                self._tables.refuse(*name, chunk.refusal)
                self.forget(*name)
            elif chunk.rekeyed:
                self.request(*name, "its key changed while it was read")
            elif chunk.nothing:
                table.ordered -= 1
            elif chunk.token > self._stale:
                self._chunks[chunk.token] = chunk
                if chunk.place is not None and (self._next_place is None or chunk.place.order < self._next_place):
                    self._next_place = chunk.place.order

    def _order_more(self) -> None:
        """Have so many chunks on their way that readers need not wait, of one table as long as it has more."""
        while sum(table.ordered for table in self._under_way.values()) < self._reader.ahead:
            table = next((table for table in self._under_way.values() if table.wants_more), None) or self._next_table()
            if table is None:
                return
            self._order(table, None)

    def _order(self, table: UnderWay, piece: Piece | None) -> None:
        db, name = table.name
        table.ordered += 1
        self._reader.read(
            ChunkOrder(
                db=db,
                table=name,
                key_columns=self._tables.key_columns,
                scan=table.scan,
                piece=piece,
                purpose=table,
            )
        )

    def _next_table(self) -> UnderWay | None:
        """Begin with a table that waits; those that are read already are to be swept."""
        if not self._waiting and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_INTERVAL
            self._waiting.extend(self._unfinished())
        while self._waiting:
            row = self._waiting.popleft()
            if row.status == SWEEPING:
                self._sweep_later(row)
                continue
            place = f"{row.db}.{row.table}"
            metrics.SNAPSHOT_RUNNING.labels(place).set(1)
            log.info("snapshot of %s: %s", place, "resumed" if row.last_key else f"started ({row.reason})")
            table = self._under_way[(row.db, row.table)] = UnderWay(row, self._reader)
            return table
        return None

    def _unfinished(self) -> list[SnapshotRow]:
        """What the state wants read and nobody has begun with."""
        begun = {*self._under_way, *((row.db, row.table) for row in self._sweeps)}
        rows = [row for row in self._state.snapshots.all() if row.status != DONE]
        return [row for row in rows if (row.db, row.table) not in begun and self._tables.mapped(row.db, row.table)]

    def _abandon(self, name: Name) -> None:
        """Drop a table's snapshot under way, its row in the state not touched."""
        self._sweeps = deque(row for row in self._sweeps if (row.db, row.table) != name)
        table = self._under_way.pop(name, None)
        if table is not None:
            table.scan.cancelled = True
            self._chunks = {token: chunk for token, chunk in self._chunks.items() if chunk.order.purpose is not table}

    # -- chunks to events --------------------------------------------------------------------------------------------

    def _emit(self, chunk: Chunk, watermark: _Watermark) -> None:
        table = chunk.order.purpose
        if isinstance(table, UnderWay):
            self._emit_chunk(table, chunk, watermark)
        elif watermark.version < self._emptied.get((chunk.order.db, chunk.order.table), ""):
            self._reader.read(chunk.order)
        else:
            self._emit_reread(chunk, watermark)

    def _emit_chunk(self, table: UnderWay, chunk: Chunk, watermark: _Watermark) -> None:
        before = table.row
        db, name = table.name
        if chunk.schema is not None and self._tables.is_blind(db, name):
            self._tables.put(chunk.schema, watermark.version)
        last_key = before.last_key
        if chunk.schema is not None and chunk.rows:
            gone = self._tables.gone_columns(chunk.schema)
            shape = Shape(db, name, self._tables.key_columns(chunk.schema), chunk.schema.types(), gone, chunk.columns)
            number, weight = int(watermark.version[32:], 16), chunk.weight // len(chunk.rows) + 16
            self._delivery.emit_reads(watermark.transaction, shape, number, chunk.rows, weight)
            last_key = orjson.dumps(shape.key_values(chunk.rows[-1])).decode()
        metrics.EVENTS_CAPTURED.labels(f"{db}.{name}", READ).inc(len(chunk.rows))
        row = replace(
            before,
            status=SWEEPING if chunk.last else RUNNING,
            # Chunks that were read at the same time met their places in any order: what is older than all is gone.
            first_version=min(before.first_version or watermark.version, watermark.version),
            last_version=max(watermark.version, self._loop.position),
            last_key=last_key,
            rows_done=before.rows_done + len(chunk.rows),
            rows_estimate=chunk.estimate or before.rows_estimate,
        )
        table.emitted(chunk, row)
        if table.ended:
            table.scan.cancelled = True
        elif chunk.rest is not None:
            self._order(table, chunk.rest)
        self._delivery.when_durable(lambda: self._durable(table, row))

    def _durable(self, table: UnderWay, row: SnapshotRow) -> None:
        """The chunk is in the queue: a restart goes on behind it."""
        if self._under_way.get(table.name) is not table:
            return
        self._state.snapshots.save(row)
        place = f"{row.db}.{row.table}"
        metrics.SNAPSHOT_ROWS.labels(place).set(row.rows_done)
        metrics.SNAPSHOT_ESTIMATE.labels(place).set(max(row.rows_estimate, row.rows_done))
        if row.status == SWEEPING:
            self._abandon(table.name)
            self._sweep_later(row)

    def _emit_reread(self, chunk: Chunk, watermark: _Watermark) -> None:
        requests: list[Request] = chunk.order.purpose
        db, table = chunk.order.db, chunk.order.table
        found: dict[bytes, dict[str, Any]] = {}
        columns: tuple[str, ...] = ()
        gone: tuple[str, ...] = ()
        if chunk.schema is not None:
            gone = self._tables.gone_columns(chunk.schema)
            columns = self._tables.key_columns(chunk.schema)
            found = {orjson.dumps([row[name] for name in columns]): row for row in chunk.dicts()}
            if any(set(request.payload["key"]) != set(columns) for request in requests):
                self.request(db, table, "rows were to be read again by an older key")
        types = chunk.schema.types() if chunk.schema else {}
        shape = Shape(db, table, columns, types, gone)
        now = time.time_ns() // 1000
        size = chunk.weight // (len(chunk.rows) or 1) + 100
        for request in requests:
            key = request.payload["key"]
            if chunk.schema is not None and set(key) != set(columns):
                continue  # the whole table comes
            row = found.get(orjson.dumps([key[name] for name in columns or key]))
            images = request.payload.get("rows") or []
            for op, before, after in reread_events(row, images):
                one = event(watermark.transaction, shape, op, key, before, after, now, watermark.version)
                if op == DELETE:
                    one["types"] = request.payload.get("types") or types
                self._delivery.emit(one, size)
        ids = [request.id for request in requests]
        self._delivery.when_durable(lambda: self._reread_done(db, table, ids))

    def _reread_done(self, db: str, table: str, ids: list[int]) -> None:
        # A rewind to before this moment would not bring these rows again: it reads the table.
        self._state.snapshots.touch(db, table, self._loop.position)
        self._state.requests.done(*ids)
        self._rereading.difference_update(ids)
