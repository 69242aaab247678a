"""The native package under the compiler's sanitizers: the same tests, and no byte is touched out of bounds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TESTS = ("test_native.py", "test_snapshot_packets.py", "test_capture_binlog.py", "test_sinks_blocks.py")
SANITIZERS = ("address", "undefined")


def test_it_keeps_within_bounds(tmp_path: Path) -> None:
    sources = sorted(map(str, (REPOSITORY / "native" / "src").glob("*.c")))
    include = sysconfig.get_path("include")
    flags = ["-shared", "-fPIC", "-O1", "-g", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{include}"]
    flags += [f"-fsanitize={','.join(SANITIZERS)}", "-fno-sanitize-recover=all"]
    subprocess.run(["cc", *flags, *sources, "-o", str(tmp_path / "syncbridge_native.abi3.so")], check=True)
    libraries = [_library(name) for name in ("libasan.so", "libubsan.so")]
    environment = dict(os.environ) | {
        "PYTHONPATH": f"{tmp_path}:{REPOSITORY}",  # before what is installed
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
        "PYTHONMALLOC": "malloc",
    }
    where = [sys.executable, "-c", "import syncbridge_native; print(syncbridge_native.__file__)"]
    found = subprocess.run(where, env=environment, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(tmp_path))
    names = [str(REPOSITORY / "tests" / "unit" / name) for name in TESTS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-k", "native", *names],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    print(f"{passed} tests passed")
    assert int(passed) > 80


def _library(name: str) -> str:
    asked = subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()
