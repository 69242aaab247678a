"""The command line as a user has it: a process of its own, its output and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping


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
        env={**os.environ, "COLUMNS": "120", **(environment or {})},
    )
