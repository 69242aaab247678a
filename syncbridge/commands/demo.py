"""`demo`: private MariaDB and Redis, a small shop, live changes, and the mirror shown (syncbridge/demo)."""

from __future__ import annotations

from typing import Annotated

import typer

from syncbridge.commands.output import console


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.0, help="End by itself after so many seconds of changes.")
    ] = None,
) -> None:
    """Show a private MariaDB and its mirror in Redis, live; at the end every row is compared. Ctrl-C ends it."""
    from syncbridge.demo.demo import run

    raise typer.Exit(run(seconds, console()))
