"""Reading around the damaged pages of a queue file, so that they keep no other job back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from syncbridge.dispatch.store.sqlite_file import is_corrupt

#: Rows read at a time.
_STEP = 64

#: (first id, limit) -> rows in ascending order, each beginning with its id. Raises sqlite3.Error.
Query = Callable[[int, int], list[Any]]
#: (first id, last id, error): these are lost to sight.
Report = Callable[[int, int, sqlite3.Error], None]


def around_damage(query: Query, first: int, through: int, limit: int, report: Report) -> list[Any]:
    """Up to `limit` rows from id `first` on. Raises the error that says so where nothing more can be read."""
    rows: list[Any] = []
    step = _STEP
    while len(rows) < limit:
        some = min(step, limit - len(rows))
        found = _undamaged(query, first, some)
        if isinstance(found, list):
            rows += found
            if len(found) < some:
                break
            first = found[-1][0] + 1
        elif step > 1:
            step = 1
        else:
            readable = _past_damage(query, first, through)
            if readable is None:
                raise found
            report(first, readable - 1, found)
            first, step = readable, _STEP
    return rows


def _past_damage(query: Query, damaged: int, through: int) -> int | None:
    """The first id from which rows can be read again; None: there is none."""
    step = 1
    while not isinstance(_undamaged(query, readable := damaged + step, 1), list):
        damaged = readable
        step *= 2
        if damaged >= through:
            return None
    while readable - damaged > 1:
        middle = (damaged + readable) // 2
        if isinstance(_undamaged(query, middle, 1), list):
            readable = middle
        else:
            damaged = middle
    return readable


def _undamaged(query: Query, first: int, limit: int) -> list[Any] | sqlite3.Error:
    """Rows, or how they are damaged."""
    try:
        return query(first, limit)
    except sqlite3.Error as error:
        if is_corrupt(error):
            return error
        raise
