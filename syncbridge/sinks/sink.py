"""The sink as workers use it: calls that outwait a sick Redis, and plans performed step by step.

Nothing here knows of jobs, and nothing is acknowledged: the caller does that once `perform` has returned.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from syncbridge.config import Config
from syncbridge.errors import ConfigError, PermanentError, TransientError
from syncbridge.event import Event
from syncbridge.sinks.apply import REFUSED, Applier
from syncbridge.sinks.failures import FIRST_PAUSE, is_lost, next_attempt, next_pause
from syncbridge.sinks.fresh import Fresh
from syncbridge.sinks.functions import Functions
from syncbridge.sinks.keys import marks_key
from syncbridge.sinks.link import Link, pairs
from syncbridge.sinks.mapping import Mappings, Operation
from syncbridge.sinks.marks import SinkIdentity
from syncbridge.sinks.plan import MANY_OLD, Apply, Origin, Plan, Planner, failed_row, record, reread_request
from syncbridge.sinks.runs import Run
from syncbridge.sinks.sweep import sweep, swept_mappings
from syncbridge.state import FailedRow, State
from syncbridge.state.requests import REREAD, SNAPSHOT

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Somebody asked to stop while we waited for a sick sink: nothing is lost, the job stays in the queue."""


class Observer(Protocol):
    """What workers report; the pipeline attaches metrics."""

    def applied(self, table: str, op: str, outcome: str, count: int) -> None:
        """Events by outcome: applied, stale, failed, skipped, reread."""

    def apply_seconds(self, seconds: float) -> None:
        """One script call."""

    def queue_wait_seconds(self, seconds: float) -> None:
        """From capture of the oldest event of a batch to its arrival here."""


