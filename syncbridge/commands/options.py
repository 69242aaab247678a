"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncbridge.config import Config
from syncbridge.errors import ConfigError

if TYPE_CHECKING:
    from syncbridge.state import State

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The sync.yaml to use.", show_default=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TableName = Annotated[str | None, typer.Option("--table", help="Only this table: db.table.")]
PlaceName = Annotated[str | None, typer.Option("--table", help="Only this one: db.table, or function:name.")]

DEFAULT_CONFIG = Path("sync.yaml")


def split_table(text: str) -> tuple[str, str]:
    """(db, table) of `db.table`. Raises ConfigError."""
    db, dot, table = text.partition(".")
    if not (dot and db and table):
        raise ConfigError(f"--table: {text!r} is not possible", hint="write db.table, for example shop.orders")
    return db, table


def mapped_table(config: Config, text: str) -> tuple[str, str]:
    """(db, table) of a --table option that must be mapped. Raises ConfigError."""
    db, table = split_table(text)
    if not config.mappings_of(db, table):
        known = ", ".join(dict.fromkeys(mapping.table for mapping in config.table_mappings))
        raise ConfigError(f"--table: {text} is not mapped in sync.yaml", hint=f"mapped are: {known or 'no tables'}")
    return db, table


def open_state(config: Config) -> State:
    """The state database of this pipeline. Raises ConfigError or TransientError."""
    from syncbridge.state import State  # most of what imports this module runs without it

    return State.open(config.state, config.name)
