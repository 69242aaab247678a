"""Who this Redis is and how far it is: identity, epoch and low-water marks kept in Redis itself (DESIGN P7).

    syncbridge:<name>:meta   format, sink_id (random, given by the first start), server (run and replication id), epoch,
                             floor:<mapping id> (what sweeps left), bare (no companion keys yet), see apply.lua
    syncbridge:<name>:marks  lane -> version of the last event applied

Every new connection is greeted: another server behind the address means that its newest data may be missing (rewind to
its marks); another or no sink_id means that everything may be (snapshot). The request is durable in the state before
Redis is marked as known, and apply.lua writes nothing to a Redis whose sink_id is not the one we know.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from typing import Any

import redis

from syncbridge import native
from syncbridge.config import Config
from syncbridge.errors import ConfigError, TransientError
from syncbridge.sinks.connection import connect_sync, redis_errors
from syncbridge.sinks.keys import marks_key, meta_key
from syncbridge.sinks.link import Raw, pairs
from syncbridge.state import State
from syncbridge.state.requests import REWIND, SNAPSHOT
from syncbridge.version import parse

log = logging.getLogger(__name__)

#: Format number of what syncbridge keeps in Redis: guards, marks, meta.
FORMAT = 1

LOST_REASON = "Redis lost its data or is another one"


@dataclass(frozen=True, slots=True)
class Greeting:
    """What to do about a Redis: the decision of decide()."""

    #: Give it this id first; None keeps the one it has.
    new_id: bool = False
    #: File a request: "" nothing, else "snapshot" or "rewind" to `version`.
    request: str = ""
    version: str = ""


def decide(known_id: str | None, meta: dict[str, str], server: str, marks: dict[str, str], lanes: int) -> Greeting:
    """Compare what the state remembers with what Redis says. Pure; raises ConfigError on a newer format."""
    check_format(meta)
    found = meta.get("sink_id")
    if found is None:
        return Greeting(new_id=True, request=SNAPSHOT if known_id is not None else "")
    if known_id is not None and found != known_id:
        return Greeting(request=SNAPSHOT)
    if meta.get("server") != server:
        if len(marks) < lanes:  # a lane without a mark: nobody knows how far it is
            return Greeting(request=SNAPSHOT)
        return Greeting(request=REWIND, version=min(marks.values()))
    return Greeting()


def check_format(meta: dict[str, str]) -> None:
    """Raises ConfigError when a newer syncbridge wrote this Redis."""
    found = meta.get("format", str(FORMAT))
    if not found.isdigit() or int(found) > FORMAT:
        raise ConfigError(
            f"Redis was filled in format {found}, this syncbridge knows {FORMAT}",
            hint="run the syncbridge version that filled it, or a newer one",
        )


def server_id(info: bytes) -> tuple[str, str]:
    """(identity, role) out of INFO's answer: the process and the data set it serves."""
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return f"{fields.get('run_id', '')}:{fields.get('master_replid', '')}", fields.get("role", "master")


async def may_be_heard(connection: Raw) -> bool:
    """Whether Redis tells listeners what happens to keys (keyspace notifications), or does not say."""
    try:
        flags = pairs(await connection.command("CONFIG", "GET", "notify-keyspace-events"))
    except redis.ResponseError:  # this account may not ask
        return True
    return any(flags.values()) or not flags


