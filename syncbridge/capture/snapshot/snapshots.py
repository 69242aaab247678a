"""Snapshots and re-reads: which table is being read, and chunks turned into events at their watermark (DESIGN P3).

Lives in capture's loop; the reading itself happens in ChunkReader's thread. A chunk becomes events once capture has
met its place in the binlog (watermark.py): its rows then carry that version, so later changes win and older ones lose.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from syncbridge import metrics
from syncbridge.capture.changes import Shape, Transaction, event, reread_events
from syncbridge.capture.snapshot.chunks import Chunk, ChunkOrder, ChunkReader
from syncbridge.capture.start import file_number
from syncbridge.capture.tables import Name, Tables
from syncbridge.event import DELETE, READ, Event
from syncbridge.state import Request, SnapshotRow, State
from syncbridge.state.requests import REREAD, SNAPSHOT
from syncbridge.state.snapshots import DONE, RUNNING, SWEEPING, WAITING

log = logging.getLogger(__name__)

#: Chunks read but not yet emitted: bounds memory while capture is still on its way to their watermarks.
READ_AHEAD = 2
#: Rows read again in one go.
REREAD_BATCH = 200
#: How often an idle one asks the state whether a table waits, beside every request made here, seconds.
LOOK_INTERVAL = 0.5


class Emitter(Protocol):
    """What snapshots need of capture."""

    def emit(self, event: Event, size: int) -> None:
        """Put the event into its lane."""

    def emit_reads(self, transaction: Transaction, shape: Shape, number: int, rows: list[Any], weight: int) -> None:
        """Put rows of a table into their lanes, all with this number in the transaction; `weight` bytes each."""

    def when_durable(self, action: Callable[[], None]) -> None:
        """Flush the lanes; run the action once everything emitted so far is durable in the queue."""

    def sweep(self, db: str, table: str, version: str) -> None:
        """Barrier: wait until the lanes are empty, remove the table's keys older than `version`, wait again."""

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

    def __init__(self, pipeline: str, state: State, tables: Tables, reader: ChunkReader, emitter: Emitter) -> None:
        self._pipeline = pipeline
        self._state = state
        self._tables = tables
        self._reader = reader
        self._emitter = emitter
        self._active: SnapshotRow | None = None
        self._next_look = 0.0  # when to look into the state for tables to read
        self._generation = 0  # chunks ordered for an earlier generation are dropped
        self._ordered = 0
        self._stale = 0  # chunks up to this token were read from a server that is the source no longer
        self._collected = 0  # token of the newest chunk; tokens of one process ascend
        self._chunks: dict[int, Chunk] = {}
        self._watermarks: dict[int, _Watermark] = {}
        self._rereading: set[int] = set()
        self._emptied: dict[Name, str] = {}  # chunks from before this version hold rows that are gone
        self._sweep_now: SnapshotRow | None = None
        self._by_position = False
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
        if self._active is not None and (self._active.db, self._active.table) == (db, table):
            self._abandon()
        if self._sweep_now is not None and (self._sweep_now.db, self._sweep_now.table) == (db, table):
            self._sweep_now = None

    def forget(self, db: str, table: str) -> None:
        """The table is gone; so is its snapshot."""
        row = self._state.snapshots.load(db, table)
        if row is not None and row.status != DONE:
            self._state.snapshots.save(replace(row, status=DONE, finished_at=time.time()))
        if self._active is not None and (self._active.db, self._active.table) == (db, table):
            self._abandon()

    def emptied(self, db: str, table: str, version: str) -> None:
        """TRUNCATE, DROP: rows read before it must not come back behind its sweep."""
        self._emptied[(db, table)] = version
        reading = self._active is not None and (self._active.db, self._active.table) == (db, table)
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
        self._abandon()
        self._sweep_now = None
        self._forget_chunks()
        read_before = [(row.db, row.table) for row in self._state.snapshots.all()]
        for db, table in dict.fromkeys([*names, *read_before]):  # one that is gone meanwhile ends with its sweep
            if self._tables.mapped(db, table):
                self.request(db, table, reason)

    def _forget_chunks(self) -> None:
        """Those read from another server, on their way to us too; the requests they serve are still in the state."""
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
        """A table is read and durable: finish_sweeps() has work."""
        return self._sweep_now is not None

    # -- in capture's loop -------------------------------------------------------------------------------------------

    def watermark(self, token: int, transaction: Transaction, version: str) -> None:
        """Capture met this watermark in the binlog."""
        self._watermarks[token] = _Watermark(transaction, version)
        while len(self._watermarks) > 1000:  # watermarks of other processes, or of chunks read again
            del self._watermarks[next(iter(self._watermarks))]
        active = self._active
        if active is not None and self._tables.is_blind(active.db, active.table):
            # Row events behind this watermark need the schema that its chunk brings.
            while self._reader.wrote(token) and self._collected < token and not self._emitter.stopping:
                if self._reader.trouble is not None:
                    raise self._reader.trouble  # the source may have failed, and nobody would notice here
                self._collect()
                self._emitter.idle(0.01)
        self.step()

    def step(self) -> None:
        """Do what can be done now; called at every turn of the loop, never while a row event is being handled."""
        self._collect()
        for token in [token for token in self._chunks if token in self._watermarks]:
            self._emit(self._chunks[token], self._watermarks[token])
            self._chunks.pop(token, None)  # the emission may have dropped it itself
            self._watermarks.pop(token, None)
        if self._active is None and self._sweep_now is None and time.monotonic() >= self._next_look:
            self._next_table()
        self._order_more()

    @property
    def expects_position(self) -> bool:
        """A chunk without a watermark row waits for reached()."""
        return self._by_position

    def reached(self, file: str, pos: int) -> None:
        """Capture has read up to here: chunks that are placed by a position before it become events."""
        self._collect()
        here = file_number(file), pos
        for token, chunk in list(self._chunks.items()):
            place = chunk.place
            if place is None or place.order > here or token not in self._chunks:
                continue
            transaction = self._emitter.transaction_before(place.file, place.pos)
            watermark = _Watermark(transaction, transaction.version(0xFFFFFFFF))
            if not self._came_too_late(chunk, watermark.version, exact=place.order == here):
                self._emit(chunk, watermark)
            self._chunks.pop(token, None)
        self._by_position = any(chunk.place is not None for chunk in self._chunks.values())

    def _came_too_late(self, chunk: Chunk, version: str, *, exact: bool) -> bool:
        """Whether row events behind the chunk's place were passed over for want of its shape: it is read again.

        A capture that is behind stops at the very place, and nothing is passed over. One that keeps up is past it.
        """
        db, table = chunk.order.db, chunk.order.table
        if not isinstance(chunk.order.purpose, int) or chunk.schema is None:
            return False
        if self._tables.is_blind(db, table) and not exact:
            self._tables.put(chunk.schema, self._emitter.position)
            self._shaped[(db, table)] = self._emitter.position
        if version >= self._shaped.get((db, table), ""):
            return False
        self.request(db, table, "its shape is known now")
        return True

    def finish_sweeps(self) -> None:
        """Sweep a table that is read; called between transactions only, for it waits until the lanes are empty."""
        row = self._sweep_now
        if row is None:
            return
        self._emitter.sweep(row.db, row.table, row.first_version)
        self._sweep_now = None
        done = replace(
            row,
            status=DONE,
            finished_at=time.time(),
            last_version=max(row.last_version, self._emitter.position),
        )
        self._state.snapshots.save(done)
        metrics.SNAPSHOT_RUNNING.labels(f"{row.db}.{row.table}").set(0)
        log.info("snapshot of %s.%s done: %d rows", row.db, row.table, row.rows_done)

    def _collect(self) -> None:
        if self._reader.failure is not None:
            raise self._reader.failure
        self._reader.bell.quiet()
        while True:
            try:
                chunk = self._reader.chunks.get_nowait()
            except queue.Empty:
                return
            self._collected = chunk.token
            if chunk.refusal is not None:
                self._tables.refuse(chunk.order.db, chunk.order.table, chunk.refusal)
                self.forget(chunk.order.db, chunk.order.table)
                continue
            if isinstance(chunk.order.purpose, int):
                if chunk.order.purpose != self._generation:
                    continue
                self._ordered -= 1
                self._read_on(chunk)
            if chunk.token > self._stale:
                self._chunks[chunk.token] = chunk
                self._by_position |= chunk.place is not None

    def _next_table(self) -> None:
        rows = [row for row in self._state.snapshots.all() if row.status != DONE]
        rows = [row for row in rows if self._tables.mapped(row.db, row.table)]
        if not rows:
            self._next_look = time.monotonic() + LOOK_INTERVAL
            return
        row = rows[0]
        if row.status == SWEEPING:
            self._sweep_now = row
            return
        self._active = row
        metrics.SNAPSHOT_RUNNING.labels(f"{row.db}.{row.table}").set(1)
        log.info("snapshot of %s.%s: %s", row.db, row.table, "resumed" if row.last_key else f"started ({row.reason})")
        self._next_after: list[Any] | None = orjson.loads(row.last_key) if row.last_key else None
        self._exhausted = False

    def _order_more(self) -> None:
        active = self._active
        if active is None or self._ordered or self._exhausted or len(self._chunks) >= READ_AHEAD:
            return
        self._ordered = 1
        self._reader.read(
            ChunkOrder(
                db=active.db,
                table=active.table,
                key_columns=self._tables.key_columns,
                after_key=self._next_after,
                purpose=self._generation,
            )
        )

    def _read_on(self, chunk: Chunk) -> None:
        self._exhausted = chunk.last
        if chunk.rows and chunk.schema is not None:
            columns = self._tables.key_columns(chunk.schema)
            self._next_after = [chunk.rows[-1][name] for name in columns]

    def _abandon(self) -> None:
        """Drop the snapshot under way, its row in the state not touched."""
        self._generation += 1
        self._ordered = 0
        self._active = None
        self._chunks = {t: c for t, c in self._chunks.items() if not isinstance(c.order.purpose, int)}

    # -- chunks to events --------------------------------------------------------------------------------------------

    def _emit(self, chunk: Chunk, watermark: _Watermark) -> None:
        if isinstance(chunk.order.purpose, int):
            self._emit_chunk(chunk, watermark)
        elif watermark.version < self._emptied.get((chunk.order.db, chunk.order.table), ""):
            self._reader.read(chunk.order)
        else:
            self._emit_reread(chunk, watermark)

    def _emit_chunk(self, chunk: Chunk, watermark: _Watermark) -> None:
        active = self._active
        assert active is not None
        db, table = active.db, active.table
        if chunk.schema is not None and self._tables.is_blind(db, table):
            self._tables.put(chunk.schema, watermark.version)
        first = active.first_version or watermark.version
        last_key = active.last_key
        if chunk.schema is not None and chunk.rows:
            gone = self._tables.gone_columns(chunk.schema)
            columns = tuple(chunk.rows[0])
            shape = Shape(db, table, self._tables.key_columns(chunk.schema), chunk.types, gone, columns)
            rows = [tuple(row.values()) for row in chunk.rows]
            number = int(watermark.version[32:], 16)
            self._emitter.emit_reads(watermark.transaction, shape, number, rows, chunk.weight // len(rows) + 16)
            last_key = orjson.dumps(list(shape.key_of(chunk.rows[-1]).values())).decode()
        metrics.EVENTS_CAPTURED.labels(f"{db}.{table}", READ).inc(len(chunk.rows))
        active = replace(
            active,
            status=SWEEPING if chunk.last else RUNNING,
            first_version=first,
            last_version=max(watermark.version, self._emitter.position),
            last_key=last_key,
            rows_done=active.rows_done + len(chunk.rows),
            rows_estimate=chunk.estimate or active.rows_estimate,
        )
        self._active = active
        generation = self._generation
        self._emitter.when_durable(lambda: self._durable(active, generation))

    def _durable(self, row: SnapshotRow, generation: int) -> None:
        """The chunk is in the queue: a restart goes on behind it."""
        if generation != self._generation:
            return
        self._state.snapshots.save(row)
        name = f"{row.db}.{row.table}"
        metrics.SNAPSHOT_ROWS.labels(name).set(row.rows_done)
        metrics.SNAPSHOT_ESTIMATE.labels(name).set(max(row.rows_estimate, row.rows_done))
        if row.status == SWEEPING:
            self._active = None
            self._sweep_now = row

    def _emit_reread(self, chunk: Chunk, watermark: _Watermark) -> None:
        requests: list[Request] = chunk.order.purpose
        db, table = chunk.order.db, chunk.order.table
        found: dict[bytes, dict[str, Any]] = {}
        columns: tuple[str, ...] = ()
        gone: tuple[str, ...] = ()
        if chunk.schema is not None:
            gone = self._tables.gone_columns(chunk.schema)
            columns = self._tables.key_columns(chunk.schema)
            found = {orjson.dumps([row[name] for name in columns]): row for row in chunk.rows}
            if any(set(request.payload["key"]) != set(columns) for request in requests):
                self.request(db, table, "rows were to be read again by an older key")
        shape = Shape(db, table, columns, chunk.types, gone)
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
                    one["types"] = request.payload.get("types") or chunk.types
                self._emitter.emit(one, size)
        ids = [request.id for request in requests]
        self._emitter.when_durable(lambda: self._reread_done(db, table, ids))

    def _reread_done(self, db: str, table: str, ids: list[int]) -> None:
        # A rewind to before this moment would not bring these rows again: it reads the table.
        self._state.snapshots.touch(db, table, self._emitter.position)
        self._state.requests.done(*ids)
        self._rereading.difference_update(ids)
