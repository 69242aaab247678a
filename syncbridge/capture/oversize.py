"""Rows too large for one lane job: carried in a lighter form, else set aside as dead letters (DESIGN P5)."""

from __future__ import annotations

import logging

import orjson

from syncbridge.capture.tables import told_by
from syncbridge.config import Config
from syncbridge.event import UPDATE, Event
from syncbridge.state import FailedRow, State

log = logging.getLogger(__name__)


class Oversize:
    """What to do with an event that does not fit into a job."""

    def __init__(self, config: Config, state: State) -> None:
        self._config = config
        self._state = state

    def slim(self, event: Event) -> Event:
        """An update with only those columns in its before image that mappings look at; itself where that is no less."""
        before, source = event["before"], event["source"]
        if event["op"] != UPDATE or before is None:
            return event
        wanted = told_by(self._config, (source["db"], source["table"]), event["key"], before)
        kept = {name: value for name, value in before.items() if name in wanted}
        return event if len(kept) == len(before) else {**event, "before": kept}

    def refuse(self, event: Event, size: int) -> None:
        """Durable when this returns: a dead letter without the row, which is read again when somebody retries it."""
        source = event["source"]
        message = f"the row makes a job of {size} bytes, more than queue.max_packet ({self._config.queue.max_packet})"
        log.error("%s.%s: %s; it is a dead letter", source["db"], source["table"], message)
        self._state.dead_letters.add(
            FailedRow(
                db=source["db"],
                table=source["table"],
                mapping="",
                key=event["key"],
                version=event["version"],
                payload=orjson.dumps({**event, "before": None, "after": None}),
                error_class="TooLarge",
                message=message,
                stale=True,
            )
        )