class Sink:
    """Redis, the state and the mappings of one pipeline in one worker process."""

    def __init__(self, config: Config, link: Link, state: State, observer: Observer) -> None:
        self.config = config
        self.link = link
        self.state = state
        self.observer = observer
        self.mappings = Mappings(config)
        self.functions = Functions(config)
        self.identity = SinkIdentity(config.name, config.queue.lanes, state, captures=config.source.named)
        self.applier = Applier(config.name, config.sink.tombstone)
        self.planner = Planner(self.mappings, tombstone=config.sink.tombstone, max_value=config.sink.max_value)
        self.stopping = asyncio.Event()
        self._fresh = Fresh()
        self._sick_since: float | None = None
        link.greeting = self.identity.greet

    # Waiting

    async def outwait(self, action: Callable[[], Any]) -> Any:
        """Await `action()` until it succeeds: the sink or the state may be away for any time. Stopped at stop()."""
        pause = FIRST_PAUSE
        while True:
            try:
                result = await action()
            except (TransientError, ConfigError) as error:
                if self.stopping.is_set():
                    raise Stopped from error
                if self._sick_since is None:
                    self._sick_since = time.monotonic()
                    log.warning("waiting: %s", error)
                sleep, pause = next_pause(pause)
                await self._sleep(sleep)
            else:
                if self._sick_since is not None:
                    log.info("well again after %.1f s", time.monotonic() - self._sick_since)
                    self._sick_since = None
                return result

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return

    async def in_state(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call into the state database from a thread, waiting out its absence."""
        return await self.outwait(lambda: asyncio.to_thread(function, *arguments, **named))

    async def call(self, pack: Callable[[str], bytes]) -> Any:
        """One packed call, tried until the sink is well; `pack` gets its id. PermanentError for other error replies."""
        return await self.outwait(lambda: self.call_once(pack))

    async def call_once(self, pack: Callable[[str], bytes]) -> Any:
        """One packed call. TransientError when the sink is sick or has just turned out to be another one."""
        try:
            return await self.link.call(lambda: pack(self.identity.sink_id))
        except PermanentError as error:
            if not is_lost(str(error)):
                raise
            await self.link.forget()
            await self.link.command("PING")  # greets again: files what is to be done, learns the new id
            raise TransientError(str(error)) from error

    # Work

    async def perform(self, plan: Plan, lane: int | None) -> None:
        """Do everything a plan asks for, durably. Raises Stopped; else nothing of it is left to do."""
        steps = plan.steps
        last = len(steps) - 1
        for number, step in enumerate(steps):
            if isinstance(step, Apply):
                await self.apply(plan, step, lane if number == last else None)
            else:
                await self.sweep(step.event)
        if lane is not None and plan.mark and (not steps or not isinstance(steps[-1], Apply)):
            await self._send([], lane, plan.mark)
        await self._hold_failures(plan.failures)
        await self.request_rereads(plan.old)
        for (table, op, outcome), count in plan.outcomes.items():
            self.observer.applied(table, op, outcome, count)

    async def perform_function(self, function: str, plan: Plan) -> None:
        """The same for jobs of a plain function: what failed before for the keys now written is not tried again."""
        await self.perform(plan, None)
        failed = {(row.mapping, row.version) for row in plan.failures}
        done = [
            (origin.mapping.id, origin.mapping.row_key(event), event["version"])
            for step in plan.steps
            if isinstance(step, Apply)
            for origin in step.origins
            for event, _ in origin.singles()
            if (origin.mapping.id, event["version"]) not in failed
        ]
        if done:
            await self.in_state(self.state.retries.overtake, function, done)

    async def apply(self, plan: Plan, step: Apply, lane: int | None) -> None:
        """One script call, two where rows are not as new as they seemed; should the script itself fail, operation by
        operation to find the culprit."""
        try:
            record(plan, step, await self._write(step, lane, plan.mark))
        except PermanentError as error:
            log.warning("a batch failed as a whole, applying it row by row: %s", error)
            await self._apply_one_by_one(plan, step, lane)

    async def _apply_one_by_one(self, plan: Plan, step: Apply, lane: int | None) -> None:
        position, singles = 0, step.singly()
        for origin in step.origins:
            for event, count in origin.singles():
                operations = singles[position : position + count]
                position += count
                try:
                    results = await self._send(operations, None, "")
                except PermanentError as error:
                    plan.failures.append(failed_row(event, origin.mapping, str(error)))
                    continue
                record(plan, Apply([*operations], [Origin(event, origin.mapping, count)]), results)
        if lane is not None:
            await self._send([], lane, plan.mark)

    async def _write(self, step: Apply, lane: int | None, mark: str) -> int | list[Any]:
        """The answers to a step; rows that are likely new are tried as whole hashes first."""
        rows = self._fresh.of(step) if self.identity.unheard else None
        if rows is None:
            return await self._send(step.operations, lane, mark)

        def pack(sink_id: str) -> bytes:
            if not self.identity.unheard:  # another Redis by now
                return self.applier.call(sink_id, step.operations, lane, mark)
            return self.applier.create(sink_id, rows.keys, rows.guard, rows.payloads, lane, mark)

        answers = await self._timed(pack)
        self._fresh.tried(step, created=answers != REFUSED)
        return await self._send(step.operations, lane, mark) if answers == REFUSED else answers

    async def _send(self, operations: Sequence[Operation | Run], lane: int | None, mark: str) -> int | list[Any]:
        return await self._timed(lambda sink_id: self.applier.call(sink_id, operations, lane, mark))

    async def _timed(self, pack: Callable[[str], bytes]) -> int | list[Any]:
        started = time.perf_counter()
        answers: int | list[Any] = await self.call(pack)
        self.observer.apply_seconds(time.perf_counter() - started)
        return answers

    async def sweep(self, event: Event) -> None:
        """A `t` event: older retries have nothing left to say, older keys go."""
        source = event["source"]
        if not event.get("mappings"):
            await self.in_state(self.state.retries.drop_older, source["db"], source["table"], event["version"])
        for mapping, version in await self.in_state(swept_mappings, event, self.mappings, self.state):
            count = await sweep(self.call, self.applier, mapping, version, event["version"])
            log.info("swept %d keys of %s.%s (%s)", count, mapping.db, mapping.table, mapping.config.key)
            self.observer.applied(f"{mapping.db}.{mapping.table}", event["op"], "applied", 1)
        await self.outwait(lambda: self.remember(source["db"], source["table"], above=event["version"]))

    async def remember(self, db: str, table: str, *, above: str = "") -> None:
        """No lane's mark tells what was just written, or swept: should Redis lose it, the table is read again.

        Durable when this returns. `above`: a rewind to before this version brings it anyway. TransientError.
        """
        marks = pairs(await self.link.command("HGETALL", marks_key(self.config.name)))
        newest = max(marks.values(), default="")
        if newest > above:
            await self.in_state(self.state.snapshots.touch, db, table, newest)

    async def _hold_failures(self, failures: list[FailedRow]) -> None:
        if not failures:
            return
        due = next_attempt(time.time(), 1, self.config.retry)
        rows = [replace(row, next_attempt_at=due) for row in failures]
        await self.in_state(self.state.retries.add, *rows)
        for row in rows:
            log.warning(
                "%s %s goes to the retry table: %s: %s",
                row.place, row.key, row.error_class, row.message,
                extra={"action": "retry"},
            )  # fmt: skip

    async def request_rereads(self, events: Sequence[Event]) -> None:
        """Ask capture to read these rows again, or whole tables when there are many."""
        tables: dict[tuple[str, str], list[Event]] = {}
        for event in events:
            tables.setdefault((event["source"]["db"], event["source"]["table"]), []).append(event)
        for (db, table), group in tables.items():
            if len(group) >= MANY_OLD:
                reason = {"reason": "changes waited longer than removed keys are remembered"}
                await self.in_state(self.state.requests.file, SNAPSHOT, db, table, reason)
                continue
            for event in group:
                await self.in_state(self.state.requests.file, REREAD, db, table, reread_request(event))
