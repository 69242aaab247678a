"""What the figures were measured on, and what processes used of it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psutil

from benchmarks.tools import ways
from syncbridge.demo.mariadb import server_program as mariadb_program
from syncbridge.demo.redis import server_program as redis_program


def describe() -> str:
    """One line: processor, cores, memory, versions."""
    models = [line.partition(":")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} x{models[0] if models else ' ' + platform.machine()}, {memory:.0f} GiB,"
        f" Linux {platform.release()}, Python {platform.python_version()},"
        f" {_version(mariadb_program())}, {_version([redis_program()])}, {ways.described()}"
    )


def _version(program: list[str]) -> str:
    said = subprocess.run([*program, "--version"], check=True, capture_output=True, text=True).stdout.split()
    return f"MariaDB {said[2]}" if "mariadbd" in program[0] else f"Redis {said[2].partition('=')[2]}"


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes so far."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)
