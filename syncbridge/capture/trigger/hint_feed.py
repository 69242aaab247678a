"""Capture over the UDF: hints from the queue, fallback rows from the outbox, confirmed or trusted (DESIGN section 5).

With `confirm` a report says only where to look, and the source says what is there. Without it the payload is taken at
its word, in the order of arrival: rolled back changes and changes that overtook each other then stay wrong in Redis.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pymysql

from syncbridge.capture.connection import TABLE_CHANGED, source_errors
from syncbridge.capture.delivery import Delivery
from syncbridge.capture.tables import Name
from syncbridge.capture.trigger.confirm import Confirm, Source
from syncbridge.capture.trigger.epoch import Epoch
from syncbridge.capture.trigger.feed import IDLE
from syncbridge.capture.trigger.intake import Intake
from syncbridge.capture.trigger.outbox import Outbox
from syncbridge.capture.trigger.reported import HEARTBEAT, Reported, parse_hint
from syncbridge.capture.trigger.shapes import TableShape
from syncbridge.errors import PermanentError
from syncbridge.seams import Hint, HintQueue
from syncbridge.state import FailedRow, State

log = logging.getLogger(__name__)

#: Between two looks into the outbox for fallback rows, seconds.
FALLBACK_INTERVAL = 0.25
#: Rows in doubt at which no more fallback rows are taken.
MAX_DOUBTS = 100_000
#: When no more hints can be taken, locked ones are put back behind the others, so many bytes at a time, so that a huge
#: transaction does not hold up the changes of others for ever.
PUT_BACK_BYTES = 1024 * 1024
PUT_BACK_INTERVAL = 0.05


class HintFeed:
    """`confirm` None: payloads are trusted. `catalogue_changed()` is called when a table is not what it was."""

    def __init__(
        self, hints: HintQueue, outbox: Outbox, confirm: Confirm | None, epoch: Epoch, intake: Intake,
        delivery: Delivery, state: State, catalogue_changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._hints = hints
        self._outbox = outbox
        self._confirm = confirm
        self._epoch = epoch
        self._intake = intake
        self._delivery = delivery
        self._state = state
        self._catalogue_changed = catalogue_changed
        #: Second half of the versions; the epoch has risen since another process counted.
        self._count = 0
        self._closed = False
        self._next_fallback = self._next_put_back = 0.0

    def poll(self) -> bool:
        now = time.monotonic()
        taken = [*self._take_hints(), *self._take_rows(now)]
        settled = self._trust(taken) if self._confirm is None else self._look(self._confirm, taken, now)
        if settled:
            self._delivery.when_durable(lambda: self._let_go(settled))
        return bool(taken or settled)

    @property
    def filenos(self) -> list[int]:
        return [self._hints.fileno()]

    def wait(self, now: float) -> float:
        due = self._confirm.due() if self._confirm is not None else float("inf")
        return max(0.0, min(IDLE, due - now))

    def close(self) -> None:
        self._closed = True
        self._hints.close()
        if self._confirm is not None:
            self._confirm.close()

    # -- taking reports ------------------------------------------------------------------------------------------------

    def _take_hints(self) -> list[tuple[Reported, Source]]:
        taken: list[tuple[Reported, Source]] = []
        for hint in self._hints.take():
            try:
                taken.append((parse_hint(hint.workload), Source(hint)))
            except PermanentError as error:
                self._bury(hint, error)
        return taken

    def _bury(self, hint: Hint, error: PermanentError) -> None:
        """Durable when this returns: somebody else's job becomes a dead letter, and leaves the queue."""
        log.error("%s; it is a dead letter", error)
        self._state.dead_letters.add(FailedRow.undecodable(hint.workload, type(error).__name__, str(error)))
        self._hints.done([hint.handle])

    def _take_rows(self, now: float) -> list[tuple[Reported, Source]]:
        """Rows that a trigger wrote because no job server took its job."""
        if now < self._next_fallback or (self._confirm is not None and len(self._confirm) >= MAX_DOUBTS):
            return []
        rows = self._outbox.poll()
        if not rows:
            self._next_fallback = now + FALLBACK_INTERVAL
        return [(row, Source(row.id)) for row in rows]

    # -- what comes of them --------------------------------------------------------------------------------------------

    def _trust(self, taken: list[tuple[Reported, Source]]) -> list[Source]:
        with self._epoch.reading:
            for change, _ in taken:
                self._begin(change.written_us)
                self._intake.trust(change)
        return [source for _, source in taken]

    def _look(self, confirm: Confirm, taken: list[tuple[Reported, Source]], now: float) -> list[Source]:
        """Read the rows in doubt; the sources that are settled by that."""
        settled: list[Source] = []
        for change, source in taken:
            table = self._intake.shapes.get((change.db, change.table))
            if change.op != HEARTBEAT and table is not None and self._intake.readable(change, table):
                confirm.add(change, table, source)
            else:  # no longer mapped, or dropped, or read again as a whole
                settled.append(source)
        for name in confirm.names:
            if (table := self._intake.shapes.get(name)) is None:
                settled += confirm.forget(name)
                continue
            settled += self._read(confirm, name, table, now)
        for change, _ in taken:
            if change.op == HEARTBEAT:
                self._begin(change.written_us)
                self._intake.probe(change)
        if self._hints.full and now >= self._next_put_back:
            self._next_put_back = now + PUT_BACK_INTERVAL
            for hint in confirm.give_up(PUT_BACK_BYTES):
                self._hints.put_back(hint)
        return settled

    def _read(self, confirm: Confirm, name: Name, table: TableShape, now: float) -> list[Source]:
        settled: list[Source] = []
        # The epoch must not rise between the version and the read, or a chunk read meanwhile would win over it.
        with self._epoch.reading:
            self._begin(0)
            try:
                found = confirm.read(name, table, now)
            except pymysql.MySQLError as error:
                if error.args[0] not in TABLE_CHANGED:
                    raise
                self._catalogue_changed()
                return []
            for one in found:
                self._intake.transaction.ts_us = one.written_us
                self._intake.confirmed(one)
                settled += one.sources
        return settled

    def _begin(self, written_us: int) -> None:
        self._count += 1
        self._intake.begin(self._epoch.value, self._count, written_us)

    def _let_go(self, settled: list[Source]) -> None:
        """What came of these is durable."""
        if self._closed:
            return  # they come again
        hints = [source.reference.handle for source in settled if isinstance(source.reference, Hint)]
        rows = [source.reference for source in settled if not isinstance(source.reference, Hint)]
        self._hints.done(hints)
        if rows:
            with source_errors():
                self._outbox.delete(rows)
