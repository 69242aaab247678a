"""A worker of any Gearman servers: takes jobs from all of them, runs handlers, reports. asyncio.

A job is in hand from its assignment until its report is sent. A worker that stops asks for nothing more, finishes what
it has in hand, hears from the server that the reports arrived, and only then closes: nothing is lost or repeated. When
a server goes away, its jobs in hand run on to their end (half a job helps nobody), but the server, or its successor,
gives them to somebody again.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias, cast

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.packets import Packet
from syncbridge.dispatch.peers.backoff import Backoff
from syncbridge.dispatch.peers.errors import JobFailed, JobRaised
from syncbridge.dispatch.peers.grabbing import Grabbing
from syncbridge.dispatch.peers.job import WorkerJob
from syncbridge.dispatch.peers.link import Link
from syncbridge.dispatch.peers.server import Server, Tls, connect, parse_servers, tls_context
from syncbridge.errors import ConfigError, PermanentError, ProtocolError, TransientError

logger = logging.getLogger(__name__)

Result: TypeAlias = bytes | str | None
Handler: TypeAlias = Callable[[WorkerJob], Awaitable[Result] | Result]

_GRAB = p.request(p.GRAB_JOB_ALL)


#: How much later than ourselves the server gives a coroutine's job up, seconds: our answer says more than its.
_GRACE = 1.0


class Registration(NamedTuple):
    name: str
    handler: Handler
    timeout: float

    @property
    def is_coroutine(self) -> bool:
        """Runs in the event loop."""
        return inspect.iscoroutinefunction(self.handler) or inspect.iscoroutinefunction(type(self.handler).__call__)

    def announcement(self) -> bytes:
        if not self.timeout:
            return p.request(p.CAN_DO, self.name.encode())
        seconds = self.timeout + (_GRACE if self.is_coroutine else 0)
        return p.request(p.CAN_DO_TIMEOUT, self.name.encode(), b"%d" % round(seconds * 1000))


class GearmanWorker:
    """`servers`: texts as Server.parse takes them, or one text with commas; the worker serves all of them.

        worker = GearmanWorker("10.0.0.1,10.0.0.2", concurrency=8)
        worker.register("reverse", reverse)
        loop.add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()

    `concurrency`: handlers that run at a time. `prefetch`: jobs taken beyond them, so that short jobs need not wait
    for a round trip; they wait for this worker even when another is idle, and stop() runs them too. A function with a
    time-out forbids it: the time would run while its job waits. `timeout`: seconds to reach a server, and to hear the
    last answers at the end. `heartbeat`: seconds of silence after which a server is pinged; after as many again it is
    given up, and tried anew.
    """

    def __init__(
        self,
        servers: str | Server | Iterable[str | Server],
        *,
        concurrency: int = 1,
        prefetch: int = 0,
        client_id: str = "",
        tls: Tls | ssl.SSLContext | None = None,
        timeout: float = 10.0,
        heartbeat: float = 10.0,
        max_packet: int = p.MAX_PACKET,
    ) -> None:
        if concurrency < 1 or prefetch < 0:
            raise ConfigError(f"a worker cannot run {concurrency} jobs at a time and fetch {prefetch} more")
        self._servers = parse_servers(servers)
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._client_id = client_id
        self._tls = tls_context(tls)
        self._timeout = timeout
        self._heartbeat = heartbeat
        self._max_packet = max_packet
        self._functions: dict[bytes, Registration] = {}
        #: In the order in which they are asked for the next job.
        self._links: deque[WorkerLink] = deque()
        #: Jobs in hand: running, and waiting for a handler to be free.
        self._running: dict[asyncio.Task[None], WorkerJob] = {}
        self._waiting: deque[WorkerJob] = deque()
        self._stopping = asyncio.Event()
        self._abandoned = asyncio.Event()
        #: Set whenever a job ended or a grab was answered; stop() waits for it.
        self._settled = asyncio.Event()
        self._threads: ThreadPoolExecutor | None = None

    def register(self, function: str, handler: Handler, *, timeout: float = 0.0) -> None:
        """Take jobs of this function. `handler` gets the WorkerJob and returns the result.

        A coroutine function runs in the event loop, any other in a thread. JobFailed becomes WORK_FAIL, every other
        exception WORK_EXCEPTION with its text. `timeout`, seconds (0: none): a coroutine is cancelled then, and its job
        raised TimeoutError; a thread cannot be, but the server gives its job up.
        """
        if not function or "\0" in function:
            raise ConfigError(f"{function!r} is no function name")
        if timeout and self._prefetch:
            raise ConfigError(f"function {function} has a time-out, so its jobs must not be prefetched")
        self._functions[function.encode()] = Registration(function, handler, timeout)
        for link in self._links:
            link.announced.discard(function.encode())
            link.grabbing.woken()
            self._announce(link)
            self.ask(link, 1)

    async def run(self) -> None:
        """Work until stop(). Reconnects for ever; raises ConfigError where waiting would not mend it."""
        self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="gearman-job")
        serving = [asyncio.create_task(self._serve(server)) for server in self._servers]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([*serving, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
            await self._finish()
        finally:
            self._abandoned.set()
            tasks = [*serving, stopping, *self._running]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for link in list(self._links):
                await link.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Finish the jobs in hand, then run() returns. Called again: cancel them; the server gives them to others."""
        if self._stopping.is_set():
            self._abandoned.set()
            self._settled.set()
        self._stopping.set()

    @property
    def in_hand(self) -> int:
        """Jobs running, or waiting for a handler."""
        return len(self._running) + len(self._waiting)

    # -- connections ---------------------------------------------------------------------------------------------

    async def _serve(self, server: Server) -> None:
        """Keep a connection to one server."""
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                _, link = await connect([server], self._new_link, tls=self._tls, patience=self._timeout)
            except TransientError as error:
                logger.warning("%s", error)
            else:
                self._begin(link)
                await asyncio.wait([link.closed])
                logger.warning("connection to the job server %s is lost: %s", server, link.error)
                if link.spoken:
                    backoff.reset()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff.next())

    def _new_link(self) -> WorkerLink:
        return WorkerLink(self, self._max_packet, self._heartbeat)

    def _begin(self, link: WorkerLink) -> None:
        if link.error is not None:
            return
        self._links.append(link)
        if self._client_id:
            link.write(p.request(p.SET_CLIENT_ID, self._client_id.encode()))
        self._announce(link)
        self.ask(link, 1)

    def _announce(self, link: WorkerLink) -> None:
        """Say what we can, as far as the server does not know."""
        for function, registration in self._functions.items():
            if function not in link.announced:
                link.announced.add(function)
                link.write(registration.announcement())

    def _withdraw(self, link: WorkerLink) -> None:
        """We have no room: let the server wake others. Not for functions whose jobs we have in hand from there, nor
        while a grab may bring one: to gearmand, CANT_DO gives such jobs back."""
        if link.grabbing.out:
            return
        in_hand = {job.function for job in (*self._running.values(), *self._waiting) if job.link is link}
        for function in list(link.announced):
            if self._functions[function].name not in in_hand:
                link.announced.remove(function)
                link.write(p.request(p.CANT_DO, function))

    # -- from the links ------------------------------------------------------------------------------------------

    def ask(self, link: WorkerLink, count: int) -> None:
        """Grab up to `count` more jobs there, as far as there is room."""
        if self._stopping.is_set():
            return
        room = self._room()
        if room > 0:
            self._announce(link)
        link.write(link.grabbing.ask(count, room))

    def woken(self, link: WorkerLink) -> None:
        """The server may have a job. Where we have no room, another worker must get the NOOP."""
        link.grabbing.woken()
        self.ask(link, 1)
        self._withdraw(link)

    def assigned(self, link: WorkerLink, handle: bytes, function: bytes, fields: list[bytes]) -> None:
        unique, reducer, payload = fields
        registration = self._functions.get(function)
        if registration is None:
            raise ProtocolError(f"a job of {function!r}, which was never asked for")
        self._waiting.append(WorkerJob(link, handle, registration.name, unique, reducer, payload))
        self._start()
        self.ask(link, 2)

    def no_job(self) -> None:
        """A grab was answered without a job: its room is free for another server."""
        self._settled.set()
        self._ask_around()

    def answered(self) -> None:
        """The server answered a ping."""
        self._settled.set()

    def broken(self, link: WorkerLink) -> None:
        """What waits for a handler goes back to the server; what runs, runs on."""
        with contextlib.suppress(ValueError):
            self._links.remove(link)
        self._waiting = deque(job for job in self._waiting if job.link is not link)
        self._settled.set()
        self._ask_around()

    def _room(self) -> int:
        out = sum(link.grabbing.out for link in self._links)
        return self._concurrency + self._prefetch - self.in_hand - out

    def _ask_around(self) -> None:
        """There is room again: ask the servers in turn."""
        for _ in range(len(self._links)):
            link = self._links[0]
            self._links.rotate(-1)
            out = link.grabbing.out
            self.ask(link, 1)
            if link.grabbing.out > out:
                return

    # -- jobs ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._concurrency:
            job = self._waiting.popleft()
            task = asyncio.create_task(self._execute(job))
            self._running[task] = job
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._settled.set()
        if self._abandoned.is_set():
            return
        self._start()
        if self._stopping.is_set():
            self._withdraw_everywhere()
        else:
            self._ask_around()

    async def _execute(self, job: WorkerJob) -> None:
        registration = self._functions[job.function.encode()]
        try:
            packet = self._completion(job, await self._handle(job, registration))
        except asyncio.CancelledError:
            if self._abandoned.is_set():
                raise  # no answer: the server gives it to somebody else
            packet = _exception(job, b"CancelledError")
        except JobRaised as error:
            packet = _exception(job, error.data)
        except JobFailed:
            packet = p.request(p.WORK_FAIL, job.handle)
        except Exception as error:
            logger.warning("%r raised", job, exc_info=error)
            packet = _exception(job, f"{type(error).__name__}: {error}".encode(errors="replace"))
        if job.link.error is not None:
            logger.warning("result of %r came to nothing: %s", job, job.link.error)
        job.link.report(packet)

    async def _handle(self, job: WorkerJob, registration: Registration) -> Result:
        if not registration.is_coroutine:
            return await self._in_thread(job, registration)
        async with asyncio.timeout(registration.timeout or None):
            return await cast(Awaitable[Result], registration.handler(job))

    async def _in_thread(self, job: WorkerJob, registration: Registration) -> Result:
        result = await asyncio.get_running_loop().run_in_executor(self._threads, registration.handler, job)
        return await result if inspect.isawaitable(result) else result

    def _completion(self, job: WorkerJob, result: Result) -> bytes:
        data = result.encode() if isinstance(result, str) else b"" if result is None else result
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise PermanentError(f"handler of {job.function} returned {type(data).__name__}, a result is bytes")
        packet = p.request(p.WORK_COMPLETE, job.handle, data)
        if len(packet) - p.HEADER_SIZE > self._max_packet:
            raise PermanentError(f"result of {len(data)} bytes is larger than a packet ({self._max_packet} bytes)")
        return packet

    # -- the end -------------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Ask for nothing more, finish what is in hand, and hear that the server knows."""
        await self._until(lambda: not any(link.grabbing.out for link in self._links), self._timeout)
        self._withdraw_everywhere()
        await self._until(lambda: not self.in_hand)
        if self._abandoned.is_set():
            self._waiting.clear()
            return
        for link in self._links:
            link.echo()
        await self._until(lambda: not any(link.pings for link in self._links), self._timeout)

    def _withdraw_everywhere(self) -> None:
        for link in self._links:
            self._withdraw(link)

    async def _until(self, condition: Callable[[], bool], patience: float | None = None) -> None:
        """Wait for it, for the second stop(), or for the time to be over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not condition() and not self._abandoned.is_set():
                    self._settled.clear()
                    await self._settled.wait()


class WorkerLink(Link):
    """A worker's connection to one server."""

    def __init__(self, worker: GearmanWorker, max_packet: int, heartbeat: float) -> None:
        super().__init__(max_packet, heartbeat=heartbeat)
        self.grabbing = Grabbing(_GRAB)
        #: Functions that the server believes we can do.
        self.announced: set[bytes] = set()
        #: Pings without an answer.
        self.pings = 0
        #: The server said something.
        self.spoken = False
        self._worker = worker

    def report(self, packet: bytes) -> None:
        """Send it unless the connection is gone."""
        if self.error is None:
            self.write(packet)

    # -- Link ----------------------------------------------------------------------------------------------------

    def received(self, packets: list[Packet]) -> None:
        self.spoken = True
        for kind, body in packets:
            self._take(kind, body)
        self.write(self.grabbing.sleep())

    def _take(self, kind: int, body: bytes) -> None:
        if kind == p.JOB_ASSIGN_UNIQ:
            self.grabbing.assigned()
            handle, function, unique, payload = p.arguments(body, 4)
            self._worker.assigned(self, handle, function, [unique, b"", payload])
        elif kind == p.JOB_ASSIGN_ALL:
            self.grabbing.assigned()
            handle, function, *fields = p.arguments(body, 5)
            self._worker.assigned(self, handle, function, fields)
        elif kind == p.NO_JOB:
            self.grabbing.no_job()
            self._worker.no_job()
        elif kind == p.NOOP:
            self._worker.woken(self)
        elif kind == p.ECHO_RES:
            self.pings = max(0, self.pings - 1)
            self._worker.answered()
        elif kind == p.ERROR and not body.startswith(b"JOB_NOT_FOUND"):  # it gave the job up, or knew of the exception
            logger.warning("job server says %s", body.replace(b"\0", b": ").decode(errors="replace"))

    def broken(self, error: Exception) -> None:
        self._worker.broken(self)

    def ping(self) -> None:
        """A sleeper asks for a job instead: gearmand wakes nobody when a job's start time has come."""
        if self.grabbing.asleep:
            self._worker.woken(self)
        if not self.grabbing.out:
            self.echo()

    def echo(self) -> None:
        self.pings += 1
        self.write(p.request(p.ECHO_REQ, b"ping"))


def _exception(job: WorkerJob, data: bytes) -> bytes:
    """WORK_EXCEPTION, and WORK_FAIL for servers to which an exception is not the end; ours ignores it."""
    return p.request(p.WORK_EXCEPTION, job.handle, data) + p.request(p.WORK_FAIL, job.handle)
