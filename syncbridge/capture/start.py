"""Where capture starts: a pure decision over what the state, the source, the queue and Redis say (DESIGN P1, P2, P7).

Positions are comparable only within an epoch. The epoch rises, and every table is read again, when the binlog is not
the one we know (another primary without common GTIDs, RESET, a restored backup, a lost tail), or when the state is
older than what Redis already shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from syncbridge.capture.connection import Position
from syncbridge.capture.gtid import GtidSet, MariaGtidPosition
from syncbridge.state import Checkpoint
from syncbridge.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known at start."""

    checkpoint: Checkpoint | None
    #: Who the source is (uuid, or a stand-in where it has none), and whether its GTIDs are MariaDB's.
    server: str
    mariadb: bool
    #: Where the source's binlog ends now, with its GTID set.
    end: Position
    #: (file, size) of every binlog file it still has.
    logs: tuple[tuple[str, int], ...]
    #: GTIDs that the source has purged (MySQL); "" where unknown.
    purged: str = ""
    #: @@gtid_binlog_state (MariaDB).
    binlog_state: str = ""
    queue_id: str
    #: What Redis remembers: its epoch (0: nothing) and the low-water mark of each lane.
    mirror_epoch: int = 0
    marks: tuple[Version, ...] = field(default=())
    lanes: int = 1
    #: The furthest position this process has read, should it be reconnecting.
    furthest: Version | None = None
    #: The GTIDs that it has read by then: more than the checkpoint holds. "" where unknown.
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Start reading at `position` under `epoch`."""

    position: Position
    epoch: int
    #: Read by GTID rather than by file and offset.
    by_gtid: bool = False
    #: Every table must be read again; the reason, for people. Empty: carry on.
    snapshot: str = ""
    #: The very first start.
    initial: bool = False
    #: Positions in front of the checkpoint are read again; the reason. Empty: no.
    rewind: str = ""


@lru_cache(maxsize=8)
@lru_cache(64)
def file_number(file: str) -> int:
    """42 for `mysql-bin.000042`."""
    digits = file.rpartition(".")[2]
    return int(digits) if digits.isdigit() else 0


def file_name(known: str, number: int) -> str:
    """The name of binlog file `number`, in the manner of the `known` one."""
    base, _, digits = known.rpartition(".")
    return f"{base}.{number:0{len(digits)}d}"


def decide(facts: Facts) -> Start:
    """Where to start, under which epoch, and whether everything must be read again."""
    checkpoint = facts.checkpoint
    if checkpoint is None and facts.mirror_epoch:
        return _afresh(facts, "the state was lost: Redis has been filled before")
    if checkpoint is None:
        return _afresh(facts, "initial", initial=True)
    if facts.mirror_epoch > checkpoint.epoch:
        return _afresh(facts, "the state is older than what Redis shows")
    if facts.server != checkpoint.server:
        return _other_server(facts, checkpoint)
    if lost := _binlog_lost(facts, checkpoint):
        return _afresh(facts, lost)
    position = Position(checkpoint.file, checkpoint.pos, checkpoint.gtid_set)
    if facts.queue_id != checkpoint.queue_id:
        return _queue_lost(facts, checkpoint)
    return Start(position, checkpoint.epoch)


def decide_rewind(facts: Facts, target: Version) -> Start:
    """Go back to `target`, a version whose transaction and everything after it must be captured again."""
    checkpoint = facts.checkpoint
    if checkpoint is None or target.epoch != checkpoint.epoch:
        return _afresh(facts, "Redis lost data from before the current epoch")
    file = file_name(checkpoint.file, target.file)
    if file not in dict(facts.logs):
        return _afresh(facts, "Redis lost data and the source has purged the binlog since then")
    lost = "Redis lost its newest data"
    if (target.file, target.pos) >= (file_number(checkpoint.file), checkpoint.pos):
        return Start(Position(checkpoint.file, checkpoint.pos, checkpoint.gtid_set), checkpoint.epoch, rewind=lost)
    # What was executed at the target is not known here: see Session.executed_later.
    return Start(Position(file, target.pos, ""), checkpoint.epoch, rewind=lost)


def _afresh(facts: Facts, reason: str, *, initial: bool = False) -> Start:
    known = max(facts.mirror_epoch, facts.checkpoint.epoch if facts.checkpoint else 0)
    return Start(facts.end, known + 1, snapshot=reason, initial=initial)


def _binlog_lost(facts: Facts, checkpoint: Checkpoint) -> str:
    sizes = dict(facts.logs)
    if checkpoint.file not in sizes:
        first = facts.logs[0][0] if facts.logs else ""
        purged = bool(first) and file_number(checkpoint.file) < file_number(first)
        return "the source purged the binlog that was still unread" if purged else "the source's binlog was reset"
    if checkpoint.pos > sizes[checkpoint.file]:
        return "the source's binlog is shorter than what was already captured"
    # A crash of the source with sync_binlog<>1 may have taken back transactions that we already captured.
    seen = [mark for mark in (*facts.marks, facts.furthest) if mark is not None and mark.epoch == checkpoint.epoch]
    for mark in seen:
        size = sizes.get(file_name(checkpoint.file, mark.file))
        if size is None and mark.file > file_number(facts.end.file):
            return "the source's binlog was reset"
        if size is not None and mark.pos > size:
            return "the source lost the tail of its binlog"
    return ""


def _other_server(facts: Facts, checkpoint: Checkpoint) -> Start:
    reason = "the source is another server"
    if not checkpoint.gtid_set:
        return _afresh(facts, f"{reason} and there are no GTIDs to find our place in it")
    seen = facts.seen or checkpoint.gtid_set
    if facts.mariadb:
        has_all = MariaGtidPosition(seen).within(facts.binlog_state)
        purged = False  # the server refuses the position itself: error 1236
    else:
        has_all = GtidSet(facts.end.gtid_set).contains(GtidSet(seen))
        purged = not GtidSet(checkpoint.gtid_set).contains(GtidSet(facts.purged))
    if not has_all:
        return _afresh(facts, f"{reason} and lacks transactions that were already captured")
    if not facts.seen and _ahead(facts, checkpoint):
        return _afresh(facts, f"{reason} and Redis shows transactions from behind the checkpoint, of unknown GTIDs")
    if purged:
        return _afresh(facts, f"{reason} and has purged transactions that were not captured yet")
    position = Position(facts.end.file, 4, checkpoint.gtid_set)
    return Start(position, checkpoint.epoch + 1, by_gtid=True)


def _ahead(facts: Facts, checkpoint: Checkpoint) -> bool:
    """Whether Redis shows changes that were captured after the checkpoint was saved: capture had crashed."""
    known = Version(checkpoint.epoch, file_number(checkpoint.file), checkpoint.pos, 0)
    return any(mark.epoch == checkpoint.epoch and mark >= known for mark in facts.marks)


def _queue_lost(facts: Facts, checkpoint: Checkpoint) -> Start:
    """Jobs that the lost queue held are only as far in Redis as its marks say."""
    if len(facts.marks) < facts.lanes:
        return _afresh(facts, "the queue was lost and Redis does not say how far it is")
    start = decide_rewind(facts, min(facts.marks))
    return start if start.snapshot else Start(start.position, start.epoch, rewind="the queue was lost")
