"""`triggers render|install|remove|status`: what trigger capture needs on the source (DESIGN section 5, Triggers)."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import typer

from syncbridge.capture.connection import connect, identify, source_errors
from syncbridge.capture.source import settings_of
from syncbridge.capture.sql import quote
from syncbridge.capture.tables import Tables
from syncbridge.capture.trigger.install import Plan, install, plan, remove
from syncbridge.capture.trigger.render import Trigger, outbox_statements, outbox_table
from syncbridge.capture.trigger.shapes import load, wanted_triggers
from syncbridge.commands.checks.gather import grants
from syncbridge.commands.checks.privileges import Privileges
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
        again = f"{len(done.orphans)} made again for an account that is gone, " if done.orphans else ""
        say(f"{made} made, {gone} stale removed, {again}{len(done.right)} were in place")


@_group.command("remove")
def remove_command(config: ConfigPath = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Take every trigger of this pipeline and its outbox off the source. Redis stays as it is."""
    loaded = load_config(config)
    with closing(_connect(loaded)) as connection:
        held = Privileges(grants(connection))
        _refuse_blind(held, loaded)
        sees_all = held.everywhere("TRIGGER")
        gone = remove(connection, loaded.name, sees_all=sees_all)
    triggers, outbox = count(len(gone), "trigger"), outbox_table(loaded.name).replace("`", "")
    if json:
        say_json({"removed": len(gone), "outbox": "removed" if sees_all else "emptied"})
    elif sees_all:
        say(f"{triggers} and the outbox removed")
    else:
        say(
            f"{triggers} removed; the outbox stays, emptied: without TRIGGER ON *.* the account cannot see whether"
            f" a trigger in a database that is no longer mapped still needs it (DROP TABLE {outbox} when none does)"
        )


@_group.command()
def status(config: ConfigPath = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """What is installed, stale, missing or fails. Exit 1 unless every mapped table has its triggers, and they work."""
    loaded = load_config(config)
    with closing(_connect(loaded)) as connection:
        found = compare(connection, loaded)
    states = [
        *(("installed", one.db, one.table, one.name) for one in found.right),
        *(("failing", one.db, one.table, one.name) for one in found.orphans),
        *(("stale", one.db, one.table, one.name) for one in found.stale),
        *(("missing", one.db, one.table, one.name) for one in found.missing),
    ]
    failures = failing(found, loaded)
    if json:
        say_json({**_counts(found), "failures": failures, "triggers": [
            {"state": state, "table": f"{db}.{table}", "name": name} for state, db, table, name in states
        ]})  # fmt: skip
    else:
        say_table(["state", "table", "trigger"], [(state, f"{db}.{table}", name) for state, db, table, name in states])
        for failure in failures:
            say(f"{failure}: syncbridge triggers install")
    raise typer.Exit(1 if found.missing or found.stale or failures else 0)


def _refuse_blind(held: Privileges, config: Config) -> None:
    """Raises ConfigError where triggers of mapped tables may be hidden from the account."""
    tables = dict.fromkeys(mapping.table for mapping in config.table_mappings)
    hidden = [table for table in tables if held.missing(["TRIGGER"], *table.split(".", 1))]
    if hidden:
        raise ConfigError(
            f"the account cannot see triggers of {', '.join(hidden)}, so nothing was removed",
            hint="; ".join(f"GRANT TRIGGER ON {_granted(table)} TO the account" for table in hidden),
        )


def _granted(table: str) -> str:
    db, _, name = table.partition(".")
    return f"{quote(db)}.{'*' if name == '*' else quote(name)}"


def compare(connection: Any, config: Config) -> Plan:
    """What is there against what should be. Raises ConfigError."""
    return plan(connection, config.name, _wanted(connection, config))


def failing(found: Plan, config: Config) -> list[str]:
    """Why triggers that are there fail the statements of their tables' users, one sentence each."""
    sentences = []
    if found.no_outbox:
        outbox = outbox_table(config.name).replace("`", "")
        sentences.append(f"{outbox} does not exist, so every write to a table with triggers fails")
    for account in sorted(set(found.orphans.values())):
        tables = sorted({f"{one.db}.{one.table}" for one, definer in found.orphans.items() if definer == account})
        made = f"the account {account}, which made the triggers of {', '.join(tables)}"
        sentences.append(f"{made}, is gone, so every write there fails")
    return sentences


def _wanted(connection: Any, config: Config) -> list[Trigger]:
    tables = Tables(config, None)
    with source_errors():
        return wanted_triggers(config, identify(connection), load(connection, config, tables), tables)


def _counts(found: Plan) -> dict[str, int]:
    return {
        "missing": len(found.missing),
        "stale": len(found.stale),
        "failing": len(found.orphans),
        "installed": len(found.right),
    }


def _connect(config: Config) -> Any:
    if not config.source.named:
        raise ConfigError("source: missing", hint="triggers are written for tables: add source.url")
    return connect(settings_of(config.source, config.source.url[0]))
