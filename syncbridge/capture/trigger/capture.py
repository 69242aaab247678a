"""Capture from what triggers report, through an outbox or as jobs of the UDF: lane jobs out (DESIGN P1-P3).

One thread runs the loop, as in capture/capture.py; heartbeats and snapshot chunks have threads of their own. Nothing
is read twice on purpose: what the queue accepted and a crash left at its source is taken again under a version at
least as high, and the guard in Redis makes that a no-op.
"""

from __future__ import annotations

import itertools
import logging
import select
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from syncbridge import metrics
from syncbridge.capture.changes import Transaction, sweep_event
from syncbridge.capture.connection import Server, identify, source_errors
from syncbridge.capture.delivery import Delivery
from syncbridge.capture.heartbeat import HeartbeatWriter
from syncbridge.capture.mappings import take_up_mappings
from syncbridge.capture.reconnect import run_sessions
from syncbridge.capture.schema import TableSchema
from syncbridge.capture.snapshot.chunks import ChunkReader
from syncbridge.capture.snapshot.snapshots import Snapshots
from syncbridge.capture.source import Source
from syncbridge.capture.stopping import StopFlag
from syncbridge.capture.tables import Name, Tables
from syncbridge.capture.trigger.confirm import Confirm
from syncbridge.capture.trigger.epoch import Epoch, EpochPlacing
from syncbridge.capture.trigger.feed import Feed, OutboxFeed
from syncbridge.capture.trigger.hint_feed import HintFeed
from syncbridge.capture.trigger.intake import Intake
from syncbridge.capture.trigger.outbox import Outbox, heartbeat_row
from syncbridge.capture.trigger.primaries import SEVERAL_PRIMARIES, several_primaries
from syncbridge.capture.trigger.shapes import (
    TableShape,
    constrained,
    lacking,
    load,
    look,
    numbers,
    passed_by,
    wanted_triggers,
)
from syncbridge.capture.trigger.start import PLACES, Beginning, begin
from syncbridge.capture.trigger.udf import heartbeat_job, name_servers
from syncbridge.capture.turn import Turn
from syncbridge.config import Config
from syncbridge.errors import ConfigError, PositionLost, TransientError
from syncbridge.seams import HintQueue, LaneQueue, Mirror
from syncbridge.state import Checkpoint, State
from syncbridge.state.requests import REWIND, SNAPSHOT
from syncbridge.version import Version

log = logging.getLogger(__name__)

_NO_REWIND = "Redis lost data, and an outbox does not go back"
CHECKPOINT_INTERVAL = 0.5
HOUSEKEEPING_INTERVAL = 1.0
#: Between two looks at the catalogue, seconds.
CATALOGUE_INTERVAL = 3.0


@dataclass(slots=True)
class _Session:
    """One connection to the source and what belongs to it."""

    server: Server
    turn: Turn
    control: Any
    queue_id: str
    outbox: Outbox
    #: InnoDB's numbers of the mapped tables, see shapes.numbers.
    numbers: dict[Name, frozenset[int]]
    intake: Intake
    epoch: Epoch = field(init=False)
    feed: Feed = field(init=False)
    #: Lanes that may hold jobs, see Checkpoint.
    lanes: int = 0

    def close(self) -> None:
        self.feed.close()
        self.outbox.close()
        self.control._force_close()
        self.turn.close()


