"""The UDF library, built as a user builds it, and put into a test's server."""

from __future__ import annotations

import subprocess
from pathlib import Path

from syncbridge.commands.gearman_udf.source import statements
from tests.servers.process import REPOSITORY
from tests.servers.sql import SqlServer

UDF = REPOSITORY / "triggers" / "udf"


def build(folder: Path) -> Path:
    """Make `folder` a plugin folder with the library."""
    for name in ("Makefile", "syncbridge_udf.c"):
        (folder / name).write_bytes((UDF / name).read_bytes())
    done = subprocess.run(["make", "-C", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return folder


def install(server: SqlServer) -> None:
    """Make the functions."""
    run_file(server, "install.sql")


def point_to(server: SqlServer, *ports: int) -> None:
    """The job servers that its triggers call from now on."""
    wanted = ",".join(f"127.0.0.1:{port}" for port in ports)
    assert server.execute(f"SELECT gman_servers_set('{wanted}')") == [(wanted.encode(),)]


def run_file(server: SqlServer, name: str) -> None:
    """`install.sql` or `remove.sql`."""
    server.execute(*statements(name))
