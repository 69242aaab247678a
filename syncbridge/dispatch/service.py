"""The job server of one process with its edges: listeners, HTTP gateway, admin interface, gauges. Wires them, no more.

The queue section of sync.yaml is all it needs; `syncbridge server` makes one from its options.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from syncbridge.config import Address, HttpConfig, QueueConfig, SocketPath
from syncbridge.dispatch.limits import Limits
from syncbridge.dispatch.listeners import (
    Listener,
    TcpListener,
    UnixListener,
    load_certificate,
    open_listener,
    server_context,
)
from syncbridge.dispatch.observation import QueueMetrics
from syncbridge.dispatch.policy import LANE, Policies, Policy
from syncbridge.dispatch.server import JobServer
from syncbridge.dispatch.store import JobStore
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.errors import SyncbridgeError

if TYPE_CHECKING:  # each brings an HTTP library: imported where somebody listens
    from syncbridge.dispatch.api import AdminServer
    from syncbridge.dispatch.gateway import Gateway

log = logging.getLogger(__name__)

#: How often gauges are refreshed, seconds.
GAUGE_INTERVAL = 1.0
#: A refresh takes at most one part in so many of the loop's time.
GAUGE_SHARE = 50


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a process that is a job server needs."""

    #: The pipeline's, for metrics.
    name: str
    queue: QueueConfig
    #: Where this process serves /metrics.
    http: HttpConfig
    #: Reads the settings again. Raises ConfigError.
    read_again: Callable[[], QueueConfig]
    #: One more Unix socket, for this user only.
    private: SocketPath | None = None


class Service:
    """start() returns once everything listens, and raises ConfigError or TransientError; stop() may be called twice.

    `private`: one more Unix socket, for this user only.
    """

    def __init__(self, settings: QueueConfig, store: JobStore, *, private: SocketPath | None = None) -> None:
        self._settings = settings
        self._store = store
        self._private = private
        self._metrics = QueueMetrics()
        self._contexts: list[ssl.SSLContext] = []
        self._listening: list[Listener] = []
        self._server: JobServer | None = None
        self._gateway: Gateway | None = None
        self._admin: AdminServer | None = None

    async def start(self) -> None:
        settings = self._settings
        try:
            listeners = self._listening = self._listeners()
        except Exception:
            self._store.close()
            raise
        limits = Limits(max_bytes=settings.max_bytes, max_packet=settings.max_packet)
        if isinstance(self._store, MemoryStore):
            # What goes beyond a line's window would only go to another place in the same memory, and come back.
            limits = replace(limits, window=limits.windows)
        self._server = JobServer(
            "",
            0,
            self._store,
            limits=limits,
            observer=self._metrics,
            listeners=listeners,
            policies=policies(settings),
        )
        await self._server.start()
        for listener in listeners:
            log.info("listening on %s", listener)
        try:
            await self._start_gateway(self._server)
            await self._start_admin(self._server)
        except SyncbridgeError:
            await self.stop()
            raise

    async def _start_gateway(self, server: JobServer) -> None:
        settings = self._settings.http
        if settings.listen is None:
            return
        from syncbridge.dispatch.gateway import Gateway

        listener = TcpListener(settings.listen, tls=self._context(), setting="queue.http.listen")
        gateway = Gateway(server, listener, token=settings.token)
        await gateway.start()
        self._gateway = gateway
        log.info("taking jobs over HTTP on %s", listener)

    async def _start_admin(self, server: JobServer) -> None:
        settings = self._settings.admin
        if settings.listen is None:
            return
        from syncbridge.dispatch.api import AdminServer, application
        from syncbridge.dispatch.inspector import Inspector

        # The token is what lets a client in here, not its certificate: monitors have none.
        listener = TcpListener(
            settings.listen, tls=self._context(client_certificates=False), setting="queue.admin.listen"
        )
        app = application(
            Inspector(server),
            token=settings.token,
            queue_id=lambda: self._store.queue_id,
            promise=self._store.promise,
        )
        admin = AdminServer(app, listener)
        await admin.start()
        self._admin = admin
        log.info("admin interface on %s", listener)

    def _listeners(self) -> list[Listener]:
        tls = self._context()
        listeners: list[Listener] = [open_listener(place, tls) for place in self._settings.listen]
        if self._private is not None:
            listeners.append(UnixListener(self._private, mode=0o600))
        if tls is None:
            for place in self._settings.listen:
                if isinstance(place, Address) and not place.loopback:
                    log.warning(
                        "listening on %s without TLS: everybody who reaches it may submit, take and end jobs", place
                    )
        return listeners

    def _context(self, *, client_certificates: bool = True) -> ssl.SSLContext | None:
        if self._settings.tls is None:
            return None
        self._contexts.append(server_context(self._settings.tls, client_certificates=client_certificates))
        return self._contexts[-1]

    def reload(self, settings: QueueConfig) -> None:
        """Take up renewed certificates and changed policies. Raises ConfigError: then all stays as it was."""
        if settings.tls is not None and self._settings.tls is not None:
            load_certificate(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), settings.tls)  # a bad pair raises
            for context in self._contexts:
                load_certificate(context, settings.tls)
        if self._server is not None and settings.functions != self._settings.functions:
            self._server.queue.now = time.monotonic()
            self._server.queue.control.set_policies(policies(settings))
            self._server.changed()
        self._settings = settings
        log.info("certificates and policies are taken up")

    async def observe(self, stop: asyncio.Event) -> None:
        """Refresh the gauges until stopped."""
        assert self._server is not None
        while not stop.is_set():
            began = time.monotonic()
            await self._metrics.refresh(self._server)
            # With very many functions it takes a while, which must stay a small part of the loop's time.
            pause = max(GAUGE_INTERVAL, GAUGE_SHARE * (time.monotonic() - began))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    async def stop(self, drain: float = 0.0, now: asyncio.Event | None = None) -> None:
        """Let running jobs go on for up to `drain` seconds, or until `now` is set; then close everything."""
        if self._gateway is not None:
            self._gateway.close()
        if self._admin is not None:
            await self._admin.stop()
        if self._server is not None:
            await self._drain(self._server, drain, now or asyncio.Event())
            await self._server.stop()
        if self._gateway is not None:
            await self._gateway.stop()

    async def _drain(self, server: JobServer, seconds: float, now: asyncio.Event) -> None:
        for listener in self._listening:
            listener.close()
        if running := server.queue.running:
            log.info("stopping: %d running jobs have %g s to end", running, seconds)
        tasks = [asyncio.create_task(server.drain(seconds)), asyncio.create_task(now.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def policies(settings: QueueConfig) -> Policies:
    """What queue.functions and queue.lane_timeout say."""
    return Policies(
        by_pattern=[(pattern, Policy(**dict(found))) for pattern, found in settings.functions.items()],
        lane=replace(LANE, timeout=settings.lane_timeout),
    )
