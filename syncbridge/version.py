"""The version of a change: a fixed-width string whose text order is the order of changes (DESIGN P2).

Shape: 40 lower-case hex digits = epoch (8) · binlog file number (8) · transaction position (16) · row ordinal (8).
Pure values: no clock, no IO. Lua compares the very same text in `sinks/apply.lua`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

#: Characters of a formatted version.
WIDTH = 40

#: Sorts before every version that a real change can have.
ZERO = "0" * WIDTH


class Version(NamedTuple):
    """The parts of a version, in sort order.

    epoch: rises when positions stop being comparable (another primary, RESET, lost state); 0..2^32-1
    file: binlog file number, the digits of `mysql-bin.000042`; 0..2^32-1
    pos: 64-bit position of the transaction's first event in that file
    row: ordinal of the row inside its transaction; 0..2^32-1
    """

    epoch: int
    file: int
    pos: int
    row: int

    def __str__(self) -> str:
        return f"{self.epoch:08x}{self.file:08x}{self.pos:016x}{self.row:08x}"


def transaction_prefix(epoch: int, file: int, pos: int) -> str:
    """The first 32 characters, equal for all rows of one transaction: the hot path appends `f"{row:08x}"`."""
    return f"{_file_prefix(epoch, file)}{pos:016x}"


@lru_cache(64)
def _file_prefix(epoch: int, file: int) -> str:
    return f"{epoch:08x}{file:08x}"


def parse(text: str) -> Version:
    """The parts of a formatted version. Raises ValueError on anything that `str(Version)` would not print."""
    if len(text) != WIDTH or text != text.lower():
        raise ValueError(f"not a version: {text!r}")
    version = Version(int(text[:8], 16), int(text[8:16], 16), int(text[16:32], 16), int(text[32:], 16))
    if str(version) != text:
        raise ValueError(f"not a version: {text!r}")
    return version
