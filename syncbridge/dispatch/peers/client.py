"""A client of any Gearman server: submits jobs, waits for results, asks for status. asyncio.

All jobs share one connection to one server, pipelined. When it is lost, the next call connects to the next server that
answers. What was under way is never repeated behind the caller's back.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.job import HIGH, LOW, NORMAL
from syncbridge.dispatch.packets import Packet
from syncbridge.dispatch.peers.backoff import Backoff
from syncbridge.dispatch.peers.conversation import Conversation
from syncbridge.dispatch.peers.errors import AcceptanceUnknown, ResultUnknown
from syncbridge.dispatch.peers.link import Link
from syncbridge.dispatch.peers.server import Server, Tls, connect, parse_servers, tls_context
from syncbridge.dispatch.peers.task import JobHandle, JobStatus, Task, Update, number
from syncbridge.errors import PermanentError, TransientError

_FOREGROUND: Final = {HIGH: p.SUBMIT_JOB_HIGH, NORMAL: p.SUBMIT_JOB, LOW: p.SUBMIT_JOB_LOW}
_BACKGROUND: Final = {HIGH: p.SUBMIT_JOB_HIGH_BG, NORMAL: p.SUBMIT_JOB_BG, LOW: p.SUBMIT_JOB_LOW_BG}


class GearmanClient:
    """`servers`: texts as Server.parse takes them, or one text with commas. Use it in one event loop:

        async with GearmanClient("10.0.0.1,10.0.0.2") as client:
            result = await client.run("reverse", b"hello")

    `timeout`: seconds in which some server must be reached, trying all of them in turn, with backoff.
    `heartbeat`: seconds of silence after which a server we wait for is pinged; after as many again it is given up.
    `exceptions`: ask for WORK_EXCEPTION (JobRaised); without it an exception arrives as JobFailed.
    `max_packet`: the server's limit, bytes.
    """

    def __init__(
        self,
        servers: str | Server | Iterable[str | Server],
        *,
        tls: Tls | ssl.SSLContext | None = None,
        timeout: float = 30.0,
        exceptions: bool = True,
        heartbeat: float = 10.0,
        max_packet: int = p.MAX_PACKET,
    ) -> None:
        self._servers = parse_servers(servers)
        self._tls = tls_context(tls)
        self._timeout = timeout
        self._exceptions = exceptions
        self._heartbeat = heartbeat
        self._max_packet = max_packet
        #: Connections by server; jobs go to `_current`, the others answer for jobs they took before.
        self._links: dict[Server, ClientLink] = {}
        self._current: ClientLink | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    # -- jobs ----------------------------------------------------------------------------------------------------

    async def run(
        self,
        function: str | bytes,
        payload: bytes = b"",
        *,
        priority: int = NORMAL,
        unique: str | bytes = b"",
        reducer: str | bytes = b"",
        on_update: Callable[[Update], object] | None = None,
        at_least_once: bool = False,
    ) -> bytes:
        """Submit a foreground job and wait for its result, as long as it takes (see asyncio.timeout).

        Raises what submit() raises, and JobFailed, JobRaised, ResultUnknown. With `at_least_once` it is submitted again
        whenever the connection is lost, and may run twice.
        """
        while True:
            task = await self.submit(
                function,
                payload,
                priority=priority,
                unique=unique,
                reducer=reducer,
                on_update=on_update or _ignore,
                at_least_once=at_least_once,
            )
            try:
                return await task
            except ResultUnknown:
                if not at_least_once or self._closed:
                    raise

    async def submit(
        self,
        function: str | bytes,
        payload: bytes = b"",
        *,
        priority: int = NORMAL,
        unique: str | bytes = b"",
        reducer: str | bytes = b"",
        on_update: Callable[[Update], object] | None = None,
        at_least_once: bool = False,
    ) -> Task:
        """Submit a foreground job; returns once the server accepted it.

        Raises JobRefused, AcceptanceUnknown (see submit_background), PermanentError, or TransientError when no server
        can be reached.
        """
        task = Task(on_update)
        if reducer:
            _no_priority(priority, "a reduce job")
            packet = self._packet(p.SUBMIT_REDUCE_JOB, function, unique, (_name(reducer), b"", payload))
        else:
            packet = self._packet(_FOREGROUND[priority], function, unique, (payload,))
        await self._ask(packet, p.JOB_CREATED, task=task, repeat=at_least_once)
        return task

    async def submit_background(
        self,
        function: str | bytes,
        payload: bytes = b"",
        *,
        priority: int = NORMAL,
        unique: str | bytes = b"",
        reducer: str | bytes = b"",
        at: datetime | float | None = None,
        delay: float = 0.0,
        at_least_once: bool = False,
    ) -> JobHandle:
        """Submit a background job; returns once the server has it (our server: once it is as durable as promised).

        `at` (a datetime with time zone, or Unix seconds) or `delay` (seconds): not before then; whole seconds, rounded
        up. When the connection is lost before the answer, the job may be queued or not: AcceptanceUnknown, unless
        `at_least_once`; then it is submitted again, to the next server that answers, and may run twice.
        """
        due = _due(at, delay)
        if due and reducer:
            raise PermanentError("the Gearman protocol has no reduce job with a start time")
        if due:
            _no_priority(priority, "a job with a start time")
            packet = self._packet(p.SUBMIT_JOB_EPOCH, function, unique, (b"%d" % due, payload))
        elif reducer:
            _no_priority(priority, "a reduce job")
            fields = (_name(reducer), b"", payload)
            packet = self._packet(p.SUBMIT_REDUCE_JOB_BACKGROUND, function, unique, fields)
        else:
            packet = self._packet(_BACKGROUND[priority], function, unique, (payload,))
        server, handle = await self._ask(packet, p.JOB_CREATED, repeat=at_least_once)
        return JobHandle(handle, server)

    async def status(self, handle: JobHandle | str | bytes) -> JobStatus:
        """Ask the server that has the job; where only its name is given, the current one."""
        server = handle.server if isinstance(handle, JobHandle) else None
        name = handle.handle if isinstance(handle, JobHandle) else _name(handle)
        _, body = await self._ask(p.request(p.GET_STATUS, name), p.STATUS_RES, server=server, repeat=True)
        return _status(p.arguments(body, 5))

    async def status_of_unique(self, unique: str | bytes, *, server: Server | None = None) -> JobStatus:
        """Whether a job with this unique is there, in any function; on the current server unless one is named."""
        packet = p.request(p.GET_STATUS_UNIQUE, _name(unique))
        _, body = await self._ask(packet, p.STATUS_RES_UNIQUE, server=server, repeat=True)
        return _status(p.arguments(body, 6))

    async def ping(self) -> Server:
        """A round trip to the current server, connecting if need be; returns which one it is."""
        return (await self._ask(p.request(p.ECHO_REQ, b"ping"), p.ECHO_RES, repeat=True))[0]

    async def close(self) -> None:
        """Close all connections: foreground jobs under way end with ResultUnknown."""
        self._closed = True
        links, self._links, self._current = list(self._links.values()), {}, None
        for link in links:
            await link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- requests ------------------------------------------------------------------------------------------------

    def _packet(self, kind: int, function: str | bytes, unique: str | bytes, fields: tuple[bytes, ...]) -> bytes:
        packet = p.request(kind, _name(function), _name(unique), *fields)
        if len(packet) - p.HEADER_SIZE > self._max_packet:
            raise PermanentError(
                f"job of {len(fields[-1])} bytes is larger than the job server takes ({self._max_packet} a packet)"
            )
        return packet

    async def _ask(
        self, packet: bytes, kind: int, *, task: Task | None = None, server: Server | None = None, repeat: bool = False
    ) -> tuple[Server, bytes]:
        """Send a request and wait for its answer. `repeat`: send it again should the connection be lost."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        while True:
            link = self._current
            if link is None or link.error is not None or server is not None:
                link = await self._connected(server, deadline)
            await link.writable()
            if link.error is not None:
                continue  # nothing was sent yet
            try:
                return link.server, await link.ask(packet, kind, task)
            except AcceptanceUnknown:
                if not repeat or self._closed or asyncio.get_running_loop().time() > deadline:
                    raise

    async def _connected(self, server: Server | None, deadline: float) -> ClientLink:
        """The connection to this server, or to the current one; waits, with backoff, until there is one."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        async with self._connecting:
            while True:
                if self._closed:
                    raise TransientError("the client is closed")
                link = self._links.get(server) if server is not None else self._current
                if link is not None and link.error is None:
                    return link
                try:
                    return await self._connect(server, deadline - loop.time())
                except TransientError:
                    wait = backoff.next()
                    if loop.time() + wait > deadline:
                        raise
                    await asyncio.sleep(wait)

    async def _connect(self, server: Server | None, patience: float) -> ClientLink:
        candidates = [server] if server is not None else self._candidates()
        share = max(0.1, patience / len(candidates))
        found, link = await connect(
            candidates, lambda: ClientLink(self._max_packet, self._heartbeat), tls=self._tls, patience=share
        )
        link.begin(found, exceptions=self._exceptions)
        self._links[found] = link
        if server is None:
            self._current = link
        return link

    def _candidates(self) -> list[Server]:
        """In the caller's order, but the server we just lost comes last."""
        lost = self._current.server if self._current is not None else None
        return sorted(self._servers, key=lambda server: server == lost)


