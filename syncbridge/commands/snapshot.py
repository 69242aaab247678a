"""`snapshot`: ask capture to read tables again while changes keep flowing, and watch it (DESIGN P3).

It files a request in the state database; capture picks it up within a second, now or when it is started.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from syncbridge.commands.options import DEFAULT_CONFIG, AsJson, ConfigPath, TableName, mapped_table, open_state
from syncbridge.commands.output import console, say, say_json
from syncbridge.config import load_config
from syncbridge.errors import ConfigError, TransientError
from syncbridge.state import SnapshotRow, State
from syncbridge.state.requests import SNAPSHOT
from syncbridge.state.snapshots import DONE

#: Pause between two looks at the state database, seconds.
LOOK = 0.3


def register(app: typer.Typer) -> None:
    app.command()(snapshot)


def snapshot(
    config: ConfigPath = DEFAULT_CONFIG,
    table: TableName = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until it is done.")] = False,
    timeout: Annotated[float, typer.Option(help="With --wait: give up after so many seconds; 0: never.")] = 0.0,
    json: AsJson = False,
) -> None:
    """(Re)load mapped tables into Redis while changes keep flowing; keys without a row go when a table is done."""
    loaded = load_config(config)
    if not loaded.source.named:
        raise ConfigError("there is nothing to read: sync.yaml maps functions only", hint="add source.url and tables")
    db, name = ("", "") if table is None else mapped_table(loaded, table)
    state = open_state(loaded)
    before = {(row.db, row.table): row.started_at for row in state.snapshots.all()}
    state.requests.file(SNAPSHOT, db, name, {"reason": "by hand"})
    if not wait:
        state.close()
        what = table or "every mapped table"
        if json:
            say_json({"requested": table or "all"})
        else:
            say(f"snapshot of {what} requested; a running capture starts it within seconds (see syncbridge status)")
        return
    rows = _wait(state, db, name, before, timeout, quiet=json)
    state.close()
    if not rows:
        raise ConfigError("the source has no such table", hint="syncbridge check tells which mapped tables are missing")
    if json:
        say_json({"done": [describe(row) for row in rows]})
    else:
        for row in rows:
            say(f"{row.db}.{row.table}: {row.rows_done} rows in {row.finished_at - row.started_at:.1f} s")


def describe(row: SnapshotRow) -> dict[str, object]:
    """Progress of one table, for JSON."""
    return {
        "table": f"{row.db}.{row.table}",
        "status": row.status,
        "reason": row.reason,
        "rows_done": row.rows_done,
        "rows_estimate": row.rows_estimate,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def _wait(
    state: State, db: str, name: str, before: dict[tuple[str, str], float], timeout: float, *, quiet: bool
) -> list[SnapshotRow]:
    """Poll until the request is taken and every table it means is done; shows bars on a terminal.

    `before`: when each table's previous snapshot was started, by the clock of capture's host.
    """
    deadline = time.monotonic() + timeout if timeout else float("inf")
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} rows"),
        TimeRemainingColumn(),
        console=console(),
        disable=quiet or not sys.stdout.isatty(),
    )
    tasks: dict[str, TaskID] = {}
    with bars:
        while True:
            asked = _asked(state, db, name)  # before the rows: capture notes them first, and then the request as taken
            rows = [row for row in state.snapshots.all() if not db or (row.db, row.table) == (db, name)]
            rows = [row for row in rows if row.started_at != before.get((row.db, row.table))]
            for row in rows:
                label = f"{row.db}.{row.table}"
                if label not in tasks:
                    tasks[label] = bars.add_task(label, total=None)
                total = row.rows_done if row.status == DONE else max(row.rows_estimate, row.rows_done) or None
                bars.update(tasks[label], completed=row.rows_done, total=total)
            if not asked and all(row.status == DONE for row in rows):
                return rows
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the snapshot was not done within {timeout:g} s",
                    hint="it goes on: see syncbridge status; is syncbridge run (or capture) running?",
                )
            time.sleep(LOOK)


def _asked(state: State, db: str, name: str) -> bool:
    """Whether capture has yet to take the request."""
    return any((request.db, request.table) == (db, name) for request in state.requests.pending(SNAPSHOT))
