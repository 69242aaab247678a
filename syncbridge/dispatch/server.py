"""The job server's edge: sockets, one event loop, one thread that commits and one that reads the store.

Each turn of the loop reads what arrived on all connections; then one commit takes all changes of that turn, and
those that arrive while it is under way gather for the next (group commit). Answers leave after their commit.
The loop never waits for the disk: commits and reads run in a thread each. No rule of the queue is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from syncbridge.config import Address
from syncbridge.dispatch.batch import Batch
from syncbridge.dispatch.function import Tally
from syncbridge.dispatch.helper import Helper
from syncbridge.dispatch.job import Job
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.listeners import Listener, TcpListener
from syncbridge.dispatch.open_files import allow_connections
from syncbridge.dispatch.policy import Policies
from syncbridge.dispatch.queue import FunctionStats, JobQueue
from syncbridge.dispatch.reading import Read
from syncbridge.dispatch.session import Session
from syncbridge.dispatch.store import JobStore
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.errors import SyncbridgeError, TransientError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_R = TypeVar("_R")

#: After a failed commit, what must still leave the store is tried again after this time, seconds.
_COMMIT_RETRY = 0.5
#: Commits that only let jobs leave wait so long for company, seconds, unless there are so many jobs: nobody waits for
#: them, but who submits meanwhile would wait for their fsync besides his own.
_COMPANY = 0.005
_CROWD = 2000
#: Timers are not finer; a shorter one would only turn the loop over and over, seconds.
_MIN_DELAY = 0.001
#: How long stop() waits for peers to read their last answers, seconds.
_CLOSE_TIMEOUT = 1.0
#: How often the observer hears of jobs, seconds.
_REPORT_INTERVAL = 0.2


class Observer(Protocol):
    """Who wants to know what happens, in totals: a few times a second, never per job."""

    def jobs(self, function: str, priority: int, tally: Tally) -> None:
        """What happened to a function's jobs of this priority since the last call."""

    def commit(self, seconds: float, sync_seconds: float, changes: int) -> None:
        """One group commit: its time, that of its fsync (0.0: not known), and how many jobs it changed."""

    def commit_failed(self, reason: str) -> None:
        """The store did not take a commit; its submissions were refused."""


