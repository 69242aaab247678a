"""Rows of one mapping, written or removed in the same way: one operation of apply.lua for all of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

#: Operation codes, see apply.lua.
WRITE_ROWS, REMOVE_ROWS, CREATE_ROWS = "R", "r", "N"


class Run(NamedTuple):
    """Rows of hashes of one mapping, in order; apply.lua answers for each of them.

    A key may occur twice. Texts that hold a NUL are carried, only slower.
    """

    code: str
    #: The data key of each row; a str must be valid Unicode.
    keys: Sequence[bytes | str]
    #: Row by row the guard, then the values of the first fields: str, int, or None for NULL. Guards may hold surrogate
    #: escapes. Of a removal: the guards.
    texts: Sequence[Any]
    #: Without the guard's: those of `texts`, then those of `raws`.
    fields: Sequence[bytes | str] = ()
    #: Row by row the values of the other fields: bytes, or None for NULL.
    raws: Sequence[Any] = ()
    #: Fields that no row has.
    absent: Sequence[bytes | str] = ()
    #: Milliseconds to live as apply.lua wants them, for every row.
    ttl: str = "0"

    def cut(self, first: int, rows: int) -> Run:
        """So many of its rows."""
        total, end = len(self.keys), first + rows
        if rows == total:
            return self
        texts, raws = len(self.texts) // total, len(self.raws) // total
        return self._replace(
            keys=self.keys[first:end],
            texts=self.texts[first * texts : end * texts],
            raws=self.raws[first * raws : end * raws],
        )
