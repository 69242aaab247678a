"""Where the job server listens: TCP, TCP under TLS, Unix sockets. What is said there is not its affair.

A TLS listener never speaks plain text: what is no handshake is closed without an answer, and so is what does not
finish its handshake in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from syncbridge.config import Address, SocketPath, TlsConfig
from syncbridge.errors import ConfigError, SyncbridgeError, TransientError

BACKLOG = 1024
#: Who has not finished the TLS handshake by then is closed, seconds.
HANDSHAKE_TIMEOUT = 5.0
#: Permissions of a Unix socket: its owner and group.
SOCKET_MODE = 0o660

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Listener(Protocol):
    """One place to listen on. open() raises ConfigError or TransientError; close() stops accepting and may be
    called twice."""

    async def open(self, factory: ProtocolFactory) -> None: ...

    def close(self) -> None: ...


class TcpListener:
    """host:port (port 0: any free one, see `address` once it is open), under TLS where a context is given."""

    def __init__(self, address: Address, *, tls: ssl.SSLContext | None = None, setting: str = "queue.listen") -> None:
        self.address = address
        self._tls = tls
        self._setting = setting
        self._server: asyncio.Server | None = None

    async def open(self, factory: ProtocolFactory) -> None:
        loop = asyncio.get_running_loop()
        timeout = None if self._tls is None else HANDSHAKE_TIMEOUT
        try:
            self._server = await loop.create_server(
                factory,
                self.address.host,
                self.address.port,
                backlog=BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=timeout,
            )
        except OSError as error:
            raise listen_error(self.address, self._setting, error) from error
        self.address = Address(self.address.host, self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def __str__(self) -> str:
        return f"{self.address}{' (TLS)' if self._tls else ''}"


class UnixListener:
    """A socket file for owner and group. One that a killed server left behind is replaced, a living one never is."""

    def __init__(self, path: SocketPath, *, mode: int = SOCKET_MODE, setting: str = "queue.listen") -> None:
        self._path = path
        self._mode = mode
        self._setting = setting
        self._server: asyncio.Server | None = None
        self._made: tuple[int, int] | None = None

    async def open(self, factory: ProtocolFactory) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._bind(connection)
            # Nobody can connect before it listens, so nobody meets it with other permissions.
            os.chmod(self._path.path, self._mode)
            self._made = _identity(self._path.path)
            self._server = await asyncio.get_running_loop().create_unix_server(
                factory, sock=connection, backlog=BACKLOG
            )
        except OSError as error:
            connection.close()
            raise listen_error(self._path, self._setting, error) from error
        except SyncbridgeError:
            connection.close()
            raise

    def _bind(self, connection: socket.socket) -> None:
        path = self._path.path
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise ConfigError(
                    f"{self._setting}: {path} is there and no socket", hint="choose a path that does not exist"
                )
            if _answers(path):
                raise OSError(errno.EADDRINUSE, "in use")
            os.unlink(path)
        connection.bind(path)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(OSError):
            if self._made is not None and _identity(self._path.path) == self._made:
                os.unlink(self._path.path)
        self._made = None

    def __str__(self) -> str:
        return str(self._path)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _answers(path: str) -> bool:
    """Whether somebody listens on this socket file."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # busy, or not ours to know: leave it alone
    return True


def open_listener(address: Address | SocketPath, tls: ssl.SSLContext | None) -> TcpListener | UnixListener:
    """The listener for an entry of `queue.listen`, not open yet. TLS is for TCP: a socket file has permissions."""
    return UnixListener(address) if isinstance(address, SocketPath) else TcpListener(address, tls=tls)


def server_context(settings: TlsConfig, *, client_certificates: bool = True) -> ssl.SSLContext:
    """TLS as the server speaks it. Raises ConfigError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, settings)
    if settings.client_ca is not None and client_certificates:
        load_authority(context, settings.client_ca, "queue.tls.client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: TlsConfig) -> ssl.SSLContext:
    """TLS as the pipeline's own stages speak it to the server, which shows the certificate of these settings. Raises
    ConfigError."""
    context = ssl.create_default_context()
    authority = settings.ca or settings.client_ca
    if authority is not None:
        load_authority(context, authority, "queue.tls.ca")
    load_certificate(context, settings)
    return context


def load_certificate(context: ssl.SSLContext, settings: TlsConfig) -> None:
    """(Re)read certificate and key. Raises ConfigError."""
    for name, path in (("cert", settings.cert), ("key", settings.key)):
        _readable(path, f"queue.tls.{name}")
    try:
        context.load_cert_chain(settings.cert, settings.key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"queue.tls: {settings.cert} and {settings.key} are no pair of certificate and key: {_reason(error)}",
            hint="both are PEM files, the key without a passphrase; the certificate's own comes first in its file",
        ) from None


def load_authority(context: ssl.SSLContext, path: Path, setting: str) -> None:
    _readable(path, setting)
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{setting}: {path} holds no certificate: {_reason(error)}", hint="name a PEM file of the authority"
        ) from None


def _readable(path: Path, setting: str) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(
            f"{setting}: cannot read {path}: {error.strerror}", hint="check its path and permissions"
        ) from None


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", "") or str(error)).replace("_", " ").lower()


def listen_error(address: Address | SocketPath, setting: str, error: OSError) -> SyncbridgeError:
    """The sentence for an address that cannot be listened on."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.EADDRINUSE:
        port = f"; `ss -ltnp sport = :{address.port}` names it" if isinstance(address, Address) else ""
        return TransientError(
            f"job server cannot listen on {address}: another process does",
            hint=f"stop it, or choose another address in {setting}{port}",
        )
    mend = "an address of this host" if isinstance(address, Address) else "a path in a folder that this user may write"
    return ConfigError(f"job server cannot listen on {address}: {reason}", hint=f"set {setting} to {mend}")
