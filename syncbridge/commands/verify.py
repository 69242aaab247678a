"""`verify`: compare MySQL with Redis, chunk by chunk, and mend what differs."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from syncbridge.commands.checks.gather import mapped_tables
from syncbridge.commands.options import DEFAULT_CONFIG, AsJson, ConfigPath, TableName, mapped_table, open_state
from syncbridge.commands.output import console, count, say, say_json, say_table
from syncbridge.commands.verification.repair import request_repairs
from syncbridge.commands.verification.rows import RowReader
from syncbridge.commands.verification.stored import StoredReader
from syncbridge.commands.verification.verifier import Difference, TableReport, TableVerifier
from syncbridge.config import Config, load_config
from syncbridge.errors import ConfigError

#: How long a repair may make no progress before it is given up, seconds.
REPAIR_PATIENCE = 30.0


def register(app: typer.Typer) -> None:
    app.command()(verify)


def verify(
    config: ConfigPath = DEFAULT_CONFIG,
    table: TableName = None,
    repair: Annotated[bool, typer.Option("--repair", help="Have capture read again what differs.")] = False,
    settle: Annotated[
        float, typer.Option(min=0, help="A difference counts after standing still so many seconds.")
    ] = 10,
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many differences.")] = 20,
    json: AsJson = False,
) -> None:
    """Compare the mapped tables with Redis, row by row. Exit 1 when differences are left."""
    loaded = load_config(config)
    only = None if table is None else mapped_table(loaded, table)
    reports, repaired = [], 0
    if not loaded.source.named:
        raise ConfigError("there is nothing to compare with: sync.yaml maps functions only", hint="map their tables")
    with closing(RowReader(loaded)) as rows, closing(StoredReader(loaded)) as stored:
        for db, name in [only] if only else mapped_tables(rows.catalog, loaded):
            verifier = TableVerifier(loaded, db, name, rows, stored)
            report = _run(verifier, settle, quiet=json)
            if repair and report.differences:
                found = len(report.differences)
                report.differences = _repair(loaded, verifier, report.differences)
                repaired += found - len(report.differences)
            reports.append(report)
    _print(reports, repaired, limit, json=json)
    if loaded.functions and not json and only is None:
        say(f"not compared: what functions wrote ({', '.join(loaded.functions)}), no table says what it should be")
    raise typer.Exit(1 if any(report.differences for report in reports) else 0)


def _run(verifier: TableVerifier, settle: float, *, quiet: bool) -> TableReport:
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}: {task.completed:.0f} rows compared"),
        console=console(),
        transient=True,
        disable=quiet or not sys.stdout.isatty(),
    )
    with bar:
        task = bar.add_task(verifier.report.table, total=None)
        return verifier.run(settle, lambda rows: bar.advance(task, rows))


def _repair(config: Config, verifier: TableVerifier, found: list[Difference]) -> list[Difference]:
    """Ask for repairs and wait while they get fewer; answers what is left."""
    mappings = {f"mappings[{index}]": mapping for index, mapping in enumerate(config.mappings)}
    with closing(open_state(config)) as state:
        request_repairs(state, found, mappings, verifier.schema)
        fewest, since = len(found), time.monotonic()

        def stuck() -> bool:
            nonlocal fewest, since
            waiting = state.requests.pending()
            unfinished = [row for row in state.snapshots.all() if row.status != "done"]
            left = len(waiting) + sum(row.rows_estimate - row.rows_done for row in unfinished)
            if left != fewest:
                fewest, since = left, time.monotonic()
            return time.monotonic() - since > REPAIR_PATIENCE

        verifier.suspect_again(found)
        return verifier.settle(float("inf"), stuck)


def _print(reports: list[TableReport], repaired: int, limit: int, *, json: bool) -> None:
    every = [difference for report in reports for difference in report.differences]
    if json:
        tables = [{**asdict(report), "differences": len(report.differences)} for report in reports]
        shown = [_described(difference) for difference in every[:limit]]
        say_json({"differences": len(every), "repaired": repaired, "tables": tables, "shown": shown})
        return
    for report in reports:
        notes = "".join(
            f", {number} {what}"
            for number, what in ((report.unshowable, "cannot be shown"), (report.expired, "expired"))
            if number
        )
        outcome = count(len(report.differences), "difference")
        say(f"{report.table}: {count(report.rows, 'row')} and {count(report.keys, 'key')} compared{notes}: {outcome}")
    if every[:limit]:
        say_table(
            ("table", "key", "kind", "what"),
            ((one.table, _printable(one.key), one.kind, "; ".join(one.what[:5])) for one in every[:limit]),
        )
    if len(every) > limit:
        say(f"{len(every) - limit} more; see them with --limit")
    if repaired:
        say(f"{count(repaired, 'difference')} repaired")
    if every:
        say("mend them with: syncbridge verify --repair (while syncbridge run is running)")


def _described(difference: Difference) -> dict[str, Any]:
    described = {name: getattr(difference, name) for name in ("mapping", "table", "kind", "row_key", "what")}
    return {**described, "key": _printable(difference.key)}


def _printable(key: str) -> str:
    """A key may hold any bytes."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
