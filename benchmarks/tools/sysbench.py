"""sysbench's own oltp_write_only as the load of a source: transactions of two updates, a delete and an insert."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from benchmarks.tools.missing import MissingPeer
from tests.servers import MariaDB

TABLES = 2


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of it did."""

    transactions: int
    row_changes: int
    seconds: float


def install() -> None:
    if shutil.which("sysbench") is None:
        raise MissingPeer("there is no sysbench on PATH; on Debian: scripts/install-servers --benchmarks")


def prepare(server: MariaDB, rows: int) -> None:
    """Make and fill the tables bench.sbtest1…"""
    with start(server, rows, "prepare") as process:
        _output(process)


def start(server: MariaDB, rows: int, command: str = "run", *options: str) -> subprocess.Popen[str]:
    account = ["--mysql-host=127.0.0.1", f"--mysql-port={server.port}", "--mysql-user=root", "--mysql-db=bench"]
    return subprocess.Popen(
        ["sysbench", "oltp_write_only", *account, f"--tables={TABLES}", f"--table-size={rows}", *options, command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def result(process: subprocess.Popen[str]) -> Load:
    """Wait for the end of a run."""
    said = _output(process)

    def number(pattern: str) -> float:
        found = re.search(pattern, said)
        assert found, said
        return float(found[1])

    writes = int(number(r"write: +(\d+)"))
    return Load(int(number(r"transactions: +(\d+)")), writes, number(r"total time: +([\d.]+)s"))


def _output(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"sysbench ended with {process.returncode}:\n{said[-2000:]}")
    return said
