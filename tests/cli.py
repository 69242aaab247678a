"""The command line as a user has it: its output and its exit code, from a process of its own or without one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from typer.testing import CliRunner

from syncbridge.commands import app as application

_COLUMNS = {"COLUMNS": "120"}


def syncbridge(
    *arguments: object, environment: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `syncbridge <arguments>` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "syncbridge", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **_COLUMNS, **(environment or {})},
    )


def in_process(*arguments: object, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The same in this process: a start costs half a second of processor time.

    Not for what sets signal handlers or a log up (run, a stage), nor where a traceback or Ctrl-C is what is tested.
    """
    application.register()
    done = CliRunner().invoke(
        application.app,
        [str(argument) for argument in arguments],
        prog_name="syncbridge",
        env={**_COLUMNS, **(environment or {})},
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
