"""What `check` thinks of this host: state database, queue store, listening addresses. Looks, changes nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from syncbridge.commands.checks.finding import Finding, error, ok, warning
from syncbridge.config import Address, Config
from syncbridge.errors import SyncbridgeError
from syncbridge.state import State


def judge_host(config: Config) -> Iterator[Finding]:
    yield from _file("queue-store", "queue.store", config.queue.store_path)
    if config.state.startswith("sqlite:///"):
        yield from _file("state", "state", Path(config.state.removeprefix("sqlite:///")))
    if not config.state.startswith("sqlite:///") or Path(config.state.removeprefix("sqlite:///")).exists():
        yield from _state(config)
    yield from _listener("queue-listen", "queue.listen", config.queue.listen, b"queue id\n", b"OK ")
    if config.http.listen is not None:
        yield from _listener(
            "http-listen", "http.listen", config.http.listen, b"GET /healthz HTTP/1.0\r\n\r\n", b"\r\n\r\nok\n"
        )


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


def _listener(code: str, path: str, address: Address, question: bytes, answer: bytes) -> Iterator[Finding]:
    """Free, or ours already."""
    if not address.loopback:
        yield warning(
            code,
            f"{path} is {address}: everybody who reaches it may use it, there is no password",
            f"{path}: 127.0.0.1:{address.port}  or a firewall around it",
        )
    host = "127.0.0.1" if address.host in ("0.0.0.0", "::") else address.host  # noqa: S104 - a comparison
    try:
        with socket.create_connection((host, address.port), 2.0) as connection:
            connection.settimeout(2.0)
            connection.sendall(question)
            heard = b""
            while answer not in heard and len(heard) < 4096 and (more := connection.recv(4096)):
                heard += more
            ours = answer in heard
    except ConnectionRefusedError:
        yield ok(code, f"{path}: {address} is free")
        return
    except OSError:
        ours = False
    if ours:
        yield ok(code, f"{path}: a syncbridge listens on {address} already")
    else:
        yield error(
            code,
            f"{path}: something that is not syncbridge listens on {address}",
            f"set {path} to a free port, or stop what `ss -ltnp 'sport = :{address.port}'` shows",
        )
