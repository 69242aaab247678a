"""Text commands: what people and monitors type at the server's port. Pure: a line in, bytes out.

Replies are those of gearmand, byte for byte: lists and facts end with LF, confirmations and errors with CRLF.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from syncbridge import __version__
from syncbridge.dispatch.packets import MAX_FUNCTION
from syncbridge.dispatch.text import leading_number, one_line
from syncbridge.errors import ProtocolError

if TYPE_CHECKING:
    from syncbridge.dispatch.session import Session

_MAX_WORDS = 5
_END = b".\n"
_OK = b"OK\r\n"


def answer_text(session: Session, line: bytes, now: float) -> bytes:
    """The answer to one text command, its line end removed; empty: the queue core will give it.

    Raises ProtocolError when it has too many words.
    """
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


def _show(session: Session, words: list[bytes], now: float) -> bytes:
    """`show jobs`: `handle TAB retries TAB ignored TAB stored` each; `show unique jobs`: their uniques."""
    if len(words) < 2:
        return _unknown(session, words, now)
    match [word.lower() for word in words[1:]]:
        case [b"jobs", *_]:
            lines = [
                b"%b\t%d\t%d\t%d\n" % (handle, attempts, ignored, stored)
                for handle, attempts, ignored, stored, _ in session.queue.shown_jobs()
            ]
        case [b"unique", b"jobs", *_]:
            # A unique may hold anything, but it is one line.
            lines = [one_line(unique) + b"\n" for *_, unique in session.queue.shown_jobs()]
        case _:
            return b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"
    return b"".join(lines) + _END


def _cancel(session: Session, words: list[bytes], now: float) -> bytes:
    """`cancel job HANDLE`: queued or running, it is over and its clients get WORK_FAIL. Lanes refuse it."""
    if len(words) != 3 or words[1].lower() != b"job":
        return _unknown(session, words, now)
    session.expect_reply()
    session.queue.control.cancel_anywhere(session, words[2], now, done=_OK, unknown=b"ERR UNKNOWN_JOB\r\n")
    return b""


def _create(session: Session, words: list[bytes], now: float) -> bytes:
    """`create function NAME`"""
    if len(words) != 3 or words[1].lower() != b"function":
        return _incomplete(words[0])
    if len(words[2]) > MAX_FUNCTION or not session.queue.control.create(words[2]):
        return b"ERR QUEUE_ERROR the+name+is+too+long+or+there+are+too+many+functions\r\n"
    return _OK


def _drop(session: Session, words: list[bytes], now: float) -> bytes:
    """`drop function NAME`: one that has workers or jobs, running or queued, stays."""
    if len(words) != 3 or words[1].lower() != b"function":
        return _incomplete(words[0])
    match session.queue.control.drop(words[2]):
        case "ok":
            return _OK
        case "unknown":
            return b"ERR function not found\r\n"
        case _:
            return b"ERR there are still connected workers or executing clients\r\n"


def _max_queue(session: Session, words: list[bytes], now: float) -> bytes:
    """`maxqueue FUNCTION [all | high normal low]`: jobs, running ones included, from which on a submit of this priority
    is refused. Nothing, 0 or what is no number: no limit."""
    if len(words) < 2 or len(words[1]) > MAX_FUNCTION:
        return _incomplete(words[0])
    limits = [leading_number(word) for word in words[2:]]
    if len(limits) <= 1:
        limits *= 3
    high, normal, low = (*limits, 0, 0, 0)[:3]
    session.queue.control.set_max_queued(words[1], high, normal, low)
    return _OK


def _incomplete(command: bytes) -> bytes:
    return b"ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+%b\r\n" % command


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
    b"show": _show,
    b"cancel": _cancel,
    b"create": _create,
    b"drop": _drop,
    b"maxqueue": _max_queue,
    b"queue": _queue,
}
