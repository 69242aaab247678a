"""Jobs over HTTP, in gearmand's own form: `POST /function`, the body is the workload, the answer its result.

    X-Gearman-Unique      default `-`: a job with the same workload that waits or runs is joined; empty: never
    X-Gearman-Background  `true`: answered once the job is durable
    X-Gearman-Priority    high, normal or low

It runs in the job server's event loop and is one more Client of the queue core. What gearmand answers 200, a job that
failed, is 500 here; docs/job-server.md lists the differences.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes

import h11

from syncbridge import __version__
from syncbridge.dispatch import packets as p
from syncbridge.dispatch.job import HIGH, LOW, NORMAL, Job
from syncbridge.dispatch.packets import MAX_FUNCTION, MAX_UNIQUE

if TYPE_CHECKING:
    from syncbridge.dispatch.listeners import Listener
    from syncbridge.dispatch.server import JobServer

log = logging.getLogger(__name__)

#: A connection without a request is closed after this time, and one whose request does not end; seconds.
IDLE_TIMEOUT = 75.0
REQUEST_TIMEOUT = 120.0
#: A client that does not read its answer is closed after this time, seconds.
WRITE_TIMEOUT = 60.0
#: A client whose body was refused may send on for this time, seconds.
LINGER = 2.0
#: What a client may send ahead while its request is worked on, bytes.
MAX_AHEAD = 1 << 16
_CLOSE_TIMEOUT = 1.0

_PRIORITIES = {b"high": HIGH, b"normal": NORMAL, b"low": LOW}
_SERVER = f"syncbridge/{__version__}".encode()
_BINARY, _TEXT = b"application/octet-stream", b"text/plain; charset=utf-8"

Headers = list[tuple[bytes, bytes]]


class _RefusedError(Exception):
    """A request that is answered without a job."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        self.status = status
        self.headers = list(headers)


class Gateway:
    """Serves the job server's queue on a listener. `token`: requests must carry it as `Authorization: Bearer`."""

    def __init__(self, server: JobServer, listener: Listener, *, token: str = "") -> None:
        self.server = server
        self.token = token.encode()
        self.connections: set[GatewayConnection] = set()
        #: Bytes of bodies that are not complete yet.
        self.partial = 0
        self.closing = False
        self._listener = listener

    async def start(self) -> None:
        """Raises ConfigError or TransientError."""
        await self._listener.open(lambda: GatewayConnection(self))

    def close(self) -> None:
        """No more connections and requests; those under way are still answered."""
        self.closing = True
        self._listener.close()
        for connection in list(self.connections):
            connection.close_idle()

    async def stop(self) -> None:
        """Let go of everybody."""
        self.close()
        for connection in self.connections:
            connection.transport.close()
        if self.connections:
            await asyncio.wait([connection.closed for connection in self.connections], timeout=_CLOSE_TIMEOUT)
        for connection in list(self.connections):
            connection.transport.abort()