class JobServer:
    """A Gearman job server on host:port (port 0: any free one, see `port`), or on `listeners` where some are given.

    start() returns once it listens; stop() finishes the commit under way, answers it and closes everything, the
    store too. Both may be called twice. start() raises ConfigError or TransientError, one sentence each.
    """

    def __init__(
        self,
        host: str,
        port: int,
        store: JobStore,
        *,
        limits: Limits | None = None,
        observer: Observer | None = None,
        listeners: Sequence[Listener] = (),
        policies: Policies | None = None,
    ) -> None:
        self._policies = policies
        self._listeners = listeners or [TcpListener(Address(host, port))]
        self.limits = limits or Limits()
        self._store = store
        self._instant = type(store) is MemoryStore
        self._observer = observer
        #: Open connections.
        self.sessions: dict[Connection, Session] = {}
        #: Bytes of packets that are not complete yet, over all connections.
        self.partial = 0
        self._outputs: list[Connection] = []
        self._held: list[Connection] = []
        self._round_planned = False
        self._commit: asyncio.Future[None] | None = None
        self._reading: asyncio.Future[list[tuple[Read, Any]]] | None = None
        self._retry_at = 0.0
        self._leave_at = 0.0
        self._report_at = 0.0
        #: The core is told the time by the first round from then on; `_timer` plans one at `_timer_at`.
        self._tick_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._started = False
        #: drain() waits for it.
        self._idle: asyncio.Future[None] | None = None
        #: stop() was called.
        self.stopping = False

    async def start(self) -> None:
        if self._started:
            return
        allow_connections(self.limits.max_connections)
        self._loop = asyncio.get_running_loop()
        self.queue = JobQueue(
            self._store,
            limits=self.limits,
            epoch=time.time() - time.monotonic(),
            policies=self._policies,
            volatile=self._instant,
        )
        self._thread = Helper(self._loop, "queue-commit")
        self._reader = Helper(self._loop, "queue-read")
        try:
            for listener in self._listeners:
                await listener.open(lambda: Connection(self))
        except SyncbridgeError:
            for listener in self._listeners:
                listener.close()
            self._store.close()
            raise
        self._started = True
        self._plan_round()  # for what is due

    @property
    def port(self) -> int:
        """The port of its first TCP listener."""
        return next(listener.address.port for listener in self._listeners if isinstance(listener, TcpListener))

    async def stop(self) -> None:
        if self.stopping:
            return
        self.stopping = True
        if not self._started:
            self._store.close()
            return
        for listener in self._listeners:
            listener.close()
        self._plan_round()
        while self._round_planned or self._commit is not None or self._reading is not None:
            under_way = [future for future in (self._commit, self._reading) if future is not None]
            await (asyncio.wait(under_way) if under_way else asyncio.sleep(0))
        for read in self.queue.take_reads():
            read.failed(TransientError("the job server is stopping"))
        await self._close_connections()
        if self._timer is not None:
            self._timer.cancel()
        self._report(math.inf)
        self._thread.stop()
        self._reader.stop()
        self._store.close()

    async def drain(self, limit: float) -> int:
        """Hand out nothing any more and wait up to `limit` seconds for the jobs that run; returns how many still do.

        Jobs are taken in meanwhile. Call stop() next.
        """
        self.queue.drain()
        deadline = self._loop.time() + limit
        while self.queue.running and (left := deadline - self._loop.time()) > 0:
            self._idle = self._loop.create_future()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle, left)
        return self.queue.running

    async def look(self, ask: Callable[[JobStore], _T], then: Callable[[_T], _R]) -> _R:
        """Read the store in the reader thread; returns what `then` makes of it, called while the core holds still."""
        if self.stopping:
            raise TransientError("the job server is stopping")
        future: asyncio.Future[_R] = self._loop.create_future()

        def done(value: _T) -> None:
            if not future.done():
                try:
                    future.set_result(then(value))
                except SyncbridgeError as error:
                    future.set_exception(error)

        def failed(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)

        self.queue.look(ask, done, failed)
        self._plan_round()
        return await future

    async def settled(self) -> None:
        """Return once everything done so far has reached the store. Raises TransientError: it will, later."""
        waiter = _Settled(self._loop.create_future())
        self.queue.settle(waiter)
        self._plan_round()
        await waiter.future

    async def _close_connections(self) -> None:
        for connection in self.sessions:
            connection.transport.close()
        closed = [connection.closed for connection in self.sessions]
        if closed:
            await asyncio.wait(closed, timeout=_CLOSE_TIMEOUT)
        for connection in list(self.sessions):
            connection.transport.abort()

    def stats(self) -> dict[str, FunctionStats]:
        """Depth, running jobs, workers and oldest age of every function."""
        found = {name.decode(errors="replace"): stats for name, stats in self.queue.stats(time.monotonic()).items()}
        if self.queue.wants_reads:
            self._plan_round()
        return found

    # -- connections ---------------------------------------------------------------------------------------------

    def admit(self, connection: Connection) -> bool:
        """Whether one more connection may stay."""
        if self.stopping or len(self.sessions) >= self.limits.max_connections:
            logger.warning("connection refused: %d are open", len(self.sessions))
            return False
        self.sessions[connection] = connection.session
        return True

    def received(self, connection: Connection) -> None:
        """The connection's session took in requests."""
        self._plan_round()
        if self.queue.batch_size > self.limits.max_batch and not connection.held:
            connection.held = True
            self._held.append(connection)

    def has_output(self, connection: Connection) -> None:
        self._outputs.append(connection)
        self._plan_round()

    def lost(self, connection: Connection) -> None:
        # A server that stops is not a worker that dies: its jobs are simply there at the next start.
        if self.sessions.pop(connection, None) is None:
            return
        self.partial -= connection.partial
        if not self.stopping:
            self.queue.now = time.monotonic()
            connection.session.disconnected()
            self._plan_round()

    def changed(self) -> None:
        """Somebody beside the connections called the queue: what it did is to be committed, answered, handed out."""
        self._plan_round()

    # -- one turn of the loop ------------------------------------------------------------------------------------

    def _plan_round(self) -> None:
        """Run a round after everything that this turn of the loop still reads."""
        if not self._round_planned:
            self._round_planned = True
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        self._round_planned = False
        now = time.monotonic()
        deadline = None
        ticks = now >= self._tick_at
        if ticks:
            if self._retry_at <= now:
                self._retry_at = 0.0
            deadline = self.queue.tick(now)
        if self.queue.away:
            self.queue.answer_without_store()
        if self._commit is None and not self._retry_at:
            self._start_commit(now)
        if self._reading is None and not self.stopping:
            self._start_reading()
        self._release_held()
        if self._idle is not None and not self._idle.done() and not self.queue.running:
            self._idle.set_result(None)
        if ticks:
            self._tick_at = now + _MIN_DELAY
            deadlines = [time for time in (deadline, self._retry_at, self._leave_at, self._report(now)) if time]
            self._set_timer(now, max(min(deadlines), now + _MIN_DELAY) if deadlines else math.inf)
        elif self._timer_at > now + _MIN_DELAY:
            self._set_timer(now, now + _MIN_DELAY)
        self._flush()

    def _set_timer(self, now: float, at: float) -> None:
        """Run a round then, if not earlier."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(at - now, self._time_is_up) if at < math.inf else None

    def _time_is_up(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._plan_round()

    def _start_commit(self, now: float) -> None:
        leaving = self.queue.leaving
        if 0 < leaving < _CROWD and not (self.stopping or self.queue.away or self._instant):
            if not self._leave_at:
                self._leave_at = now + _COMPANY
            if now < self._leave_at:
                return
        self._leave_at = 0.0
        batch = self.queue.take()
        if batch is None:
            return
        if not batch.changes:
            self.queue.committed(batch)
        elif self._instant:
            try:
                self._timed_commit(batch)
            except Exception as error:
                self._commit_failed(batch, error)
            else:
                self._committed(batch)
        else:
            self._commit = self._thread.ask(self._timed_commit, batch)
            self._commit.add_done_callback(lambda done: self._commit_done(batch, done.exception()))

    def _release_held(self) -> None:
        """What connections sent is on its way to the store: read on."""
        if not self._held or self.queue.batch_size > self.limits.max_batch:
            return
        held, self._held = self._held, []
        for connection in held:
            connection.release()

    def _start_reading(self) -> None:
        reads = self.queue.take_reads()
        if not reads:
            return
        if self._instant:
            self._take_in(self._read(reads))
            self._plan_round()
        else:
            self._reading = self._reader.ask(self._read, reads)
            self._reading.add_done_callback(self._reads_done)

    def _read(self, reads: list[Read]) -> list[tuple[Read, Any]]:
        outcomes: list[tuple[Read, Any]] = []
        for read in reads:
            try:
                outcomes.append((read, read.ask(self._store)))
            except SyncbridgeError as error:
                outcomes.append((read, error))
            except Exception as error:
                logger.exception("the store could not be read")
                outcomes.append((read, TransientError(f"storage failure: {error}")))
        return outcomes

    def _reads_done(self, done: asyncio.Future[list[tuple[Read, Any]]]) -> None:
        self._reading = None
        self._take_in(done.result())
        self._round()

    def _take_in(self, outcomes: list[tuple[Read, Any]]) -> None:
        self.queue.reads_done(outcomes, time.monotonic())
        for worker in self.queue.take_waiting():
            worker.retry()

    def _timed_commit(self, batch: Batch) -> None:
        started = time.perf_counter()
        self._store.commit(batch.changes)
        batch.seconds = time.perf_counter() - started

    def _commit_done(self, batch: Batch, error: BaseException | None) -> None:
        self._commit = None
        if error is None:
            self._committed(batch)
        else:
            self._commit_failed(batch, error)
        self._round()

    def _committed(self, batch: Batch) -> None:
        self._retry_at = 0.0
        if self.queue.away:
            logger.warning("the store is back")
        self.queue.committed(batch)
        if self._observer is not None:
            self._observer.commit(batch.seconds, self._store.sync_seconds, len(batch.changes))
        if self._store.queue_id != self.queue.queue_id:
            self._another_queue()

    def _another_queue(self) -> None:
        """The store came back without what it held: whoever counts on the queue's id must ask for it again."""
        logger.error("the store lost what it held: this is another queue from now on, and every connection is closed")
        self.queue.queue_id = self._store.queue_id
        self._flush()
        for connection in list(self.sessions):
            connection.transport.close()

    def _commit_failed(self, batch: Batch, error: BaseException) -> None:
        expected = isinstance(error, SyncbridgeError)
        failure = str(error) if expected else "storage failure"
        if failure != self.queue.away:  # said once, however long it lasts
            logger.error("commit failed: %s", error, exc_info=None if expected else error)
        self._retry_at = time.monotonic() + _COMMIT_RETRY
        self.queue.failed(batch, failure)
        if self._observer is not None:
            self._observer.commit_failed(failure)

    def _flush(self) -> None:
        while self._outputs:
            outputs, self._outputs = self._outputs, []
            for connection in outputs:
                connection.flush()

    def _report(self, now: float) -> float | None:
        """Tell the observer, not too often; returns when there will be something to tell."""
        touched = self.queue.touched
        if not touched:
            return None
        if now < self._report_at:
            return self._report_at
        self._report_at = now + _REPORT_INTERVAL
        if self._observer is not None:
            for function in touched:
                for priority, tally in enumerate(function.take_tallies()):
                    if tally:
                        self._observer.jobs(function.name.decode(errors="replace"), priority, tally)
        touched.clear()
        return None


class _Settled:
    """A client of the core that only wants to know when the store has everything."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future

    def created(self, job: Job) -> None:
        """It submits nothing."""

    def progress(self, kind: int, job: Job, data: bytes) -> None:
        """It waits for no job."""

    def deliver(self, reply: bytes) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def refused(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(TransientError(f"done, but not written yet: {reason}"))


class Connection(asyncio.Protocol):
    """One socket: carries bytes between the transport and its Session, and holds back peers that do not read."""

    transport: asyncio.Transport

    def __init__(self, server: JobServer) -> None:
        self._server = server
        self._limits = server.limits
        self._has_output = partial(server.has_output, self)
        #: Bytes of its incomplete packet, as far as the server counts them.
        self.partial = 0
        #: Its submissions fill a batch; see JobServer.hold.
        self.held = False
        self.closed = asyncio.get_running_loop().create_future()
        self._reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has its own class
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer = transport.get_extra_info("peername")
        self.session = Session(
            self._server.queue,
            self._has_output,
            number=connection.fileno(),
            address=peer[0] if peer else "-",
            sessions=self._server.sessions.values(),
        )
        self.session.on_retry = self._resume
        self.transport.set_write_buffer_limits(high=self._limits.output_pause)
        if not self._server.admit(self):
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        server = self._server
        done = self.session.receive(data, time.monotonic())
        server.received(self)
        if done and not self.held and not server.stopping:
            return
        held, self.partial = self.partial, self.session.held
        server.partial += self.partial - held
        if self.partial and server.partial > self._limits.max_partial:
            logger.warning("%s closed: too many packets are only half there", self)
            self.transport.abort()
        self._balance()

    def connection_lost(self, error: Exception | None) -> None:
        self._server.lost(self)
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        self.session.blocked = True
        self._balance()

    def resume_writing(self) -> None:
        self.session.blocked = False
        self._resume()

    def release(self) -> None:
        """Its submissions are on their way: read on."""
        self.held = False
        self._balance()

    def flush(self) -> None:
        """Send what the session has to say."""
        if self.transport.is_closing():
            return
        self.transport.write(self.session.drain())
        if self.transport.get_write_buffer_size() > self._limits.output_close:
            logger.warning("%s closed: it leaves more than %d bytes unread", self, self._limits.output_close)
            self.transport.abort()
        elif self.session.closing:
            self.transport.close()
        elif self.session.pending and not self.session.blocked:
            # Its next requests wait for their turn behind the other connections.
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        """Go on with requests that had to wait."""
        if not self.transport.is_closing():
            self.session.resume(time.monotonic())
            self._server.received(self)
            self._balance()

    def _balance(self) -> None:
        """Read only while what was read is dealt with."""
        wanted = not (self.held or self.session.blocked or self.session.pending or self._server.stopping)
        if wanted != self._reading and not self.transport.is_closing():
            self._reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()
        if self.session.closing:
            self._has_output()  # nothing to say, but to be closed

    def __repr__(self) -> str:
        return f"connection {self.session.number} from {self.session.address}"


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed, else asyncio's: the server runs on both."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
