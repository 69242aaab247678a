"""Opening a session: who the source is, where to start (start.py decides), and what must be read again.

A session lives as long as one dump. Everything it needs to be right after a crash is written to the state before
the first event is read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from syncbridge import metrics
from syncbridge.capture.binlog.stream import BinlogStream
from syncbridge.capture.connection import (
    MARIADB,
    Position,
    Server,
    binary_logs,
    current_position,
    fetch_one,
    identify,
    start_dump,
)
from syncbridge.capture.gtid import GtidSet, MariaGtidPosition
from syncbridge.capture.heartbeat import create_tables, refusal
from syncbridge.capture.snapshot.chunks import ChunkReader
from syncbridge.capture.snapshot.snapshots import Snapshots
from syncbridge.capture.source import Source
from syncbridge.capture.start import Facts, Start, decide, decide_rewind, file_number
from syncbridge.capture.tables import OWN_SCHEMA, Tables, load
from syncbridge.capture.turn import Turn
from syncbridge.config import Config
from syncbridge.errors import PositionLost
from syncbridge.seams import Mirror
from syncbridge.state import Checkpoint, State
from syncbridge.state.requests import REWIND, SNAPSHOT
from syncbridge.version import Version, parse

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Session:
    """One dump and where it is."""

    server: Server
    #: Names the server in checkpoints.
    identity: str
    turn: Turn
    #: A plain connection for questions on the way.
    control: Any
    stream: BinlogStream
    epoch: int
    queue_id: str
    #: Lanes that may hold jobs, see Checkpoint.
    lanes: int
    #: Everything up to here has been read; `file_created` tells a file from a later one of the same name.
    file: str
    pos: int
    file_created: int
    #: GTIDs executed up to here; None where unknown.
    executed: GtidSet | MariaGtidPosition | None
    #: After a rewind: the checkpoint in front, where the GTIDs executed are known again.
    executed_later: Checkpoint | None = None
    #: Heartbeat rows can be written.
    writes: bool = True

    def checkpoint(self, file: str, pos: int, gtid_set: str) -> Checkpoint:
        return Checkpoint(
            epoch=self.epoch,
            server=self.identity,
            file=file,
            pos=pos,
            file_created=self.file_created if file == self.file else 0,
            gtid_set=gtid_set,
            queue_id=self.queue_id,
            lanes=self.lanes,
        )

    def foreign(self, checkpoint: Checkpoint) -> Checkpoint:
        """The same checkpoint as if of another server without GTIDs: its positions must not be trusted again."""
        return replace(checkpoint, server=f"not {self.identity}", gtid_set="")

    def passed(self, file: str, pos: int, gtid: str) -> None:
        """A transaction ended here."""
        self.file, self.pos = file, pos
        if self.executed is not None and gtid:
            self.executed.add(gtid)
        later = self.executed_later
        if later is not None and (later.file, later.pos) == (file, pos):
            self.executed = _gtids(later.gtid_set, mariadb=self.server.flavor == MARIADB)
            self.executed_later = None

    def seen(self, gtid: str) -> str:
        """The GTIDs read so far, with that of the transaction being read; "" where unknown."""
        if self.executed is not None and gtid:
            self.executed.add(gtid)
        return str(self.executed or "")

    def close(self) -> None:
        self.stream.close()
        self.control.close()
        self.turn.close()


class Opener:
    """Opens sessions for one pipeline."""

    def __init__(
        self,
        config: Config,
        state: State,
        source: Source,
        mirror: Mirror,
        tables: Tables,
        snapshots: Snapshots,
        chunk_reader: ChunkReader,
    ) -> None:
        self._config = config
        self._state = state
        self._source = source
        self._mirror = mirror
        self._tables = tables
        self._snapshots = snapshots
        self._chunk_reader = chunk_reader
        self._refusal = ""  # as last complained about

    def open(self, turn: Turn, queue_id: str, rewind: Version | None, furthest: Version | None, seen: str) -> Session:
        """Decide where to start and start the dump. Raises PositionLost where a re-snapshot is needed, not allowed.

        `furthest`, `seen`: how far this process has read before, as a version and in GTIDs.
        """
        control = self._source.connect()
        try:
            return self._open(turn, control, queue_id, rewind, furthest, seen)
        except BaseException:
            control.close()
            raise

    def _open(
        self, turn: Turn, control: Any, queue_id: str, rewind: Version | None, furthest: Version | None, seen: str
    ) -> Session:
        server = identify(control)
        identity = server.identity or _describe(control)
        writes = self._may_write(server)
        facts = self._facts(control, server, identity, queue_id, furthest, seen)
        start = decide(facts)
        if rewind is not None and not start.snapshot:
            start = decide_rewind(facts, rewind)
        self._refuse_forbidden_snapshot(start)
        if start.by_gtid:
            self._leave_old_server(facts, start)
        self._mirror.raise_epoch(start.epoch)
        position = self._start_afresh(control, server, start) if start.snapshot else self._go_on(start, facts)
        if facts.mariadb and not position.gtid_set and not start.by_gtid:
            row = fetch_one(control, "SELECT BINLOG_GTID_POS(%s, %s)", (position.file, position.pos))
            position = Position(position.file, position.pos, str(row[0] or "") if row else "")
        dump = self._source.connect()
        dump._read_timeout = None
        start_dump(dump, server, position, self._config.server_id, by_gtid=start.by_gtid)
        checkpoint = facts.checkpoint
        same_file = checkpoint and not start.snapshot and not start.by_gtid and checkpoint.file == position.file
        session = Session(
            server=server,
            identity=identity,
            turn=turn,
            control=control,
            stream=BinlogStream(dump),
            epoch=start.epoch,
            queue_id=queue_id,
            writes=writes,
            lanes=max(self._config.queue.lanes, checkpoint.lanes if checkpoint else 0),
            file=position.file,
            pos=position.pos,
            file_created=checkpoint.file_created if checkpoint and same_file else 0,
            executed=_gtids(position.gtid_set, mariadb=facts.mariadb),
            executed_later=checkpoint if checkpoint and start.rewind and checkpoint.gtid_set else None,
        )
        if start.snapshot or start.rewind:
            self._state.checkpoints.save(session.checkpoint(position.file, position.pos, position.gtid_set))
        self._state.requests.done(*(request.id for request in self._state.requests.pending(REWIND)))
        log.info("reading the binlog of %s from %s:%d, epoch %d", server.version_text, position.file, position.pos,
                 start.epoch)  # fmt: skip
        return session

    def _leave_old_server(self, facts: Facts, start: Start) -> None:
        """Before the first event under the new epoch: a crash from here on must look for our place by GTID again.

        The history keeps what was known at the checkpoint; what was learnt behind it comes again.
        """
        checkpoint = facts.checkpoint
        assert checkpoint is not None
        self._state.schemas.forget_after(_version_of(checkpoint))
        self._state.checkpoints.save(replace(checkpoint, epoch=start.epoch, server="none, by GTID"))

    def _facts(
        self, control: Any, server: Server, identity: str, queue_id: str, furthest: Version | None, seen: str
    ) -> Facts:
        purged = binlog_state = None
        if server.flavor == MARIADB:
            binlog_state = fetch_one(control, "SELECT @@global.gtid_binlog_state")
        elif server.gtid:
            purged = fetch_one(control, "SELECT @@global.gtid_purged")
        return Facts(
            checkpoint=self._state.checkpoints.load(),
            server=identity,
            mariadb=server.flavor == MARIADB,
            end=current_position(control, server),
            logs=tuple(binary_logs(control)),
            purged=str(purged[0]) if purged else "",
            binlog_state=str(binlog_state[0]) if binlog_state else "",
            queue_id=queue_id,
            mirror_epoch=self._mirror.epoch(),
            marks=tuple(parse(mark) for mark in self._mirror.marks().values()),
            lanes=self._config.queue.lanes,
            furthest=furthest,
            seen=seen,
        )

    def _refuse_forbidden_snapshot(self, start: Start) -> None:
        if not start.snapshot or start.initial or self._config.source.snapshot != "never":
            return
        if any(not request.table for request in self._state.requests.pending(SNAPSHOT)):
            return  # somebody ran the command below
        raise PositionLost(
            f"cannot go on from the checkpoint: {start.snapshot}", hint="read every table again: syncbridge snapshot"
        )

    def _go_on(self, start: Start, facts: Facts) -> Position:
        """Take up the schema history at the start; after a rewind, what was learnt behind it is forgotten."""
        checkpoint = facts.checkpoint
        assert checkpoint is not None
        position = start.position
        if start.by_gtid:  # the history speaks in the old server's positions
            known = _version_of(checkpoint)
        else:
            known = str(Version(start.epoch, file_number(position.file), position.pos, 0))
        if start.rewind:
            log.warning("capturing again from %s:%d: %s", position.file, position.pos, start.rewind)
            self._state.schemas.forget_after(known)
            self._snapshots.rewound(known)
        self._tables.restore(known)
        if start.epoch != checkpoint.epoch:
            self._snapshots.restart_unfinished()
        return position

    def _start_afresh(self, control: Any, server: Server, start: Start) -> Position:
        """Schemas as of the end of the binlog: read before and after the position, they must be the same."""
        while True:
            schemas = load(control, self._config)
            position = current_position(control, server)
            if load(control, self._config) == schemas:
                break
        version = str(Version(start.epoch, file_number(position.file), position.pos, 0))
        # A table without a key is refused before anything starts.
        names = [name for name, schema in schemas.items() if name[0] != OWN_SCHEMA and self._tables.usable(schema)]
        for schema in schemas.values():
            self._tables.put(schema, version)
        if not start.initial:
            log.warning("reading every table again: %s", start.snapshot)
        if not start.initial or self._config.source.snapshot == "initial":
            self._snapshots.restart_all(names, start.snapshot)
        return position

    def _may_write(self, server: Server) -> bool:
        """Whether heartbeat and watermark rows can be written; where not, chunks are placed without."""
        reason = ""
        writer = self._source.connect_writer()
        try:
            if self._config.source.write_url is not None:
                create_tables(writer)
            else:
                reason = refusal(writer, self._config.name)
        finally:
            writer.close()
        self._chunk_reader.place(server, by_row=not reason)
        metrics.SOURCE_READ_ONLY.set(bool(reason))
        if reason and reason != self._refusal:
            log.warning(
                "no heartbeats, so lag cannot be proved: the source takes no rows of ours: %s."
                " GRANT CREATE, SELECT, INSERT, UPDATE ON syncbridge.* TO the account, or set source.write_url to the"
                " primary",
                reason,
            )
        self._refusal = reason
        return not reason


def _version_of(checkpoint: Checkpoint) -> str:
    return str(Version(checkpoint.epoch, file_number(checkpoint.file), checkpoint.pos, 0))


def _gtids(text: str, *, mariadb: bool) -> GtidSet | MariaGtidPosition | None:
    if not text:
        return None
    return MariaGtidPosition(text) if mariadb else GtidSet(text)


def _describe(control: Any) -> str:
    """Names a MariaDB that is too old to have a server_uid."""
    row = fetch_one(control, "SELECT CONCAT_WS(':', @@hostname, @@port, @@server_id, @@datadir)")
    return str(row[0]) if row else ""
