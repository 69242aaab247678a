"""Where a job server is reached: TCP, TCP under TLS, or a Unix socket. For our own clients, blocking and asyncio."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from syncbridge.config import Address, Config, SocketPath
from syncbridge.dispatch.listeners import client_context
from syncbridge.errors import TransientError

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Target(NamedTuple):
    """One way to one server. `path` names a Unix socket, then host and port mean nothing."""

    host: str
    port: int
    path: str = ""
    tls: ssl.SSLContext | None = None

    def connect(self, timeout: float) -> socket.socket:
        """A connected socket, handshake done, that still has this time-out. Raises OSError."""
        if self.path:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(timeout)
            try:
                connection.connect(self.path)
            except OSError:
                connection.close()
                raise
            return connection
        connection = socket.create_connection((self.host, self.port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.tls is None:
            return connection
        try:
            return self.tls.wrap_socket(connection, server_hostname=self.host)
        except OSError:  # ssl.SSLError is one
            connection.close()
            raise

    async def open(self, factory: Callable[[], P]) -> P:
        """A protocol of this factory, connected. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self.path:
            _, protocol = await loop.create_unix_connection(factory, self.path)
        else:
            _, protocol = await loop.create_connection(factory, self.host, self.port, ssl=self.tls)
        return protocol

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"


async def open_first(targets: Sequence[Target], factory: Callable[[], P], patience: float) -> tuple[Target, P]:
    """Connect to the first that answers within `patience` seconds (each). Raises TransientError, caused by the last
    failure, when none does."""
    failure: OSError | None = None
    for target in targets:
        try:
            async with asyncio.timeout(patience):
                return target, await target.open(factory)
        except TimeoutError:
            failure = TimeoutError(f"no answer within {patience:g} s")
        except OSError as error:
            failure = error
    raise unreachable(targets, failure) from failure


def unreachable(targets: Iterable[object], failure: Exception | None) -> TransientError:
    listed = ", ".join(map(str, targets))
    return TransientError(
        f"job server {listed} cannot be reached: {failure}",
        hint="is `syncbridge server` running, and its address right?",
    )


def private_socket(config: Config) -> SocketPath | None:
    """The Unix socket by which stages of this pipeline on this host reach a server that otherwise speaks TLS only."""
    if config.queue.tls is None or any(isinstance(listen, SocketPath) for listen in config.queue.listen):
        return None
    return SocketPath.parse(f"unix:{config.folder / f'queue-{config.name}.sock'}")


def own_targets(config: Config) -> list[Target]:
    """How the pipeline's stages reach its job server: Unix sockets first, they exist where the server is. Raises
    ConfigError."""
    queue = config.queue
    private = private_socket(config)
    places = [*queue.listen, *([private] if private is not None else [])]
    tls = client_context(queue.tls) if queue.tls is not None else None
    paths = [Target("", 0, place.path) for place in places if isinstance(place, SocketPath)]
    addresses = [place.reachable for place in places if isinstance(place, Address)]
    return paths + [Target(address.host, address.port, tls=tls) for address in addresses]
