"""@powersync/mysql-zongji, the fastest binlog reader for Node, as a peer: from npm into a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.tools.missing import MissingPeer
from syncbridge.capture.connection import Position
from tests.servers import MariaDB
from tests.servers.process import CACHE

PACKAGE = "@powersync/mysql-zongji@0.6.2"
_HOME = CACHE / "bench" / "zongji"
_SECONDS = 300.0


def install() -> None:
    """Install it where it is missing. Raises MissingPeer with npm's words."""
    if shutil.which("npm") is None:
        raise MissingPeer("there is no npm on PATH; on Debian: apt-get install nodejs npm")
    if (_HOME / "complete").exists():
        return
    shutil.rmtree(_HOME, ignore_errors=True)
    _HOME.mkdir(parents=True)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(_HOME), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingPeer(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    (_HOME / "complete").touch()


def read(server: MariaDB, start: Position, rows: int) -> tuple[float, float]:
    """Seconds from the first of these rows to the last, and its processor time in them."""
    program = str(Path(__file__).with_name("zongji.js").resolve())
    done = subprocess.run(
        ["node", program, str(server.port), start.file, str(start.pos), str(rows)],
        cwd=_HOME, check=True, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu
