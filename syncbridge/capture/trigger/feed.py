"""Where trigger capture's changes come from: one feed per transport, called in turn by the loop (capture.py).

A feed takes reports, gives them versions, hands them to the intake, and lets go of them at their source once the queue
durably has what came of them. IO at the edges; one thread.
"""

from __future__ import annotations

from typing import Protocol

from syncbridge.capture.connection import source_errors
from syncbridge.capture.delivery import Delivery
from syncbridge.capture.trigger.epoch import Epoch
from syncbridge.capture.trigger.intake import Intake
from syncbridge.capture.trigger.outbox import Outbox


class Feed(Protocol):
    """One transport. Methods raise what PyMySQL raises, TransientError and PositionLost."""

    def poll(self) -> bool:
        """Take what there is; whether there was something."""

    @property
    def filenos(self) -> list[int]:
        """What becomes readable when there is something to take."""

    def wait(self, now: float) -> float:
        """Seconds after which poll() wants to be called though nothing became readable."""

    def close(self) -> None:
        """Let go of what is in hand: it comes again."""


#: Pause of a loop that found nothing, seconds: what outbox capture adds to the lag.
IDLE = 0.02


class OutboxFeed:
    """The outbox's rows in order of their ids, which are their versions."""

    def __init__(self, outbox: Outbox, epoch: Epoch, intake: Intake, delivery: Delivery) -> None:
        self._outbox = outbox
        self._epoch = epoch
        self._intake = intake
        self._delivery = delivery
        self._closed = False

    def poll(self) -> bool:
        with self._epoch.reading:
            rows = self._outbox.poll()
            epoch = self._epoch.value
        for row in rows:
            self._intake.begin(epoch, row.id, row.written_us)
            self._intake.trust(row)
        if rows:
            ids = [row.id for row in rows]
            self._delivery.when_durable(lambda: self._delete(ids))
        return bool(rows)

    def _delete(self, ids: list[int]) -> None:
        if not self._closed:  # else they are read again
            with source_errors():
                self._outbox.delete(ids)

    @property
    def filenos(self) -> list[int]:
        return []

    def wait(self, now: float) -> float:
        return IDLE

    def close(self) -> None:
        self._closed = True
