"""The retry table's consumer: rows that failed by themselves, tried again until they succeed or are given up (P5).

Several workers share the table; a row is claimed before it is tried. A payload that may be older than what Redis
remembers of removed keys is never applied: its row is read again at the source.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

import orjson

from syncbridge.errors import ConfigError, PermanentError, TransientError
from syncbridge.event import CREATE, Event
from syncbridge.sinks.apply import answers
from syncbridge.sinks.failures import error_class, error_text, is_old, next_attempt
from syncbridge.sinks.mapping import CompiledMapping, Operation
from syncbridge.sinks.sink import Sink, Stopped
from syncbridge.state import FailedRow
from syncbridge.workload import decode_job

log = logging.getLogger(__name__)

#: How often the table is looked at, seconds.
INTERVAL = 1.0
#: When a row comes due again that met a sick sink; no attempt is burnt.
POSTPONED = 5.0


class RetryLoop:
    """One worker's share of the retry table."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._retries = sink.state.retries

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with suppress(Stopped):
                await self.turn(time.time())
            await asyncio.sleep(INTERVAL)

    async def turn(self, now: float) -> int:
        """Try every row that is due; answers how many."""
        rows: list[FailedRow] = await self._sink.in_state(self._retries.due, now)
        for number, row in enumerate(rows):
            try:
                await self._try(row, now)
            except (TransientError, ConfigError) as error:
                log.info("retries wait: %s", error)
                for waiting in rows[number:]:
                    await self._sink.in_state(self._retries.postpone, waiting.id, time.time() + POSTPONED)
                break
        return len(rows)

    async def _try(self, row: FailedRow, now: float) -> None:
        if row.attempts >= self._sink.config.retry.max_attempts:
            await self._bury(row, row.error_class, row.message)
            return
        try:
            if row.of_function:
                await self._try_object(row)
            elif row.mapping:
                await self._try_event(row, decode_job(row.payload)[0], now)
            else:
                # A job that an older syncbridge could not read: now that it can be, its rows are read again.
                await self._sink.request_rereads(decode_job(row.payload))
        except PermanentError as error:
            await self._failed(row, error)
        else:
            await self._sink.in_state(self._retries.done, row.id)

    async def _try_object(self, row: FailedRow) -> None:
        """An object of a plain function: nothing in Redis tells how old it is, so a newer one of its key must not have
        come; what is between the question and the answer, no version closes."""
        operations = self._sink.functions.again(row)
        if not operations or await self._sink.in_state(self._retries.newest, row) != row.version:
            return
        outcome = "applied" if await self._apply(operations) else "stale"
        self._sink.observer.applied(row.place, CREATE, outcome, 1)

    async def _try_event(self, row: FailedRow, event: Event, now: float) -> None:
        mapping = self._mapping(row)
        if mapping is None:
            return  # no longer configured: nothing to show
        if row.stale or is_old(event, now, self._sink.config.sink.tombstone):
            await self._sink.request_rereads([event])
            return
        operations = mapping.operations(event, check_size=True)
        if not operations:
            return
        outcome = "applied" if await self._apply(operations) else "stale"
        # A Redis that lost the write before it was remembered has it written again: that is remembered, too.
        await self._sink.remember(row.db, row.table)
        while await self._apply(operations):
            await self._sink.remember(row.db, row.table)
        self._sink.observer.applied(f"{row.db}.{row.table}", event["op"], outcome, 1)
        if await self._sink.in_state(self._retries.get, row.id) is None:
            # The table was emptied meanwhile, and its sweep may have been faster than this write.
            await self._sink.request_rereads([event])

    async def _apply(self, operations: Sequence[Operation]) -> bool:
        """One call; whether it changed anything. PermanentError where Redis refuses one of them."""
        reply = await self._sink.call_once(lambda sink_id: self._sink.applier.call(sink_id, operations, None, ""))
        results = answers(reply)
        for result in results:
            if isinstance(result, bytes):
                raise PermanentError(result.decode("utf-8", "replace"))
        return any(results)

    def _mapping(self, row: FailedRow) -> CompiledMapping | None:
        found = self._sink.mappings.of(row.db, row.table)
        return next((mapping for mapping in found if mapping.id == row.mapping), None)

    async def _failed(self, row: FailedRow, error: PermanentError) -> None:
        name, message = error_class(str(error)) if _is_reply(error) else error_class(error), error_text(error)
        if row.attempts + 1 >= self._sink.config.retry.max_attempts:
            await self._bury(row, name, message)
            return
        due = next_attempt(time.time(), row.attempts + 1, self._sink.config.retry)
        await self._sink.in_state(self._retries.failed, row.id, error_class=name, message=message, next_attempt_at=due)

    async def _bury(self, row: FailedRow, name: str, message: str) -> None:
        await self._sink.in_state(self._retries.bury, row.id, error_class=name, message=message)
        log.error(
            "%s %s is a dead letter: %s",
            row.place, orjson.dumps(row.key).decode(), message,
            extra={"action": "dead-letter"},
        )  # fmt: skip


def _is_reply(error: PermanentError) -> bool:
    """Whether the text is Redis's own (`WRONGTYPE …`), not ours."""
    return not error.hint and str(error).partition(" ")[0].isupper()
