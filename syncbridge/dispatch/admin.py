"""Text commands: what people and monitors type at the server's port. Pure: a line in, bytes out.

Replies are those of gearmand, byte for byte: lists and facts end with LF, confirmations and errors with CRLF.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from syncbridge import __version__
from syncbridge.errors import ProtocolError

if TYPE_CHECKING:
    from syncbridge.dispatch.session import Session

_MAX_WORDS = 5
_END = b".\n"


def answer_text(session: Session, line: bytes, now: float) -> bytes:
    """The answer to one text command, its line end removed. Raises ProtocolError when it has too many words."""
    words = line.split()
    if len(words) > _MAX_WORDS:
        raise ProtocolError(f"text command of {len(words)} words, {_MAX_WORDS} are the most")
    if not words or line[:1].isspace():
        words = [b""]
    command = _COMMANDS.get(words[0].lower(), _unknown)
    return command(session, words, now)


def _unknown(session: Session, words: list[bytes], now: float) -> bytes:
    return b"ERR UNKNOWN_COMMAND Unknown+server+command" + words[0] + b"\r\n"


def _status(session: Session, words: list[bytes], now: float) -> bytes:
    """`function TAB total TAB running TAB workers` each; total includes running."""
    functions = session.queue.functions.items()
    lines = [b"%b\t%d\t%d\t%d\n" % (name, f.total, len(f.running), len(f.workers)) for name, f in functions]
    return b"".join(lines) + _END


def _priority_status(session: Session, words: list[bytes], now: float) -> bytes:
    """`function TAB high TAB normal TAB low TAB workers` each; queued jobs only."""
    lines = []
    for name, function in session.queue.functions.items():
        high, normal, low = (line.count for line in function.lines)
        lines.append(b"%b\t%d\t%d\t%d\t%d\n" % (name, high, normal, low, len(function.workers)))
    return b"".join(lines) + _END


def _workers(session: Session, words: list[bytes], now: float) -> bytes:
    """`fd address id : function function …` for every connection, the function announced last first."""
    lines = []
    for other in session.sessions:
        functions = b"".join(b" " + f.name for f in reversed(other.worker.functions)) if other.worker else b""
        lines.append(b"%d %b %b :%b\n" % (other.number, other.address.encode(), other.client_id, functions))
    return b"".join(lines) + _END


def _version(session: Session, words: list[bytes], now: float) -> bytes:
    return b"OK " + __version__.encode() + b"\n"


def _verbose(session: Session, words: list[bytes], now: float) -> bytes:
    return b"OK INFO\n"


def _getpid(session: Session, words: list[bytes], now: float) -> bytes:
    return b"OK %d\n" % os.getpid()


def _queue(session: Session, words: list[bytes], now: float) -> bytes:
    """Ours: `queue id` names the store; `queue pending PREFIX` counts jobs queued or running in such functions."""
    match [word.lower() for word in words[1:2]] + words[2:]:
        case [b"id"]:
            return b"OK " + session.queue.queue_id.encode() + b"\n"
        case [b"pending", prefix]:
            return b"OK %d\n" % session.queue.pending(prefix)
    return b"ERR INVALID_ARGUMENTS queue+id+or+queue+pending+PREFIX\r\n"


_COMMANDS: dict[bytes, Callable[[Session, list[bytes], float], bytes]] = {
    b"status": _status,
    b"prioritystatus": _priority_status,
    b"workers": _workers,
    b"version": _version,
    b"verbose": _verbose,
    b"getpid": _getpid,
    b"queue": _queue,
}
