"""`dead-letter list|show|retry|discard|export`: rows that nothing tries again until somebody says so (DESIGN P5)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import orjson
import typer

from syncbridge.commands.options import DEFAULT_CONFIG, AsJson, ConfigPath, PlaceName, open_state, split_table
from syncbridge.commands.output import count, moment, say, say_json, say_table
from syncbridge.config import load_config
from syncbridge.errors import ConfigError
from syncbridge.state import FailedRow, State

Ids = Annotated[list[int] | None, typer.Argument(help="Ids that `dead-letter list` shows.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter (of --table, where given).")]

#: Rows read and moved in one transaction.
PAGE = 500

group = typer.Typer(no_args_is_help=True, help="Rows that failed for good: look at them, retry or discard them.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="dead-letter")


@group.command("list")
def list_rows(
    config: ConfigPath = DEFAULT_CONFIG,
    table: PlaceName = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    json: AsJson = False,
) -> None:
    """List dead letters, oldest first."""
    state = open_state(load_config(config))
    table = _checked(table)
    rows = state.dead_letters.list(limit=limit, table=table)
    total = state.dead_letters.count()
    state.close()
    if json:
        say_json({"total": total, "rows": [describe(row) for row in rows]})
    elif not rows:
        say("no dead letters" if table is None else f"no dead letters of {table}")
    else:
        say_table(
            ("id", "table", "key", "attempts", "last failure", "error"),
            (
                (
                    row.id,
                    row.place,
                    _key_text(row),
                    row.attempts,
                    moment(row.last_failed_at),
                    f"{row.error_class}: {row.message}",
                )
                for row in rows
            ),
        )
        if len(rows) == limit < total:
            say(f"{count(total, 'dead letter')} in all; see more with --limit")


@group.command()
def show(
    row_id: Annotated[int, typer.Argument(metavar="ID")], config: ConfigPath = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show one dead letter with its event."""
    state = open_state(load_config(config))
    row = state.dead_letters.get(row_id)
    state.close()
    if row is None:
        raise ConfigError(f"there is no dead letter {row_id}", hint="syncbridge dead-letter list shows the ids")
    described = describe(row)
    if json:
        say_json(described)
        return
    payload = described.pop("payload")
    say_table(("field", "value"), described.items())
    say()
    say(payload if isinstance(payload, str) else orjson.dumps(payload, option=orjson.OPT_INDENT_2).decode())


@group.command()
def retry(
    ids: Ids = None,
    every: All = False,
    table: PlaceName = None,
    config: ConfigPath = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Move dead letters back to the retry table. Rows of tables are read again, so a newer change is never undone; an
    object of a function goes to Redis as it came: discard it where a newer one has come since."""
    state = open_state(load_config(config))
    moved = sum(state.dead_letters.retry(*page) for page in _chosen(state, ids, every, table))
    _report(state, ids, moved, "moved to the retry table", json=json)


@group.command()
def discard(
    ids: Ids = None,
    every: All = False,
    table: PlaceName = None,
    config: ConfigPath = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Delete dead letters. What Redis shows stays as it is; `verify --repair` mends it."""
    state = open_state(load_config(config))
    gone = sum(state.dead_letters.discard(*page) for page in _chosen(state, ids, every, table))
    _report(state, ids, gone, "discarded", json=json)


@group.command()
def export(
    ids: Ids = None,
    table: PlaceName = None,
    config: ConfigPath = DEFAULT_CONFIG,
    output: Annotated[
        typer.FileBinaryWrite | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")
    ] = None,
) -> None:
    """Write dead letters as JSON lines, payloads included."""
    state = open_state(load_config(config))
    out: Any = output or sys.stdout.buffer
    for page in _chosen(state, ids, ids is None or not ids, table):
        for row_id in page:
            if (row := state.dead_letters.get(row_id)) is not None:
                out.write(orjson.dumps(describe(row)) + b"\n")
    out.flush()
    state.close()


def describe(row: FailedRow) -> dict[str, Any]:
    """A dead letter for JSON: times as UTC text, the event nested (as text when it is no JSON)."""
    try:
        payload: Any = orjson.loads(row.payload)
    except orjson.JSONDecodeError:
        payload = row.payload.decode("utf-8", "backslashreplace")
    return {
        "id": row.id,
        "table": row.place,
        "mapping": row.mapping,
        "key": row.key,
        "version": row.version,
        "error": row.error_class,
        "message": row.message,
        "attempts": row.attempts,
        "first_failed": moment(row.first_failed_at),
        "last_failed": moment(row.last_failed_at),
        "payload": payload,
    }


def _chosen(state: State, ids: list[int] | None, every: bool, table: str | None) -> Iterator[list[int]]:
    """The ids to work on, in pages: those named, or all (of a table)."""
    if bool(ids) == every:
        raise ConfigError("name ids or write --all", hint="syncbridge dead-letter list shows the ids")
    if ids:
        if table is not None:
            raise ConfigError("--table goes with --all", hint="leave --table out, or the ids")
        yield ids
        return
    name, after = _checked(table), 0
    while page := state.dead_letters.list(limit=PAGE, after_id=after, table=name):
        after = page[-1].id
        yield [row.id for row in page]


def _report(state: State, ids: list[int] | None, done: int, what: str, *, json: bool) -> None:
    left = state.dead_letters.count()
    state.close()
    if json:
        say_json({"done": done, "left": left})
    else:
        say(f"{count(done, 'dead letter')} {what}, {left} left")
    if ids and done < len(set(ids)):
        raise ConfigError(
            f"{count(len(set(ids)) - done, 'id')} not found", hint="syncbridge dead-letter list shows the ids"
        )


def _checked(table: str | None) -> str | None:
    if table is None or not table.startswith("function:"):
        return None if table is None else ".".join(split_table(table))
    return "." + table.removeprefix("function:")


def _key_text(row: FailedRow) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.key.items())
