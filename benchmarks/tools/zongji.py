"""Binlog readers for Node as peers: @vlasky/zongji, and @powersync/mysql-zongji, the fastest; from npm into .cache."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.tools.missing import MissingPeer
from syncbridge.capture.connection import Position
from tests.servers import MariaDB
from tests.servers.process import CACHE

POWERSYNC, VLASKY = "@powersync/mysql-zongji", "@vlasky/zongji"
_VERSIONS = {POWERSYNC: "0.6.2", VLASKY: "0.9.0"}
_SECONDS = 300.0


def _home(package: str) -> Path:
    return CACHE / "bench" / package.strip("@").replace("/", "-")


def install(package: str) -> None:
    """Install it where it is missing. Raises MissingPeer with npm's words."""
    home = _home(package)
    if shutil.which("npm") is None:
        raise MissingPeer("there is no npm on PATH; on Debian: apt-get install nodejs npm")
    if (home / "complete").exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    wanted = f"{package}@{_VERSIONS[package]}"
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingPeer(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    (home / "complete").touch()


def read(package: str, server: MariaDB, start: Position, rows: int) -> tuple[float, float]:
    """Seconds from the first of these rows to the last, and its processor time in them. Raises MissingPeer."""
    program = str(Path(__file__).with_name("zongji.js").resolve())
    done = subprocess.run(
        ["node", program, package, str(server.port), start.file, str(start.pos), str(rows)],
        cwd=_home(package), check=False, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise MissingPeer(f"node ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu
