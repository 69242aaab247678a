"""What triggers reported becomes events in their lanes: taken at its word, or as the source's rows say (confirm.py).

Knows the mapped tables' shapes. Versions come from the feed that calls it.
"""

from __future__ import annotations

import time
from typing import Any

from syncbridge.capture.changes import Shape, Transaction, event, reread_events, row_events
from syncbridge.capture.delivery import Delivery
from syncbridge.capture.tables import Name
from syncbridge.capture.trigger.confirm import Confirmed
from syncbridge.capture.trigger.reported import HEARTBEAT, Reported
from syncbridge.capture.trigger.shapes import TableShape
from syncbridge.capture.trigger.start import OUTBOX
from syncbridge.event import CREATE, DELETE, READ, UPDATE, Event, Row
from syncbridge.state import State
from syncbridge.state.requests import REREAD, SNAPSHOT

#: A table that is large shall be read to its end before it is read again, seconds.
_WHOLE_AGAIN = 60.0
#: About what an event weighs beside its row, bytes.
_ENVELOPE = 100


class Intake:
    """One per session. `pipeline` and `server_id` go into the events."""

    def __init__(self, pipeline: str, server_id: int, state: State, delivery: Delivery) -> None:
        self._pipeline = pipeline
        self._server_id = server_id
        self._state = state
        self._delivery = delivery
        #: How each mapped table looks now.
        self.shapes: dict[Name, TableShape] = {}
        #: When a table may be read again because of what readable() says, monotonic seconds.
        self._next_whole: dict[Name, float] = {}
        #: The transaction emitted last: nothing emitted so far is newer.
        self.transaction: Transaction

    def begin(self, epoch: int, number: int, written_us: int) -> Transaction:
        """What is emitted from now on has this place among the versions."""
        self.transaction = self.at(epoch, number, written_us)
        return self.transaction

    def at(self, epoch: int, number: int, written_us: int) -> Transaction:
        """A transaction at this place."""
        return Transaction(
            pipeline=self._pipeline,
            epoch=epoch,
            server_id=self._server_id,
            gtid="",
            file=OUTBOX,
            file_number=0,
            pos=number,
            ts_us=written_us,
        )

    def trust(self, change: Reported) -> None:
        """Emit what the trigger said, in the current transaction."""
        if change.op == HEARTBEAT:
            self.probe(change)
            return
        table = self.shapes.get((change.db, change.table))
        if table is None or not self.readable(change, table):
            return  # no longer mapped, or dropped, or read again as a whole
        weight = _ENVELOPE + _weight(change.old_row) + _weight(change.new_row)
        for one in self._events(change, table):
            self._delivery.emit(one, weight)
        self._delivery.captured(table.shape, change.op)

    def readable(self, change: Reported, table: TableShape) -> bool:
        """Whether it can be told which rows the change is about; if not, the whole table is read again."""
        if table.names_rows(change):
            return True
        name, now = (change.db, change.table), time.monotonic()
        if now >= self._next_whole.get(name, 0.0):
            self._next_whole[name] = now + _WHOLE_AGAIN
            self._state.requests.file(SNAPSHOT, *name, {"reason": "changes were reported by a key that it had before"})
        return False

    def probe(self, heartbeat: Reported) -> None:
        """Send a heartbeat on its way, behind everything emitted so far."""
        token = heartbeat.new_key
        self._delivery.probe(int(token) if isinstance(token, str) else 0, self.transaction, _now_us())

    def confirmed(self, found: Confirmed) -> None:
        """Emit one row as the source has it, and what must go because it looked otherwise before."""
        table, transaction = found.table, self.transaction
        version = transaction.version(transaction.rows)
        transaction.rows += 1
        weight = _ENVELOPE + found.weight
        for op, before, after in reread_events(found.row, found.images):
            one = event(transaction, table.shape, op, found.key, before, after, _now_us(), version)
            self._delivery.emit(one, weight)
        self._delivery.captured(table.shape, DELETE if found.row is None else READ)

    def _events(self, change: Reported, table: TableShape) -> list[Event]:
        """The events of a change; none where the row must be read from the table itself."""
        old, new = table.whole(change.old_row), table.whole(change.new_row)
        if change.op == CREATE and new is not None:
            return list(row_events(self.transaction, table.shape, CREATE, None, new, _now_us()))
        if change.op == DELETE and old is not None:
            return list(row_events(self.transaction, table.shape, DELETE, old, None, _now_us()))
        if change.op == UPDATE and old is not None and new is not None and not table.may_be_refused(old, new):
            return list(row_events(self.transaction, table.shape, UPDATE, old, new, _now_us()))
        for key, images in table.sides(change):
            self._read_again(table.shape, key, images)
        return []

    def _read_again(self, shape: Shape, key: Row, images: list[Row]) -> None:
        # With the change's version in it, it equals no request for an older change, whose read may be past.
        change = self.transaction.version(self.transaction.rows)
        payload: dict[str, Any] = {"key": {name: key.get(name) for name in shape.key_columns}, "change": change}
        if images:
            payload |= {"rows": images, "types": shape.types}
        self._state.requests.file(REREAD, shape.db, shape.table, payload)


def _weight(side: object) -> int:
    return len(side) if isinstance(side, str) else 0


def _now_us() -> int:
    return time.time_ns() // 1000
