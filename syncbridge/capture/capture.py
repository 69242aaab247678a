"""Capture: reads the binlog, turns transactions into lane jobs, and moves the checkpoint (DESIGN P1-P4, P6, P7).

One thread runs the loop: binlog events in, jobs out, the queue's answers in, checkpoint forward. Heartbeat rows are
written and snapshot chunks read by threads of their own, which hand their results to the loop.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Iterable
from dataclasses import replace

from syncbridge import metrics
from syncbridge.capture.binlog import events
from syncbridge.capture.binlog.reader import BinlogReader
from syncbridge.capture.changes import Shape, Transaction, sweep_event
from syncbridge.capture.connection import source_errors
from syncbridge.capture.ddl.dialect import load_dialect
from syncbridge.capture.delivery import TICK, Delivery
from syncbridge.capture.heartbeat import HeartbeatWriter, heartbeat_row
from syncbridge.capture.mappings import take_up_mappings
from syncbridge.capture.reconnect import run_sessions
from syncbridge.capture.retention import Retention
from syncbridge.capture.schema import SchemaMismatch, TableSchema
from syncbridge.capture.session import Opener, Session
from syncbridge.capture.snapshot.chunks import ChunkReader
from syncbridge.capture.snapshot.snapshots import Snapshots
from syncbridge.capture.source import Source
from syncbridge.capture.start import file_number
from syncbridge.capture.statements import Statements
from syncbridge.capture.stopping import StopFlag
from syncbridge.capture.tables import HEARTBEAT, OWN_SCHEMA, WATERMARK, Tables
from syncbridge.capture.turn import Turn
from syncbridge.config import Config
from syncbridge.errors import PositionLost, TransientError
from syncbridge.seams import LaneQueue, Mirror
from syncbridge.state import State
from syncbridge.state.requests import REWIND
from syncbridge.version import Version, parse

log = logging.getLogger(__name__)

CHECKPOINT_INTERVAL = 0.2
HOUSEKEEPING_INTERVAL = 1.0
#: How long events may be collected while more of them are at hand, seconds: fuller jobs cost everybody less.
COLLECT_SECONDS = 0.02


class _Rewind(Exception):
    """Ends a session: the next one starts at this version."""

    def __init__(self, version: Version) -> None:
        super().__init__(str(version))
        self.version = version


class Capture:
    """The capture stage. `run()` returns when stopped and raises what time cannot mend."""

    def __init__(self, config: Config, state: State, lane_queue: LaneQueue, mirror: Mirror) -> None:
        self._config = config
        self._state = state
        self._queue = lane_queue
        self._stop = StopFlag()
        self._source = Source(config.source)
        self._delivery = Delivery(config, state, lane_queue, self._stop)
        self._lanes = self._delivery.lanes
        self._tables = Tables(config, state)
        self._chunk_reader = ChunkReader(
            config.name,
            self._source.connect,
            self._source.connect_writer,
            readers=config.source.snapshot_readers,
            rate=config.source.snapshot_rate,
        )
        self._snapshots = Snapshots(config.name, state, self._tables, self._chunk_reader, self._delivery, self)
        self._opener = Opener(config, state, self._source, mirror, self._tables, self._snapshots, self._chunk_reader)
        may_snapshot = config.source.snapshot != "never"
        self._statements = Statements(self._tables, self._snapshots, self.sweep, may_snapshot=may_snapshot)
        self._heartbeat: HeartbeatWriter | None = None
        self._retention = Retention()
        self._shapes: dict[int, tuple[TableSchema, Shape]] = {}
        self._session: Session
        self._transaction: Transaction
        self._in_transaction = False
        self._boundary: tuple[str, int] | None = None  # end of the last whole transaction read
        self._durable: tuple[str, int, str] | None = None  # the same, durable in the queue, not yet saved
        self._furthest: Transaction | None = None
        self._rewind: Version | None = None  # where the next session starts
        self._seen = ""  # GTIDs read by the last session
        self._transactions = 0
        self._saved_at = 0.0
        self._next_housekeeping = 0.0

    # -- life ----------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask run() to end: what is read is made durable, the checkpoint saved. Safe in a signal handler."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def run(self) -> None:
        """Capture until stopped; reconnects by itself. Raises ConfigError, PermanentError and PositionLost."""
        self._chunk_reader.start()
        try:
            run_sessions(self._stop, self._run_or_rewind, self._position_lost)
        finally:
            self._chunk_reader.stop()
            if self._heartbeat is not None:
                self._heartbeat.stop()
            self._queue.close()

    def _run_or_rewind(self) -> None:
        try:
            self._run_session()
        except _Rewind as request:
            self._rewind = request.version

    def _position_lost(self, error: PositionLost) -> None:
        """The server refuses our place in its binlog: the next session reads every table again, where it may."""
        known = self._state.checkpoints.load()
        if self._config.source.snapshot == "never" or known is None:
            raise error
        log.warning("%s", error)
        self._state.checkpoints.save(self._session.foreign(known))

    def _start_heartbeat(self) -> None:
        """Once a session has made sure of its table; not where the source takes no rows."""
        interval = self._config.source.heartbeat
        if self._heartbeat is not None and not self._session.writes:
            self._heartbeat.stop()
            self._heartbeat = None
        elif self._heartbeat is not None:
            self._heartbeat.reset()
        elif interval and self._session.writes:
            self._heartbeat = HeartbeatWriter(
                interval, self._delivery.heartbeats, self._source.connect_writer, heartbeat_row(self._config.name)
            )
            self._heartbeat.start()

    def _run_session(self) -> None:
        with source_errors(self._source.settings):
            turn = Turn(self._source, self._config.name, self._stop)
        last = self._furthest
        furthest = None if last is None else Version(last.epoch, last.file_number, last.pos, 0)
        try:
            queue_id = self._queue.connect()
            with source_errors(self._source.settings):
                session = self._session = self._opener.open(turn, queue_id, self._rewind, furthest, self._seen)
        except BaseException:
            turn.close()
            raise
        self._seen = ""
        self._rewind = None  # its checkpoint is saved
        try:
            self._start_heartbeat()
            self._boundary = self._durable = None
            self._in_transaction = False
            self._transaction = self._new_transaction("", session.pos, _now_us())
            self._settle_lanes()
            with source_errors(self._source.settings):
                self._statements.dialect = load_dialect(session.control)
                take_up_mappings(
                    self._config, self._state, self._tables, self._snapshots, session.control, self._sweep_definition
                )
            self._loop()
        finally:
            self._lanes.clear()
            self._seen = session.seen(self._transaction.gtid)
            session.close()

    def _settle_lanes(self) -> None:
        """What lanes that sync.yaml no longer names still hold is applied first: so a row keeps its order."""
        session, lanes = self._session, self._config.queue.lanes
        if session.lanes > lanes:
            log.info("%d lanes instead of %d: waiting until what they hold is applied", lanes, session.lanes)
            self._delivery.wait_until_empty(self.idle)
            session.lanes = lanes
        known = self._state.checkpoints.load()
        if known is not None and known.lanes != lanes:
            self._state.checkpoints.save(replace(known, lanes=lanes))

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        stream, queue, bell = self._session.stream, self._queue, self._chunk_reader.bell
        reader = BinlogReader(
            self._schema_for,
            in_doubt=self._in_doubt,
            wanted=self._tables.looked_at,
            skip_to=(self._session.file, self._session.pos),
        )
        flush_by = 0.0
        while not self.stopping:
            received = stream.receive(0)
            for item in reader.read(stream):
                self._handle(item)
                if self._snapshots.expects_position and not self._in_transaction:
                    self._snapshots.reached(reader.file, reader.pos)
                if self._delivery.full:
                    self._delivery.wait_for_room(self.idle)
                if self.stopping:
                    break
            if self._snapshots.expects_position:
                self._snapshots.reached(reader.file, reader.pos)
            if received and time.monotonic() < flush_by:
                continue
            self._flush()
            self._turn()
            flush_by = time.monotonic() + COLLECT_SECONDS
            if not received:
                select.select([stream.fileno(), queue.fileno(), bell.fileno()], [], [], TICK)
        self._drain()

    def _in_doubt(self, mismatch: SchemaMismatch) -> None:
        """Read shape and rows anew; until then, the table's row events are passed over (tables.py)."""
        if self._config.source.snapshot == "never":
            raise mismatch
        log.warning("%s: reading it again", mismatch)
        self._tables.blind(mismatch.db, mismatch.table, self._transaction.version(0))
        self._snapshots.request(mismatch.db, mismatch.table, "its shape was in doubt")

    def _turn(self) -> None:
        """Everything that is due besides reading."""
        self._count()
        self._delivery.hear(0)
        self._snapshots.step()
        if self._snapshots.sweep_due and not self._in_transaction:
            self._snapshots.finish_sweeps()
        now = time.monotonic()
        if now - self._saved_at >= CHECKPOINT_INTERVAL:
            self._save_checkpoint()
        if now >= self._next_housekeeping:
            self._next_housekeeping = now + HOUSEKEEPING_INTERVAL
            self._housekeeping()

    def _count(self) -> None:
        """Transactions since the last time: a metric for each would cost as much as its event."""
        metrics.TRANSACTIONS.inc(self._transactions)
        self._transactions = 0

    def idle(self, timeout: float) -> None:
        """Let the queue work while the loop waits for something else."""
        self._flush()
        self._delivery.hear(timeout)
        with source_errors(self._source.settings):
            self._session.turn.keep()

    def _flush(self) -> None:
        """Submit what is collected; the last transaction boundary is durable when that is."""
        if self._boundary is None:
            self._lanes.flush()
            return
        (file, pos), self._boundary = self._boundary, None
        session = self._session
        gtid_set = "" if session.executed is None else str(session.executed)

        def note() -> None:
            if session is self._session:  # a later session may have another queue, or another epoch
                self._durable = (file, pos, gtid_set)

        self._delivery.when_durable(note)

    def _save_checkpoint(self) -> None:
        self._saved_at = time.monotonic()
        if self._durable is not None:
            self._state.checkpoints.save(self._session.checkpoint(*self._durable))
            self._durable = None
            metrics.CHECKPOINT_TIME.set(time.time())

    def _drain(self) -> None:
        """At stop: what was read becomes durable, within reason; the rest is read again."""
        self._flush()
        self._delivery.drain()
        self._save_checkpoint()
        self._count()

    def _housekeeping(self) -> None:
        self._snapshots.take_requests()
        if rewinds := self._state.requests.pending(REWIND):
            self._save_checkpoint()
            raise _Rewind(min(parse(request.payload["version"]) for request in rewinds))
        self._snapshots.poll_requests()
        session = self._session
        with source_errors(self._source.settings):
            session.turn.keep()
            if self._source.misplaced(session.control):
                raise TransientError(
                    f"source {self._source.settings.address} is not the primary", hint="looking for the primary"
                )
            self._retention.observe(session.control, session.server, session.file, session.pos, self._transaction.ts_us)

    # -- items of the binlog -------------------------------------------------------------------------------------------

    def _handle(self, item: events.Item) -> None:
        match item:
            case events.Single():
                self._begin(item.gtid, item.start, item.commit_ts_us or item.ts * 1_000_000)
                self._rows(item)
                self._end_transaction(item.file, item.end)
            case events.Rows():
                self._rows(item)
            case events.Gtid():
                self._begin(item.gtid, item.pos, item.commit_ts_us or item.ts * 1_000_000)
            case events.TransactionEnd():
                self._end_transaction(item.file, item.pos)
            case events.Statement():
                if self._statements.perform(item, self._transaction.version(0)):
                    self._shapes.clear()
                if not item.in_transaction:
                    self._end_transaction(item.file, item.pos)
            case events.Rotate():
                self._rotate(item)
            case events.FormatDescription():
                self._check_file(item.written)

    def _begin(self, gtid: str | None, pos: int, ts_us: int) -> None:
        self._transaction = self._furthest = self._new_transaction(gtid or "", pos, ts_us)
        self._in_transaction = True

    def _rows(self, item: events.Rows) -> None:
        schema = item.schema
        known = self._shapes.get(id(schema))
        if known is not None and known[0] is schema and known[1].columns == item.columns:
            shape = known[1]
        else:
            shape = self._shape(schema, item.columns)
        if shape.db == OWN_SCHEMA:
            self._own_rows((shape.db, shape.table), item)
            return
        rows = item.rows
        if not rows:
            return
        weight = 2 * item.size // len(rows) + 16  # JSON weighs more
        self._lanes.add_rows(self._transaction, shape, item.op, rows, _now_us(), weight)
        self._delivery.captured(shape, item.op, len(rows))

    def _shape(self, schema: TableSchema, columns: tuple[str, ...]) -> Shape:
        own = schema.db == OWN_SCHEMA
        key_columns = schema.primary_key if own else self._tables.key_columns(schema)
        # A column that was not decoded may have left fields, too, when mappings still showed it.
        gone = {*self._tables.gone_columns(schema), *(c.name for c in schema.columns if c.name not in columns)}
        types = {name: kind for name, kind in schema.types().items() if name in columns}
        shape = Shape(schema.db, schema.table, key_columns, types, tuple(sorted(gone)), columns)
        self._shapes[id(schema)] = (schema, shape)
        return shape

    def _own_rows(self, name: tuple[str, str], item: events.Rows) -> None:
        for row in item.dicts():
            after = row[1] if isinstance(row, tuple) else row
            if after["pipeline"] != self._config.name or item.op == "d":
                continue
            if name == WATERMARK:
                self._snapshots.watermark(after["token"], self._transaction, self._transaction.version(0))
            elif name == HEARTBEAT:
                self._delivery.probe(after["token"], self._transaction, _now_us())

    def _new_transaction(self, gtid: str, pos: int, ts_us: int) -> Transaction:
        session = self._session
        return Transaction(
            self._config.name,
            session.epoch,
            session.server.server_id,
            gtid,
            session.file,
            file_number(session.file),
            pos,
            ts_us,
        )

    def _end_transaction(self, file: str, pos: int) -> None:
        self._session.passed(file, pos, self._transaction.gtid)
        self._boundary = (file, pos)
        self._in_transaction = False
        self._transactions += 1
        if self._snapshots.sweep_due:
            self._snapshots.finish_sweeps()

    def _rotate(self, item: events.Rotate) -> None:
        session = self._session
        if item.file != session.file:
            session.file, session.file_created = item.file, 0
            if not self._in_transaction:
                self._boundary = (item.file, item.pos)  # an idle source rotates, too, and purges what lies behind
        session.pos = item.pos

    def _check_file(self, written: int) -> None:
        """The same name, written at another time, is another file: a RESET, or a restored backup."""
        session = self._session
        if session.file_created and written and written != session.file_created:
            known = self._state.checkpoints.load()
            if known is not None:
                self._state.checkpoints.save(session.foreign(known))
            raise TransientError(
                f"{session.file} is not the binlog file that was read before", hint="every table is read again"
            )
        session.file_created = written

    def _schema_for(self, db: str, table: str) -> TableSchema | None:
        if self._tables.wanted(db, table):
            log.warning("rows of %s.%s, a mapped table that was never read: reading it", db, table)
            self._tables.blind(db, table, self._transaction.version(0))
            self._snapshots.request(db, table, "first rows of an unknown table")
        schema = self._tables.get(db, table)
        if schema is not None and not schema.primary_key and not self._tables.usable(schema):
            return None
        return schema

    # -- what snapshots and statements need ----------------------------------------------------------------------------

    def transaction_before(self, file: str, pos: int) -> Transaction:
        """A stand-in for whatever transaction ends at this position."""
        return replace(self._new_transaction("", pos - 1, _now_us()), file=file, file_number=file_number(file))

    @property
    def position(self) -> str:
        """Version of the transaction being read."""
        return self._transaction.version(self._transaction.rows)

    def sweep(self, db: str, table: str, version: str) -> None:
        """Remove the table's keys older than `version`, behind a barrier."""
        self.sweep_all([(db, table, version)])

    def sweep_all(self, tables: Iterable[tuple[str, str, str]]) -> None:
        """The same for many (db, table, version), behind one barrier."""
        now = _now_us()
        self._delivery.barrier([sweep_event(self._transaction, *table, now) for table in tables], self.idle)

    def _sweep_definition(self, db: str, table: str, definition: str) -> None:
        """Remove the keys of a mapping that is no longer configured."""
        version = self._transaction.version(0)
        self._delivery.barrier([sweep_event(self._transaction, db, table, version, _now_us(), [definition])], self.idle)


def _now_us() -> int:
    return time.time_ns() // 1000