class ClientLink(Link):
    """A client's connection: the Conversation with a socket."""

    def __init__(self, max_packet: int, heartbeat: float) -> None:
        super().__init__(max_packet, heartbeat=heartbeat)
        self.server: Server
        self._conversation: Conversation | None = None

    def begin(self, server: Server, *, exceptions: bool) -> None:
        self.server = server
        self._conversation = Conversation(server)
        if exceptions:
            self._send(p.request(p.OPTION_REQ, b"exceptions"), p.OPTION_RES).add_done_callback(_seen)

    def ask(self, packet: bytes, kind: int, task: Task | None) -> asyncio.Future[bytes]:
        return self._send(packet, kind, task)

    def _send(self, packet: bytes, kind: int, task: Task | None = None) -> asyncio.Future[bytes]:
        assert self._conversation is not None, "begin() comes first"
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._conversation.expect(kind, answer, task)
        if self.error is not None:
            self._conversation.end(self.error)
        self.write(packet)
        return answer

    # -- Link ----------------------------------------------------------------------------------------------------

    def received(self, packets: list[Packet]) -> None:
        assert self._conversation is not None
        self._conversation.receive(packets)

    def broken(self, error: Exception) -> None:
        if self._conversation is not None:
            self._conversation.end(error)

    def ping(self) -> None:
        if self._conversation is not None and self._conversation.waiting:
            self._send(p.request(p.ECHO_REQ, b"ping"), p.ECHO_RES).add_done_callback(_seen)
        else:
            self._pinged = False  # nobody waits: the next request will show


def _seen(answer: asyncio.Future[bytes]) -> None:
    """Nobody waits for it: its error is no news."""
    if not answer.cancelled():
        answer.exception()


def _ignore(_: Update) -> None:
    """run() has no reader for updates."""


def _name(text: str | bytes) -> bytes:
    name = text.encode() if isinstance(text, str) else text
    if b"\0" in name:
        raise PermanentError(f"{name!r} holds a NUL, which no function, unique or handle can")
    return name


def _no_priority(priority: int, what: str) -> None:
    if priority != NORMAL:
        raise PermanentError(f"the Gearman protocol has no priority for {what}")


def _due(at: datetime | float | None, delay: float) -> int:
    """Unix seconds, 0 for now."""
    if at is None:
        return math.ceil(time.time() + delay) if delay > 0 else 0
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise PermanentError("a start time needs a time zone")
        at = at.timestamp()
    return math.ceil(at + delay)


def _status(fields: list[bytes]) -> JobStatus:
    _, known, running, numerator, denominator, *clients = fields
    return JobStatus(
        known == b"1",
        running == b"1",
        number(numerator),
        number(denominator),
        int(number(clients[0])) if clients else 0,
    )
