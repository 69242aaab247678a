"""Where trigger capture starts: a pure decision, as capture/start.py makes it for the binlog (DESIGN P1, P2, P7).

The outbox holds what was not captured yet, so there is nothing to rewind to: whatever cannot go on reads every table.
"""

from __future__ import annotations

from typing import NamedTuple

from syncbridge.state import Checkpoint

#: Checkpoint.file of trigger capture, by transport; Checkpoint.pos is the highest outbox id read, file_created
#: Outbox.made.
PLACES = {"outbox": "outbox", "udf": "hints"}
OUTBOX = PLACES["outbox"]


class Beginning(NamedTuple):
    """Start with this epoch, behind outbox id `last`."""

    epoch: int
    last: int
    #: Every table must be read again; the reason, for people. Empty: carry on.
    snapshot: str = ""
    #: The very first start.
    initial: bool = False


def begin(
    checkpoint: Checkpoint | None, server: str, queue_id: str, mirror_epoch: int, made: int, place: str = OUTBOX
) -> Beginning:
    """`mirror_epoch`: the largest epoch that Redis has seen, 0 for none; `made`: Outbox.made; `place`: see PLACES."""
    afresh = max(mirror_epoch, checkpoint.epoch if checkpoint else 0) + 1
    if checkpoint is None and mirror_epoch:
        return Beginning(afresh, 0, "the state was lost: Redis has been filled before")
    if checkpoint is None:
        return Beginning(afresh, 0, "initial", initial=True)
    if checkpoint.file != place:
        # What the other way has not delivered yet nobody would ever take.
        before = "over another transport" if checkpoint.file in PLACES.values() else "from the binlog"
        return Beginning(afresh, 0, f"changes were captured {before} before")
    if checkpoint.server != server:
        return Beginning(afresh, 0, "the source is another server")
    if mirror_epoch > checkpoint.epoch:
        return Beginning(afresh, 0, "the state is older than what Redis shows")
    if checkpoint.queue_id != queue_id:
        return Beginning(afresh, 0, "the queue was lost")
    if checkpoint.file_created != made:
        return Beginning(afresh, 0, "the outbox was emptied or captured by somebody else, or made anew")
    return Beginning(checkpoint.epoch, checkpoint.pos)