class GatewayConnection(asyncio.Protocol):
    """One HTTP connection, one request at a time; it is the Client of that request's job."""

    transport: asyncio.Transport

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limits = gateway.server.limits
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._http = h11.Connection(h11.SERVER)
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._lost = False
        #: A refused request's body still arrives; closing now could take the answer with it.
        self._deaf = False
        #: Bytes that arrived while a request was worked on.
        self._ahead = 0
        self._next()

    def _next(self) -> None:
        """Forget the last request."""
        self._request: h11.Request | None = None
        self._function = self._unique = b""
        self._priority = NORMAL
        self._background = False
        self._body: list[bytes] = []
        self._size = 0
        #: A job is submitted and not answered; `_job` once the queue has named it.
        self._busy = False
        self._job: Job | None = None
        self._result: list[bytes] = []
        self._result_size = 0

    # -- transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has its own class
        if self._gateway.closing or len(self._gateway.connections) >= self._limits.max_connections:
            self.transport.abort()
            return
        self._gateway.connections.add(self)
        self._set_timer(IDLE_TIMEOUT)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._http.receive_data(data)
        if self._busy:
            self._ahead += len(data)
            if self._ahead > MAX_AHEAD:
                self.transport.pause_reading()
        else:
            self._advance()

    def eof_received(self) -> bool:
        return False  # gone, also in the middle of a job: a client that was killed looks like this

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._gateway.connections.discard(self)
        self._gateway.partial -= self._size
        self._size = 0
        self._set_timer(None)
        self.resume_writing()
        self.closed.set_result(None)
        self._abandon()

    def pause_writing(self) -> None:
        self._writing = self._loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self.transport.close)

    def close_idle(self) -> None:
        if not self._busy:
            self.transport.close()

    # -- requests ------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take in what has arrived, up to the end of one request."""
        try:
            while not (self._busy or self._deaf or self.transport.is_closing()):
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.Request):
                    self._begin(event)
                elif isinstance(event, h11.Data):
                    self._take(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self._submit()
                elif isinstance(event, h11.ConnectionClosed):
                    self.transport.close()
        except h11.RemoteProtocolError as error:
            self._refuse(_RefusedError(error.error_status_hint, "this is no HTTP request"))
        except _RefusedError as refused:
            self._refuse(refused)

    def _begin(self, request: h11.Request) -> None:
        self._set_timer(REQUEST_TIMEOUT)
        self._request = request
        headers = dict(reversed(list(request.headers)))  # of several, the first
        self._authorize(headers)
        self._function = _function(request)
        self._unique = headers.get(b"x-gearman-unique", b"-")
        self._background = headers.get(b"x-gearman-background", b"").lower() == b"true"
        priority = headers.get(b"x-gearman-priority", b"normal").lower()
        if priority not in _PRIORITIES:
            raise _RefusedError(400, "X-Gearman-Priority is high, normal or low")
        self._priority = _PRIORITIES[priority]
        if len(self._unique) > MAX_UNIQUE:
            raise _RefusedError(400, f"X-Gearman-Unique is longer than {MAX_UNIQUE} bytes")
        if int(headers.get(b"content-length", b"0")) > self._limits.max_packet:
            raise self._too_large()
        if self._http.they_are_waiting_for_100_continue:
            self.transport.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")

    def _authorize(self, headers: dict[bytes, bytes]) -> None:
        token = self._gateway.token
        if token:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + token):
                raise _RefusedError(401, "a token is needed", (b"WWW-Authenticate", b"Bearer"))
        elif b"origin" in headers:
            # A page in somebody's browser must not submit jobs to what listens on their machine.
            raise _RefusedError(403, "requests of web pages are not taken without a token")

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        self._gateway.partial += len(data)
        self._body.append(bytes(data))
        if self._size > self._limits.max_packet:
            raise self._too_large()
        if self._gateway.partial > self._limits.max_partial:
            raise _RefusedError(503, "too many requests are only half there", (b"Retry-After", b"1"))

    def _too_large(self) -> _RefusedError:
        return _RefusedError(413, f"a workload has at most {self._limits.max_packet} bytes")

    def _submit(self) -> None:
        payload = b"".join(self._body)
        self._body.clear()
        self._gateway.partial -= self._size
        self._size = 0
        self._set_timer(None)
        self._busy = True
        server = self._gateway.server
        server.queue.submit(
            self, self._function, self._priority, self._unique, payload, self._background, time.monotonic()
        )
        server.changed()

    def _abandon(self) -> None:
        """The client is gone: its job runs on only where others want it."""
        job, self._job = self._job, None
        if self._busy and job is not None:
            server = self._gateway.server
            server.queue.now = time.monotonic()
            server.queue.abandon(self, job)
            server.changed()

    # -- Client (see job.py) -------------------------------------------------------------------------------------

    def created(self, job: Job) -> None:
        if self._background:
            self._answer(200, b"JOB_CREATED", job)
        elif self not in job.clients:
            return  # it joined a running job, which ended before
        elif self._lost:
            self._job = job
            self._loop.call_soon(self._abandon)  # not from within the queue
        else:
            self._job = job

    def refused(self, reason: str) -> None:
        self._job = None
        self._respond(503, reason.encode(), [(b"Retry-After", b"1")])

    def deliver(self, reply: bytes) -> None:
        """Nothing is asked for that would be answered so."""

    def progress(self, kind: int, job: Job, data: bytes) -> None:
        if kind == p.WORK_DATA:
            self._result.append(data)
            self._result_size += len(data)
            if self._result_size > self._limits.output_close:
                self.transport.abort()
        elif kind == p.WORK_COMPLETE:
            self._answer(200, b"WORK_COMPLETE", job, b"".join([*self._result, data]))
        elif kind == p.WORK_EXCEPTION:
            self._answer(500, b"WORK_EXCEPTION", job, data)
        elif kind == p.WORK_FAIL:
            self._answer(500, b"WORK_FAIL", job)

    # -- answers -------------------------------------------------------------------------------------------------

    def _answer(self, status: int, command: bytes, job: Job, body: bytes = b"") -> None:
        self._job = None
        handle = self._gateway.server.queue.handle(job)
        self._respond(status, body, [(b"X-Gearman-Job-Handle", handle), (b"X-Gearman-Command", command)], kind=_BINARY)

    def _refuse(self, refused: _RefusedError) -> None:
        self._gateway.partial -= self._size
        self._size = 0
        self._body.clear()
        self._respond(refused.status, str(refused).encode() + b"\n", refused.headers)

    def _respond(self, status: int, body: bytes, headers: Headers, *, kind: bytes = _TEXT) -> None:
        if self._lost or self.transport.is_closing():
            return
        headers += [(b"Content-Length", b"%d" % len(body)), (b"Content-Type", kind), (b"Server", _SERVER)]
        if self._http.their_state is not h11.DONE or self._gateway.closing:
            headers.append((b"Connection", b"close"))  # the rest of its body is not read
        events: list[Any] = [h11.Response(status_code=status, headers=headers), h11.EndOfMessage()]
        if body and (self._request is None or self._request.method != b"HEAD"):
            events.insert(1, h11.Data(data=body))
        try:
            self.transport.write(b"".join(self._http.send(event) or b"" for event in events))
        except h11.LocalProtocolError:
            self.transport.abort()
            return
        self._next()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._set_timer(IDLE_TIMEOUT)
            self._ahead = 0
            self.transport.resume_reading()
            self._loop.call_soon(self._advance)  # what was sent ahead; not from within the queue
        elif self._http.their_state is h11.SEND_BODY:
            self._deaf = True
            self._set_timer(LINGER)
        else:
            self.transport.close()


def _function(request: h11.Request) -> bytes:
    """The function that a request names. Raises _RefusedError."""
    path, question, _ = request.target.partition(b"?")
    name = unquote_to_bytes(path.removeprefix(b"/"))
    if not name or not path.startswith(b"/"):
        raise _RefusedError(404, "the path names the function: POST /function")
    if request.method not in (b"POST", b"PUT"):
        raise _RefusedError(405, "jobs are submitted with POST", (b"Allow", b"POST, PUT"))
    if question or b"\0" in name or len(name) > MAX_FUNCTION:
        raise _RefusedError(400, f"the path is the name of a function, 1 to {MAX_FUNCTION} bytes, and nothing else")
    return name