class SinkIdentity:
    """Greets connections for a worker, and knows the id that apply calls must name."""

    def __init__(self, pipeline: str, lanes: int, state: State, *, captures: bool = True) -> None:
        """`captures`: there is a source to read again; without one nothing is asked for."""
        self._meta = meta_key(pipeline)
        self._marks = marks_key(pipeline)
        self._lanes = {str(lane) for lane in range(lanes)}
        self._state = state
        self._captures = captures
        self._lock = asyncio.Lock()
        self.sink_id = ""
        #: Whether keys may be created by another command than HSET: not where somebody listens to what happens to them.
        self.unheard = False

    async def greet(self, connection: Raw) -> None:
        """Find out who answers; file what is to be done about it. TransientError from a replica, ConfigError."""
        async with self._lock:
            server, role = server_id(
                await connection.command("INFO", "server") + b"\r\n" + await connection.command("INFO", "replication")
            )
            if role != "master":
                raise TransientError("this Redis is a read-only replica", hint="sink.url must reach the primary")
            known = await asyncio.to_thread(self._state.mirror.load)
            meta = pairs(await connection.command("HGETALL", self._meta))
            marks = pairs(await connection.command("HGETALL", self._marks))
            marks = {lane: version for lane, version in marks.items() if lane in self._lanes}
            decision = decide(known, meta, server, marks, len(self._lanes))
            await self._perform(connection, decision, known, meta, server)
            if native.functions is not None:  # else it does not matter
                self.unheard = not await may_be_heard(connection)

    async def _perform(
        self, connection: Raw, decision: Greeting, known: str | None, meta: dict[str, str], server: str
    ) -> None:
        if not self._captures:
            if decision.request:
                log.warning("%s, or it restarted: what functions wrote before stays as it is", LOST_REASON)
        elif decision.request == SNAPSHOT:
            log.warning("%s: every table is read again", LOST_REASON)
            await asyncio.to_thread(self._state.requests.file, SNAPSHOT, "", "", {"reason": LOST_REASON})
            await connection.command("DEL", self._marks)
        elif decision.request == REWIND:
            log.warning("Redis restarted or failed over: going back to %s", parse(decision.version))
            await asyncio.to_thread(self._state.requests.file, REWIND, "", "", {"version": decision.version})
        if meta.get("server") != server or "format" not in meta:
            # Before the id: whoever is interrupted here is found half done, not restarted.
            await connection.command("HSET", self._meta, "format", FORMAT, "server", server)
        found = meta.get("sink_id")
        if decision.new_id:
            epoch = await asyncio.to_thread(self._epoch)
            await connection.command("HSETNX", self._meta, "epoch", epoch)
            # Another may be faster, with either: `bare` holds only where it names the id in force (apply.lua).
            new = secrets.token_hex(8)
            await connection.command("HSETNX", self._meta, "bare", new)
            await connection.command("HSETNX", self._meta, "sink_id", new)
            found = (await connection.command("HGET", self._meta, "sink_id")).decode()
        assert found is not None
        if found != known:
            await asyncio.to_thread(self._state.mirror.save, found)
        self.sink_id = found

    def _epoch(self) -> int:
        checkpoint = self._state.checkpoints.load()
        return checkpoint.epoch if checkpoint else 0


class RedisMirror:
    """What capture asks Redis at its start: the epoch and the marks. Blocking; connects at its first question."""

    def __init__(self, config: Config) -> None:
        self._url = config.sink.url
        self._client: redis.Redis = connect_sync(config.sink)
        self._meta = meta_key(config.name)
        self._marks = marks_key(config.name)
        self._lanes = {str(lane) for lane in range(config.queue.lanes)}

    def epoch(self) -> int:
        """The highest epoch that Redis knows, 0 for none."""
        with redis_errors(self._url):
            found: Any = self._client.hgetall(self._meta)
        meta = {name.decode(): value.decode() for name, value in found.items()}
        check_format(meta)
        return int(meta.get("epoch", 0))

    def raise_epoch(self, epoch: int) -> None:
        """Remember the epoch, if it is higher than what is known."""
        if epoch > self.epoch():
            with redis_errors(self._url):
                self._client.hset(self._meta, "epoch", str(epoch))

    def marks(self) -> dict[int, str]:
        """Lane -> version of the last event applied; lanes without one are missing."""
        with redis_errors(self._url):
            found: Any = self._client.hgetall(self._marks)
        return {int(lane): version.decode() for lane, version in found.items() if lane.decode() in self._lanes}

    def close(self) -> None:
        self._client.close()
