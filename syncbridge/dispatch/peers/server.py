"""Where a Gearman server is, how to talk to it in secret, and connecting to the first of several that answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from syncbridge.dispatch.target import Target, open_first
from syncbridge.errors import ConfigError, TransientError

DEFAULT_PORT: Final = 4730

P = TypeVar("P", bound=asyncio.BaseProtocol)


@dataclass(frozen=True, slots=True)
class Server:
    """host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Server:
        """`host`, `host:port`, `[ipv6]:port`, each also after `gearman://`; or `unix:/path`. Raises ConfigError."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:").removeprefix("//")
            if path.startswith("/"):
                return cls(path=path)
            raise ConfigError(f"no absolute path in the Gearman server {text!r}", hint="write unix:/path/to/socket")
        rest = text.removeprefix("gearman://").rstrip("/")
        host, colon, port = rest.rpartition(":")
        if not colon or rest.endswith("]"):
            host, port = rest, str(DEFAULT_PORT)
        elif ":" in host and not host.startswith("["):
            host, port = rest, str(DEFAULT_PORT)  # an IPv6 address without brackets
        host = host.removeprefix("[").removesuffix("]")
        if not host or "/" in host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"{text!r} is no Gearman server", hint="write host:port or unix:/path")
        return cls(host, int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS to every TCP server of a list: never plain text instead. Paths are PEM files.

    `ca`: who signed the servers' certificates (None: the system's authorities). `cert` and `key`: ours, for servers
    that ask for one. Unix sockets stay on this host and carry no TLS.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Raises ConfigError."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.check_hostname = self.check_hostname
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"TLS files for the Gearman server cannot be used: {error}", hint="name readable PEM files"
            ) from error
        return context


def parse_servers(servers: str | Server | Iterable[str | Server]) -> list[Server]:
    """A list of servers, or text with commas between them. Raises ConfigError."""
    if isinstance(servers, (str, Server)):
        servers = servers.split(",") if isinstance(servers, str) else [servers]
    parsed = [Server.parse(server.strip()) if isinstance(server, str) else server for server in servers]
    if not parsed:
        raise ConfigError("no Gearman server is named", hint="name at least one, as host:port")
    return list(dict.fromkeys(parsed))


def tls_context(tls: Tls | ssl.SSLContext | None) -> ssl.SSLContext | None:
    return tls.context() if isinstance(tls, Tls) else tls


async def connect(
    servers: Sequence[Server], protocol: Callable[[], P], *, tls: ssl.SSLContext | None = None, patience: float = 10.0
) -> tuple[Server, P]:
    """Connect to the first of `servers` that answers within `patience` seconds (each) and say which.

    Raises TransientError when none does, ConfigError when a certificate does not fit: waiting would not mend it.
    """
    targets = {Target(server.host, server.port, server.path, tls): server for server in servers}
    try:
        target, made = await open_first(list(targets), protocol, patience)
    except TransientError as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise ConfigError(
                str(error), hint="name the authority that signed it, and connect by the name it was made for"
            ) from error
        raise
    return targets[target], made
