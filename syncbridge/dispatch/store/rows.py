"""Rows of stores without columns (Redis, memcached): a job and a result as bytes. Pure, and safe for any byte.

A job is two rows: its head, everything but the payload, which changes when the job moves; and its payload, which
never does. redis_commit.lua reads and rewrites heads too: the layout is described there as well.

    format 1 | has a join key | state | priority | due 8 | attempts 4 | submitted 8 | size 8
    function | note | unique | reducer                          each with its length in 4 bytes before it
    join key                                                    the rest
"""

from __future__ import annotations

from struct import Struct, error
from typing import Final

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import UNREADABLE, Result

#: The layout of rows and keys; a queue written with another one is refused.
FORMAT: Final = 1

_HEAD = Struct(">BBBBqIqq")
_LENGTH = Struct(">I")
_RESULT = Struct(">BqBqq")


def text(value: bytes) -> bytes:
    """A part whose length stands before it."""
    return _LENGTH.pack(len(value)) + value


def attempts_bytes(attempts: int) -> bytes:
    """As they stand in a head."""
    return _LENGTH.pack(attempts)


def pack_head(record: JobRecord) -> bytes:
    key = record.join_key
    return b"".join(
        (
            _HEAD.pack(
                FORMAT,
                key is not None,
                record.state,
                record.priority,
                record.due,
                record.attempts,
                record.submitted,
                record.size,
            ),
            text(record.function),
            text(record.note),
            text(record.unique),
            text(record.reducer),
            key or b"",
        )
    )


def unpack_head(number: int, head: bytes) -> JobRecord | None:
    """The job without its payload, or None when these bytes are no head."""
    try:
        version, joins, state, priority, due, attempts, submitted, size = _HEAD.unpack_from(head)
        parts, at = [], _HEAD.size
        for _ in range(4):
            (length,) = _LENGTH.unpack_from(head, at)
            at += _LENGTH.size + length
            if at > len(head):
                return None
            parts.append(head[at - length : at])
    except error:
        return None
    if version != FORMAT:
        return None
    function, note, unique, reducer = parts
    key = head[at:] if joins else None
    return JobRecord(
        number, function, priority, unique, key, submitted, attempts, None, size, reducer, state, due, note
    )


def unreadable(number: int, function: bytes = b"", priority: int = 1, state: int = 0) -> JobRecord:
    """What stands for a row that makes no sense."""
    return JobRecord(number, function, priority, b"", None, 0, 0, None, UNREADABLE, state=state)


def pack_result(result: Result) -> bytes:
    return b"".join(
        (
            _RESULT.pack(FORMAT, result.id, result.outcome, result.finished, result.expires),
            text(result.function),
            text(result.unique),
            text(result.numerator),
            text(result.denominator),
            result.data,
        )
    )


def unpack_result(packed: bytes) -> Result | None:
    """The result, or None when these bytes are none."""
    try:
        version, number, outcome, finished, expires = _RESULT.unpack_from(packed)
        parts, at = [], _RESULT.size
        for _ in range(4):
            (length,) = _LENGTH.unpack_from(packed, at)
            at += _LENGTH.size + length
            parts.append(packed[at - length : at])
    except error:
        return None
    if version != FORMAT:
        return None
    function, unique, numerator, denominator = parts
    return Result(number, function, unique, outcome, numerator, denominator, packed[at:], finished, expires)
