"""What commands print: tables and sentences for people on a console, JSON for scripts. Colours only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

#: Columns assumed where output goes into a file or a pipe: nothing is cut off at 80.
PIPE_WIDTH = 200


@cache
def console() -> Console:
    """Standard output. Text is never taken for markup: it may be a user's."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(markup=False, highlight=False, emoji=False, width=width)


def say(text: str = "", style: str | None = None) -> None:
    """A sentence; never wrapped in a pipe."""
    console().print(printable(text), style=style, soft_wrap=True)


def say_json(value: Any) -> None:
    """One JSON document on standard output, indented."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=_plain).decode() + "\n")
    sys.stdout.flush()


def say_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table; long cells fold on a terminal."""
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
    console().print(table)


def printable(text: str) -> str:
    """Control characters escaped: a user's row must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def moment(seconds: float) -> str:
    """A Unix time as UTC text; empty for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
