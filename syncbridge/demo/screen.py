"""What the demo shows: a live screen on a terminal, a few plain lines elsewhere. It only draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from syncbridge.demo.mirror import BY_TABLE, Stored, TwoSides
from syncbridge.demo.pipeline import Figures

#: Columns of the widest table.
MOST_COLUMNS = 6


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the demo."""

    elapsed: float
    changes: int
    transactions: int
    #: Table -> (rows to be mirrored, keys).
    counts: dict[str, tuple[int, int]]
    figures: Figures
    latest: TwoSides


def draw(view: View, where: str) -> Group:
    """The live screen. `where`: what to tell about the servers."""
    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("table", "key in Redis", "type"):
        rows.add_column(heading)
    for heading in ("rows in MariaDB", "keys in Redis"):
        rows.add_column(heading, justify="right")
    for table, (mysql, redis) in view.counts.items():
        mirrored = BY_TABLE[table]
        name = f"{table} where {mirrored.where}" if mirrored.where else table
        rows.add_row(
            Text(name),
            Text(mirrored.key),
            mirrored.type + (f", ttl {mirrored.ttl}" if mirrored.ttl else ""),
            f"{mysql:,}",
            Text(f"{redis:,}", style="green" if mysql == redis else "yellow"),
        )
    sides = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    sides.add_column(Text(view.latest.select), ratio=1, overflow="fold")
    sides.add_column(Text(view.latest.command), ratio=1, overflow="fold")
    # A fixed height: the screen shall not jump.
    sides.add_row(Text(_block(view.latest.row)), Text(_block(view.latest.held)))
    return Group(
        Text(where, style="dim"),
        Text(_facts(view), style="bold"),
        rows,
        Text(f"the row changed last: {view.latest.verdict}", style="dim"),
        sides,
        Text("Ctrl-C stops the changes, lets Redis catch up and compares every row.", style="dim"),
    )


def lines(view: View) -> list[str]:
    """The same in few words."""
    tables = ", ".join(f"{table} {mysql}/{redis}" for table, (mysql, redis) in view.counts.items())
    latest = view.latest
    return [
        f"{view.elapsed:6.1f} s  {_facts(view)}",
        f"          rows/keys: {tables}",
        f"          {latest.select}: {_line(latest.row)}",
        f"          {latest.command}: {_line(latest.held)} ({latest.verdict})",
    ]


def _facts(view: View) -> str:
    figures = view.figures
    lag = "unknown" if figures.lag is None else f"{figures.lag:.3f} s"
    return (
        f"{view.changes:,} rows changed in {view.transactions:,} transactions; lag {lag},"
        f" {figures.applied:,} events applied, {figures.queued:,} jobs queued, {figures.retries:,} retries,"
        f" {figures.dead_letters:,} dead letters"
    )


def _fields(value: Stored) -> dict[str, str] | str:
    if value is None:
        return "(nothing)"
    if isinstance(value, Mapping):
        return {name: _cell(cell) for name, cell in value.items()}
    return _cell(value)


def _cell(value: object) -> str:
    """One value in printable characters."""
    if value is None:
        return "NULL"
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _block(value: Stored) -> str:
    fields = _fields(value)
    rows = [fields] if isinstance(fields, str) else [f"{name:<13} {fields[name]}" for name in sorted(fields)]
    return "\n".join(rows + [""] * (MOST_COLUMNS - len(rows)))


def _line(value: Stored) -> str:
    fields = _fields(value)
    text = fields if isinstance(fields, str) else " ".join(f"{name}={fields[name]}" for name in sorted(fields))
    return text if len(text) <= 160 else text[:159] + "…"
