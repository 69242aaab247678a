"""Text commands: what people and monitors type at the server's port. Pure: a line in, bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from syncbridge import __version__

if TYPE_CHECKING:
    from syncbridge.dispatch.session import Session

_MAX_WORDS = 5


def answer_text(session: Session, line: bytes) -> bytes | None:
    """The answer to one text command; empty for an empty line, None to close the connection."""
    words = line.split()
    if not words:
        return b""
    if len(words) > _MAX_WORDS:
        return None
    command = _COMMANDS.get(words[0].lower())
    if command is None:
        return b"ERR UNKNOWN_COMMAND Unknown+server+command" + words[0] + b"\r\n"
    return command(session, words[1:])


def _status(session: Session, words: list[bytes]) -> bytes:
    """`function TAB total TAB running TAB workers` each, then `.`."""
    functions = session.queue.functions.items()
    lines = [b"%b\t%d\t%d\t%d\n" % (name, f.total, len(f.running), len(f.workers)) for name, f in functions]
    return b"".join(lines) + b".\n"


def _workers(session: Session, words: list[bytes]) -> bytes:
    """`fd ip id : functions` for every connection, then `.`."""
    lines = []
    for other in session.sessions:
        functions = b" ".join(f.name for f in other.worker.functions) if other.worker else b""
        lines.append(b"%d %b %b : %b\n" % (other.number, other.address.encode(), other.client_id, functions))
    return b"".join(lines) + b".\n"


def _version(session: Session, words: list[bytes]) -> bytes:
    return b"OK " + __version__.encode() + b"\n"


def _queue(session: Session, words: list[bytes]) -> bytes:
    """Ours: `queue id` names the store; `queue pending PREFIX` counts jobs queued or running in such functions."""
    match [words[0].lower(), *words[1:]] if words else []:
        case [b"id"]:
            return b"OK " + session.queue.queue_id.encode() + b"\n"
        case [b"pending", prefix]:
            return b"OK %d\n" % session.queue.pending(prefix)
    return b"ERR INVALID_ARGUMENTS queue+id+or+queue+pending+PREFIX\r\n"


_COMMANDS: dict[bytes, Callable[[Session, list[bytes]], bytes]] = {
    b"status": _status,
    b"workers": _workers,
    b"version": _version,
    b"queue": _queue,
}