class TriggerCapture:
    """The capture stage for `capture: trigger`. `run()` returns when stopped and raises what time cannot mend."""

    def __init__(self, config: Config, state: State, lane_queue: LaneQueue, mirror: Mirror, hints: HintQueue) -> None:
        """`hints`: the way to the UDF's jobs."""
        self._hints = hints
        self._over_udf = config.source.trigger.transport == "udf"
        self._place = PLACES[config.source.trigger.transport]
        self._config = config
        self._state = state
        self._queue = lane_queue
        self._mirror = mirror
        self._stop = StopFlag()
        self._source = Source(config.source)
        self._delivery = Delivery(config, state, lane_queue, self._stop)
        self._tables = Tables(config, state)
        self._chunk_reader = ChunkReader(
            config.name,
            self._source.connect,
            self._source.connect,
            readers=config.source.snapshot_readers,
            rate=config.source.snapshot_rate,
        )
        self._snapshots = Snapshots(config.name, state, self._tables, self._chunk_reader, self._delivery, self)
        self._heartbeat: HeartbeatWriter | None = None
        self._session: _Session
        self._afresh = ""  # why the next session must read every table
        self._saved = (0, 0)  # (epoch, last) of the checkpoint
        self._next_checkpoint = self._next_housekeeping = self._next_catalogue = 0.0
        self._trouble = ""  # with the UDF library, complained about
        self._looks: dict[Name, str] = {}  # as the state has them
        self._stale: list[Name] = []  # tables whose triggers were complained about

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
            run_sessions(self._stop, self._run_session, self._position_lost)
        finally:
            self._chunk_reader.stop()
            if self._heartbeat is not None:
                self._heartbeat.stop()
            self._queue.close()

    def _position_lost(self, error: PositionLost) -> None:
        """The next session reads every table again, where it may."""
        if self._config.source.snapshot == "never":
            raise error
        self._afresh = str(error)

    def _run_session(self) -> None:
        with source_errors(self._source.settings):
            turn = Turn(self._source, self._config.name, self._stop)
        try:
            queue_id = self._queue.connect()
            with source_errors(self._source.settings):
                session = self._session = self._open(turn, queue_id)
        except BaseException:
            turn.close()
            raise
        try:
            session.intake.begin(session.epoch.value, 0, _now_us())
            self._settle_lanes()
            with source_errors(self._source.settings):
                take_up_mappings(
                    self._config, self._state, self._tables, self._snapshots, session.control, self._sweep_definition
                )
            self._start_heartbeat()
            self._loop()
        finally:
            self._delivery.lanes.clear()
            session.close()

    def _open(self, turn: Turn, queue_id: str) -> _Session:
        control = self._source.connect()
        try:
            return self._begin(turn, control, queue_id)
        except BaseException:
            control.close()
            raise

    def _begin(self, turn: Turn, control: Any, queue_id: str) -> _Session:
        server = identify(control)
        refuse_several_primaries(control)
        outbox = Outbox(self._config.name, self._source.connect)
        try:
            outbox.claim(queue_id)
            rewinds = self._state.requests.pending(REWIND)
            if rewinds and not self._afresh:  # filed while nobody captured
                self._afresh = _NO_REWIND
            start = self._beginning(server, queue_id, outbox)
            self._tables.restore(_version(start.epoch, start.last))
            schemas = load(control, self._config, self._tables)
            older = self._older_triggers(control, server, schemas)
            outbox.last = start.last
            intake = Intake(self._config.name, server.server_id, self._state, self._delivery)
            session = _Session(server, turn, control, queue_id, outbox, numbers(control, server, list(schemas)), intake)
            known = self._state.checkpoints.load()
            session.lanes = max(self._config.queue.lanes, known.lanes if known else 0)
            self._save(session, start.epoch)
            self._drop_hints(known)
            session.epoch = Epoch(start.epoch, lambda epoch: self._save(session, epoch))
            self._chunk_reader.place_with(EpochPlacing(session.epoch))
            refusable = constrained(control, server, list(schemas))
            looks = _looks(schemas, session.numbers, older)
            changed = [name for name, schema in schemas.items() if self._tables.known(*name) != schema]
            changed += [name for name, seen in self._state.looks.all().items()
                        if name in looks and passed_by(seen, looks[name])]  # fmt: skip
            for name, schema in schemas.items():
                self._tables.put(schema, _version(start.epoch, start.last))
                columns = refusable.get(name, frozenset())
                intake.shapes[name] = TableShape.of(schema, self._tables, columns, current=name not in older)
            if start.snapshot:
                self._read_everything(start.snapshot, list(schemas), initial=start.initial)
            else:
                for name in dict.fromkeys(changed):
                    self._snapshots.request(*name, "it was made, altered or emptied while nobody captured")
            self._stale = sorted({*self._stale, *older})
            self._remember(looks)
            session.feed = self._feed(session)
        except BaseException:
            outbox.close()
            raise
        self._afresh = ""
        self._state.requests.done(*(request.id for request in rewinds))
        log.info("reading the %s on %s, outbox id %d, epoch %d", self._place, server.version_text, start.last,
                 session.epoch.value)  # fmt: skip
        return session

    def _feed(self, session: _Session) -> Feed:
        hints = self._hints
        if not self._over_udf:
            return OutboxFeed(session.outbox, session.epoch, session.intake, self._delivery)
        # Hints are numbered by this process alone: whoever numbered before had a lower epoch.
        session.epoch.rise()
        self._name_servers(session.control)
        hints.connect()
        confirm = Confirm(session.server, self._source.connect) if self._config.source.trigger.confirm else None
        return HintFeed(
            hints, session.outbox, confirm, session.epoch, session.intake, self._delivery, self._state, self._look_soon
        )

    def _name_servers(self, control: Any) -> None:
        """Without them hints go nowhere, and triggers write into the outbox instead: slower, nothing lost."""
        trouble = name_servers(control, self._config)
        if trouble and trouble != self._trouble:
            log.warning("changes go through the outbox: %s", trouble)
        self._trouble = trouble

    def _look_soon(self) -> None:
        self._next_catalogue = 0.0

    def _beginning(self, server: Server, queue_id: str, outbox: Outbox) -> Beginning:
        checkpoint = self._state.checkpoints.load()
        start = begin(checkpoint, _identity(server), queue_id, self._mirror.epoch(), outbox.made, self._place)
        if self._afresh and not start.snapshot:
            start = Beginning(start.epoch + 1, 0, self._afresh)
        if not start.snapshot or start.initial or self._config.source.snapshot != "never":
            return start
        if any(not request.table for request in self._state.requests.pending(SNAPSHOT)):
            return start  # somebody ran the command below
        raise PositionLost(f"cannot go on: {start.snapshot}", hint="read every table again: syncbridge snapshot")

    def _drop_hints(self, before: Checkpoint | None) -> None:
        """What triggers said over another transport nobody would ever take; every table is read again instead."""
        if before is None or before.file != PLACES["udf"] or self._over_udf:
            return
        if dropped := self._hints.clear():
            log.info("%d hints were left from transport udf: dropped", dropped)

    def _older_triggers(self, control: Any, server: Server, schemas: dict[Name, TableSchema]) -> list[Name]:
        """Tables to be read row by row, since their triggers are older. Raises ConfigError where some are missing."""
        wanted = wanted_triggers(self._config, server, schemas, self._tables)
        missing, older = lacking(control, self._config, wanted)
        if missing:
            raise ConfigError(
                f"{_listed(missing)} {'have' if len(missing) > 1 else 'has'} no triggers",
                hint="syncbridge triggers install",
            )
        if older:
            log.warning("the triggers of %s are older than the table: syncbridge triggers install", _listed(older))
        return older

    def _save(self, session: _Session, epoch: int) -> None:
        """The checkpoint: ids up to the last one are read; those that are not durable yet are still in the outbox."""
        self._mirror.raise_epoch(epoch)
        self._state.checkpoints.save(
            Checkpoint(
                epoch=epoch,
                server=_identity(session.server),
                file=self._place,
                pos=session.outbox.last,
                file_created=session.outbox.made,
                gtid_set="",
                queue_id=session.queue_id,
                lanes=session.lanes,
            )
        )

    def _read_everything(self, reason: str, names: list[Name], *, initial: bool) -> None:
        if not initial:
            log.warning("reading every table again: %s", reason)
        if not initial or self._config.source.snapshot == "initial":
            self._snapshots.restart_all(names, reason)

    def _settle_lanes(self) -> None:
        """What lanes that sync.yaml no longer names still hold is applied first: so a row keeps its order."""
        session, lanes = self._session, self._config.queue.lanes
        if session.lanes > lanes:
            log.info("%d lanes instead of %d: waiting until what they hold is applied", lanes, session.lanes)
            self._delivery.wait_until_empty(self.idle)
        session.lanes = lanes

    def _start_heartbeat(self) -> None:
        interval = self._config.source.heartbeat
        if self._heartbeat is not None:
            self._heartbeat.reset()
        elif interval:
            write = heartbeat_row(self._config.name)
            if self._over_udf:
                write = heartbeat_job(self._config.name, write)
            self._heartbeat = HeartbeatWriter(interval, self._delivery.heartbeats, self._source.connect, write)
            self._heartbeat.start()

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self.stopping:
            found = self._poll()
            self._delivery.hear(0)
            self._snapshots.step()
            if self._snapshots.expects_position:
                place = self._session.epoch.place
                self._snapshots.reached(place.file, place.pos)
            if self._snapshots.sweep_due:
                self._snapshots.finish_sweeps()
            self._delivery.lanes.flush()
            self._due(time.monotonic())
            if not found:
                feed = self._session.feed
                awaited = [self._queue.fileno(), self._chunk_reader.bell.fileno(), *feed.filenos]
                select.select(awaited, [], [], feed.wait(time.monotonic()))
        self._delivery.lanes.flush()
        self._delivery.drain()
        self._save_checkpoint()

    def _due(self, now: float) -> None:
        if now >= self._next_checkpoint:
            self._next_checkpoint = now + CHECKPOINT_INTERVAL
            self._save_checkpoint()
        if now >= self._next_housekeeping:
            self._next_housekeeping = now + HOUSEKEEPING_INTERVAL
            self._housekeeping()
        if now >= self._next_catalogue:
            self._next_catalogue = now + CATALOGUE_INTERVAL
            with source_errors(self._source.settings):
                self._look_at_catalogue()

    def _poll(self) -> bool:
        """Take what triggers reported and submit it; whether there was something."""
        if self._delivery.full:
            self._delivery.wait_for_room(self.idle)
        with source_errors(self._source.settings):
            return self._session.feed.poll()

    def _save_checkpoint(self) -> None:
        session = self._session
        with session.epoch.reading:
            now = (session.epoch.value, session.outbox.last)
            if now != self._saved:
                self._save(session, session.epoch.value)
        self._saved = now
        metrics.CHECKPOINT_TIME.set(time.time())

    def _housekeeping(self) -> None:
        self._snapshots.take_requests()
        if self._state.requests.pending(REWIND):
            raise PositionLost(_NO_REWIND)
        self._snapshots.poll_requests()
        with source_errors(self._source.settings):
            self._session.turn.keep()
            if self._source.misplaced(self._session.control):
                raise TransientError(
                    f"source {self._source.settings.address} is not the primary", hint="looking for the primary"
                )
            self._session.outbox.check()

    def _look_at_catalogue(self) -> None:
        """Follow what no trigger tells: tables altered, dropped, made or emptied."""
        session, tables = self._session, self._tables
        shapes = session.intake.shapes
        schemas = load(session.control, self._config, tables)
        now = numbers(session.control, session.server, list(schemas))
        version = _version(session.epoch.value, session.outbox.last)
        for name in {*shapes, *tables.names()} - schemas.keys():
            log.info("%s.%s is gone: removing its keys", *name)
            tables.remove(*name, version)
            self._snapshots.forget(*name)
            self.sweep(*name, _version(self._rise(), 0))
            shapes.pop(name, None)
        wanted = wanted_triggers(self._config, session.server, schemas, tables)
        stale = sorted(itertools.chain(*lacking(session.control, self._config, wanted)))
        refusable = constrained(session.control, session.server, list(schemas))
        for name, schema in schemas.items():
            known = shapes.get(name)
            same = known is not None and known.schema == schema and now.get(name) == session.numbers.get(name)
            if not same:
                tables.put(schema, version)
            shapes[name] = TableShape.of(schema, tables, refusable.get(name, frozenset()), current=name not in stale)
            if same:
                continue
            if known is None or known.schema != schema:
                self._snapshots.request(*name, "new" if known is None else "its columns changed")
            else:
                self._snapshots.request(*name, "it was made anew: emptied, or put in place of another")
        session.numbers = now
        if self._over_udf:
            self._name_servers(session.control)
        if stale and stale != self._stale:
            log.warning(
                "the triggers of %s are missing or older than the table: syncbridge triggers install", _listed(stale)
            )
        for db, table in set(self._stale) - set(stale):  # what was written meanwhile may have gone past us
            self._snapshots.request(db, table, "its triggers were put in order")
        self._stale = stale
        self._remember(_looks(schemas, now, stale))

    def _remember(self, looks: dict[Name, str]) -> None:
        """What is to be done about them is durable."""
        if looks != self._looks:
            self._state.looks.put(looks)
            self._looks = looks

    # -- what snapshots need -------------------------------------------------------------------------------------------

    def idle(self, timeout: float) -> None:
        """Let the queue work while the loop waits for something else."""
        self._delivery.lanes.flush()
        self._delivery.hear(timeout)
        with source_errors(self._source.settings):
            self._session.turn.keep()

    def transaction_before(self, file: str, pos: int) -> Transaction:
        """A chunk's version: its epoch's lowest, see epoch.py."""
        return self._session.intake.at(int(file.rpartition(".")[2]), 0, _now_us())

    @property
    def position(self) -> str:
        transaction = self._session.intake.transaction
        return transaction.version(transaction.rows)

    def sweep(self, db: str, table: str, version: str) -> None:
        """Remove the table's keys older than `version`, behind a barrier."""
        self.sweep_all([(db, table, version)])

    def sweep_all(self, tables: Iterable[tuple[str, str, str]]) -> None:
        """The same for many (db, table, version), behind one barrier."""
        transaction, now = self._session.intake.transaction, _now_us()
        self._delivery.barrier([sweep_event(transaction, *table, now) for table in tables], self.idle)

    def _sweep_definition(self, db: str, table: str, definition: str) -> None:
        """Remove the keys of a mapping that is no longer configured."""
        version = _version(self._rise(), 0)
        one = sweep_event(self._session.intake.transaction, db, table, version, _now_us(), [definition])
        self._delivery.barrier([one], self.idle)

    def _rise(self) -> int:
        self._session.epoch.rise()
        return self._session.epoch.value


def refuse_several_primaries(control: Any) -> None:
    """Raises ConfigError where several servers take writes."""
    with control.cursor() as cursor:
        cursor.execute("SHOW GLOBAL VARIABLES WHERE Variable_name IN %s", (tuple(SEVERAL_PRIMARIES),))
        found = several_primaries({str(name).lower(): str(value) for name, value in cursor.fetchall()})
    if found:
        raise ConfigError(
            f"the source takes writes on several servers ({found}), which an outbox cannot order",
            hint="capture from the binlog: capture: binlog",
        )


def _identity(server: Server) -> str:
    return server.identity or f"server {server.server_id}"


def _looks(names: Iterable[Name], numbers: dict[Name, frozenset[int]], stale: list[Name]) -> dict[Name, str]:
    return {name: look(numbers.get(name), current=name not in stale) for name in names}


def _listed(names: list[Name]) -> str:
    return ", ".join(f"{db}.{table}" for db, table in names)


def _version(epoch: int, number: int) -> str:
    return str(Version(epoch, 0, number, 0))


def _now_us() -> int:
    return time.time_ns() // 1000
