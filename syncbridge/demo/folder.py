"""The demo's temporary folder: it goes when the demo ends, also when the demo is killed with -9."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "syncbridge-demo-"
#: A socket's path may have 107 characters.
LONGEST_ROOT = 70

# Waits for the end of its input, that is of the demo; then servers may still be dying, hence more than one try.
_JANITOR = 'cat >/dev/null; for try in $(seq 150); do rm -rf -- "$0" 2>/dev/null && break; sleep 0.2; done'


@contextmanager
def vanishing_folder() -> Iterator[Path]:
    """A folder for this user alone. Whoever works in it must have ended before this block does."""
    root = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root if len(os.fsencode(root)) < LONGEST_ROOT else "/tmp"))  # noqa: S108
    janitor = subprocess.Popen(["sh", "-c", _JANITOR, folder], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        janitor.communicate()
