"""Applying a job that took workers down: event by event in a throw-away process (DESIGN P5).

The child says which event it is about to apply before it does, so when it dies the culprit is known: that event goes
to the retry table, and a new child goes on behind it. The child touches Redis only; the parent owns state and queue.

Child's standard input: a pickle of `_Order`. Standard output, JSON lines: {"begin": i} before an event, {"done": i,
"failed": [[mapping id, class, message], …], "old": too old to apply} after it, {"end": true}; {"sick": text} when the
sink is.
Run as `python -m syncbridge.sinks.isolate <parent's pid>`.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from syncbridge.config import Config
from syncbridge.errors import PermanentError, TransientError
from syncbridge.event import TRUNCATE, Event
from syncbridge.parent import end_with_parent
from syncbridge.seams import LaneJob
from syncbridge.sinks.apply import Applier
from syncbridge.sinks.connection import connect
from syncbridge.sinks.mapping import Mappings
from syncbridge.sinks.plan import Apply, Plan, Planner, failed_row, record, undecodable
from syncbridge.sinks.sink import Sink
from syncbridge.state import FailedRow
from syncbridge.workload import decode_job

#: An event that takes longer than this has hung its process.
EVENT_SECONDS = 60.0
KILLED = "WorkerKilled"


@dataclass(slots=True)
class _Order:
    config: Config
    workload: bytes
    sink_id: str
    #: Index of the first event to apply.
    first: int


async def apply_isolated(sink: Sink, job: LaneJob) -> None:
    """Apply the job, whatever it does to processes; returns when all of it is durable. Raises Stopped."""
    plan = Plan()
    try:
        events = decode_job(job.workload)
    except PermanentError as error:
        plan.failures.append(undecodable(job.workload, error))
        await sink.perform(plan, None)
        return
    first = 0
    while first < len(events):
        if events[first]["op"] == TRUNCATE:
            await sink.sweep(events[first])
            first += 1
            continue
        at = first
        first = await sink.outwait(lambda at=at: _run_child(sink, plan, job.workload, events, at))  # type: ignore[misc]
    for db, table in {(event["source"]["db"], event["source"]["table"]) for event in events}:
        if sink.mappings.of(db, table):
            await sink.outwait(lambda db=db, table=table: sink.remember(db, table))  # type: ignore[misc]
    plan.mark = events[-1]["version"] if events else ""
    await sink.perform(plan, job.lane)


async def _run_child(sink: Sink, plan: Plan, workload: bytes, events: list[Event], first: int) -> int:
    """One child; answers the index of the next event to apply. TransientError when the sink is sick."""
    if not sink.identity.sink_id:
        await sink.link.command("PING")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "syncbridge.sinks.isolate", str(os.getpid()),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    current = first
    begun = False
    try:
        process.stdin.write(pickle.dumps(_Order(sink.config, workload, sink.identity.sink_id, first)))
        process.stdin.write_eof()
        while True:
            line = await asyncio.wait_for(process.stdout.readline(), EVENT_SECONDS)
            if not line:
                break
            said = orjson.loads(line)
            if "begin" in said:
                current, begun = said["begin"], True
            elif "done" in said:
                plan.failures += _failures(sink, events[current], said["failed"])
                if said["old"]:
                    plan.old.append(events[current])
                current, begun = current + 1, False
            elif "sick" in said:
                raise TransientError(said["sick"])
            elif "end" in said:
                return current
    except (TimeoutError, ConnectionError):  # hung, or dead before it read its order
        pass
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    if not begun and current > first:
        return current  # it ended between two events: the next child tells more
    plan.failures += _culprit(sink, events[current])
    return current + 1


def _failures(sink: Sink, event: Event, failed: list[list[str]]) -> list[FailedRow]:
    mappings = {mapping.id: mapping for mapping in sink.mappings.of(event["source"]["db"], event["source"]["table"])}
    return [
        replace(failed_row(event, mappings[mapping_id], ""), error_class=name, message=message)
        for mapping_id, name, message in failed
    ]


def _culprit(sink: Sink, event: Event) -> list[FailedRow]:
    """The event that killed its process: one row for each mapping, never applied from this payload again."""
    return [
        replace(
            failed_row(event, mapping, ""),
            error_class=KILLED,
            message="applying this event ended its process",
            attempts=sink.config.retry.max_attempts,
        )
        for mapping in sink.mappings.of(event["source"]["db"], event["source"]["table"])
    ]


# -- the child ---------------------------------------------------------------------------------------------------------


def main() -> None:
    end_with_parent(int(sys.argv[1]), signal.SIGKILL)
    order: _Order = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from our parent, over its own pipe
    try:
        asyncio.run(_apply_all(order))
    except TransientError as error:
        _say({"sick": str(error)})


async def _apply_all(order: _Order) -> None:
    events = decode_job(order.workload)
    mappings = Mappings(order.config)
    sink = order.config.sink
    planner = Planner(mappings, tombstone=sink.tombstone, max_value=sink.max_value)
    applier = Applier(order.config.name, sink.tombstone)
    link = await connect(sink)
    try:
        for index in range(order.first, len(events)):
            if events[index]["op"] == TRUNCATE:
                break  # the parent's
            _say({"begin": index})
            plan = planner.plan([orjson.dumps(events[index])], time.time())
            for step in plan.steps:
                assert isinstance(step, Apply)
                try:
                    record(plan, step, await link.call(partial(applier.call, order.sink_id, step.operations, None, "")))
                except PermanentError as error:
                    if str(error).startswith("SINKLOST"):
                        raise TransientError(str(error)) from error
                    plan.failures += [failed_row(events[index], origin.mapping, error) for origin in step.origins]
            failed = [[row.mapping, row.error_class, row.message] for row in plan.failures]
            _say({"done": index, "failed": failed, "old": bool(plan.old)})
        _say({"end": True})
    finally:
        await link.close()


def _say(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
