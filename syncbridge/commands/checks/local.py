"""What `check` thinks of this host: state database, queue store, listening addresses. Looks, changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from syncbridge.commands.checks.finding import Finding, error, ok, warning
from syncbridge.config import Address, Config, QueueConfig, SocketPath
from syncbridge.dispatch.listeners import client_context, server_context
from syncbridge.dispatch.target import Target
from syncbridge.errors import SyncbridgeError
from syncbridge.state import State


def judge_host(config: Config) -> Iterator[Finding]:
    if config.queue.store_path is not None:
        yield from _file("queue-store", "queue.store", config.queue.store_path)
    if config.state.startswith("sqlite:///"):
        yield from _file("state", "state", Path(config.state.removeprefix("sqlite:///")))
    if not config.state.startswith("sqlite:///") or Path(config.state.removeprefix("sqlite:///")).exists():
        yield from _state(config)
    yield from _queue_listeners(config.queue)
    if config.http.listen is not None:
        address = config.http.listen
        yield from _exposed("http-listen", "http.listen", address)
        target = Target(address.reachable.host, address.port)
        question, answer = b"GET /healthz HTTP/1.0\r\n\r\n", b"\r\n\r\nok\n"
        yield from _listener("http-listen", "http.listen", address, target, question, answer)


def _queue_listeners(queue: QueueConfig) -> Iterator[Finding]:
    try:
        tls = client_context(queue.tls) if queue.tls is not None else None
        if queue.tls is not None:
            server_context(queue.tls)
    except SyncbridgeError as failure:
        yield error("queue-tls", str(failure), failure.hint)
        return
    for place in queue.listen:
        if isinstance(place, SocketPath):
            target = Target("", 0, place.path)
        else:
            target = Target(place.reachable.host, place.port, tls=tls)
            if tls is None:
                yield from _exposed("queue-listen", "queue.listen", place)
        yield from _listener("queue-listen", "queue.listen", place, target, b"queue id\n", b"OK ")
    for name, address, answer in (
        ("http", queue.http.listen, b"Server: syncbridge/"),
        ("admin", queue.admin.listen, b"a token is needed"),
    ):
        if address is not None:
            target = Target(address.reachable.host, address.port, tls=tls)
            question = b"GET / HTTP/1.0\r\n\r\n"
            yield from _listener(f"queue-{name}-listen", f"queue.{name}.listen", address, target, question, answer)


def _file(code: str, path: str, file: Path) -> Iterator[Finding]:
    """Whether a database file can be written, or made; it is not made here."""
    if file.is_dir():
        yield error(code, f"{path}: {file} is a folder", f"name a file: {path}: sqlite:///{file}/{code}.db")
        return
    nearest = file if file.exists() else file.parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    wanted = os.W_OK | (os.X_OK if nearest.is_dir() else os.R_OK)
    if (nearest.is_dir() or nearest == file) and os.access(nearest, wanted):
        yield ok(code, f"{path}: {file} can be written")
    else:
        yield error(
            code,
            f"{path}: {file} cannot be written by this user",
            f"install -d -o $(id -un) -m 700 {file.parent}  (as root), or set {path} to another path",
        )


def _state(config: Config) -> Iterator[Finding]:
    try:
        State.open(config.state, config.name).close()
    except SyncbridgeError as failure:
        yield error("state", str(failure), failure.hint)
    else:
        yield ok("state", "the state database answers")


def _exposed(code: str, path: str, address: Address) -> Iterator[Finding]:
    if not address.loopback:
        yield warning(
            code,
            f"{path} is {address}: everybody who reaches it may use it, there is no password",
            f"{path}: 127.0.0.1:{address.port}  or a firewall around it",
        )


def _listener(
    code: str, path: str, place: Address | SocketPath, target: Target, question: bytes, answer: bytes
) -> Iterator[Finding]:
    """Free, or ours already."""
    try:
        with target.connect(2.0) as connection:
            connection.settimeout(2.0)
            connection.sendall(question)
            heard = b""
            while answer not in heard and len(heard) < 4096 and (more := connection.recv(4096)):
                heard += more
            ours = answer in heard
    except (ConnectionRefusedError, FileNotFoundError):
        yield ok(code, f"{path}: {place} is free")
        return
    except OSError:
        ours = False
    if ours:
        yield ok(code, f"{path}: a syncbridge listens on {place} already")
    else:
        who = f"what `ss -ltnp 'sport = :{place.port}'` shows" if isinstance(place, Address) else "what listens there"
        yield error(
            code,
            f"{path}: something that is not syncbridge listens on {place}",
            f"set {path} to a free {'port' if isinstance(place, Address) else 'path'}, or stop {who}",
        )
