"""`run`, `capture`, `server`, `worker`: the pipeline as a whole, or one stage of it on this host."""

from __future__ import annotations

import logging
import sys
import time

import typer

from syncbridge.commands.options import DEFAULT_CONFIG, ConfigPath
from syncbridge.config import load_config


def register(app: typer.Typer) -> None:
    for command in (run, capture, server, worker):
        app.command()(command)


def run(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run the whole pipeline, supervised. SIGTERM stops it cleanly, SIGHUP takes up changed mappings."""
    _log_to_stderr("run")
    from syncbridge import supervisor

    raise typer.Exit(supervisor.run(config, load_config(config)))


def capture(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run capture alone: read the source, fill the queue."""
    _log_to_stderr("capture")
    from syncbridge import pipeline

    pipeline.run_capture(load_config(config))


def server(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run the job server alone: hold the queue."""
    _log_to_stderr("server")
    from syncbridge import pipeline

    pipeline.run_server(load_config(config))


def worker(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run one sink worker alone: empty the queue into Redis."""
    _log_to_stderr("worker")
    from syncbridge import pipeline

    pipeline.run_worker(load_config(config))


def _log_to_stderr(stage: str) -> None:
    """One line a message: UTC time, level where it is not INFO, stage, text."""

    class Line(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            level = "" if record.levelno == logging.INFO else f"{record.levelname} "
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            text += f".{int(record.msecs):03d}Z {level}{stage}: " + record.getMessage()
            return text if record.exc_info is None else f"{text}\n{self.formatException(record.exc_info)}"

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
