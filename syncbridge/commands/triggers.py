"""`triggers render|install|remove|status`: what trigger capture needs on the source (DESIGN section 5, Triggers)."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import typer

from syncbridge.capture.connection import connect, identify, source_errors
from syncbridge.capture.source import settings_of
from syncbridge.capture.tables import Tables
from syncbridge.capture.trigger.install import Plan, install, plan, remove
from syncbridge.capture.trigger.render import Trigger, outbox_statements
from syncbridge.capture.trigger.shapes import load, wanted_triggers
from syncbridge.commands.options import DEFAULT_CONFIG, AsJson, ConfigPath
from syncbridge.commands.output import count, say, say_json, say_table
from syncbridge.config import Config, load_config
from syncbridge.errors import ConfigError

_group = typer.Typer(
    no_args_is_help=True, help="Put the triggers of `capture: trigger` on the source, or take them off."
)


def register(app: typer.Typer) -> None:
    app.add_typer(_group, name="triggers")


@_group.command()
def render(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Print the SQL that install would run on a source without triggers, for somebody else to run."""
    loaded = load_config(config)
    with closing(_connect(loaded)) as connection:
        wanted = _wanted(connection, loaded)
    print("-- Run with a client that knows DELIMITER; the triggers keep this sql_mode and character set.")
    print("SET SESSION sql_mode = '', NAMES utf8mb4;\nDELIMITER ;;")
    for statement in (*outbox_statements(loaded.name), *(trigger.statement for trigger in wanted)):
        print(f"{statement};;")
    print("DELIMITER ;")


@_group.command("install")
def install_command(config: ConfigPath = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Make the outbox and every missing trigger, replace stale ones. What is right stays; other triggers, too."""
    loaded = load_config(config)
    with closing(_connect(loaded)) as connection:
        done = install(connection, loaded.name, _wanted(connection, loaded))
    if json:
        say_json(_counts(done))
    else:
        made, gone = count(len(done.missing), "trigger"), len(done.stale)
        say(f"{made} made, {gone} stale removed, {len(done.right)} were in place")


@_group.command("remove")
def remove_command(config: ConfigPath = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Take every trigger of this pipeline and its outbox off the source. Redis stays as it is."""
    loaded = load_config(config)
    with closing(_connect(loaded)) as connection:
        gone = remove(connection, loaded.name)
    if json:
        say_json({"removed": len(gone)})
    else:
        say(f"{count(len(gone), 'trigger')} and the outbox removed")


@_group.command()
def status(config: ConfigPath = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """What is installed, stale or missing. Exit 1 unless every mapped table has its triggers."""
    loaded = load_config(config)
    with closing(_connect(loaded)) as connection:
        found = compare(connection, loaded)
    states = [
        *(("installed", one.db, one.table, one.name) for one in found.right),
        *(("stale", one.db, one.table, one.name) for one in found.stale),
        *(("missing", one.db, one.table, one.name) for one in found.missing),
    ]
    if json:
        say_json({**_counts(found), "triggers": [
            {"state": state, "table": f"{db}.{table}", "name": name} for state, db, table, name in states
        ]})  # fmt: skip
    else:
        say_table(["state", "table", "trigger"], [(state, f"{db}.{table}", name) for state, db, table, name in states])
    raise typer.Exit(1 if found.missing or found.stale else 0)


def compare(connection: Any, config: Config) -> Plan:
    """What is there against what should be. Raises ConfigError."""
    return plan(connection, config.name, _wanted(connection, config))


def _wanted(connection: Any, config: Config) -> list[Trigger]:
    tables = Tables(config, None)
    with source_errors():
        return wanted_triggers(config, identify(connection), load(connection, config, tables), tables)


def _counts(found: Plan) -> dict[str, int]:
    return {"missing": len(found.missing), "stale": len(found.stale), "installed": len(found.right)}


def _connect(config: Config) -> Any:
    if not config.source.named:
        raise ConfigError("source: missing", hint="triggers are written for tables: add source.url")
    return connect(settings_of(config.source, config.source.url[0]))
