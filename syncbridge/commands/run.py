"""`run`, `capture`, `worker`: the pipeline as a whole, or one stage of it on this host (`server` is in server.py)."""

from __future__ import annotations

from typing import Annotated

import typer

from syncbridge.commands.logs import log_to_stderr
from syncbridge.commands.options import DEFAULT_CONFIG, ConfigPath
from syncbridge.config import load_config
from syncbridge.errors import ConfigError


def register(app: typer.Typer) -> None:
    for command in (run, capture, worker):
        app.command()(command)


def run(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run the whole pipeline, supervised. SIGTERM stops it cleanly, SIGHUP takes up changed mappings."""
    log_to_stderr("run")
    from syncbridge import supervisor

    raise typer.Exit(supervisor.run(config, load_config(config)))


def capture(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run capture alone: read the source, fill the queue."""
    log_to_stderr("capture")
    from syncbridge import pipeline

    loaded = load_config(config)
    if not loaded.source.named:
        raise ConfigError("there is nothing to capture: sync.yaml maps functions only", hint="run server and worker")
    pipeline.run_capture(loaded)


def worker(
    config: ConfigPath = DEFAULT_CONFIG,
    functions: Annotated[
        bool,
        typer.Option("--functions/--no-functions", help="Whether to take jobs of mapped functions; one worker should."),
    ] = True,
) -> None:
    """Run one sink worker alone: empty the queue into Redis."""
    log_to_stderr("worker")
    from syncbridge import pipeline

    pipeline.run_worker(load_config(config), functions=functions)
