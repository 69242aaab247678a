"""Compiling the UDF library, as `make -C triggers/udf` does, into a folder that may be written to."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from syncbridge.commands.gearman_udf.source import LIBRARY, folder
from syncbridge.config.model import default_folder
from syncbridge.errors import ConfigError, PermanentError

_TOOLS = "apt-get install gcc libc6-dev make, or dnf install gcc glibc-devel make"


def build_folder(environ: Mapping[str, str], *, root: bool) -> Path:
    """Where the library is built when nobody says where. No pipeline can have this name."""
    return default_folder("_udf", environ, root=root)


def build(target: Path) -> Path:
    """The path of the library, compiled into folder `target`.

    Raises ConfigError (the folder cannot be written to, no compiler) or PermanentError (it does not compile).
    """
    compiler = os.environ.get("CC", "cc").split()[0]
    for program in ("make", compiler):
        if shutil.which(program) is None:
            raise ConfigError(f"{program} is not installed, and the library is built with it", hint=_TOOLS)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{target}: {error.strerror}", hint="name another folder") from error
    source = folder()
    done = subprocess.run(
        ["make", "--silent", "--always-make", "-C", target, "-f", source / "Makefile", f"VPATH={source}", LIBRARY],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line.lower()), "make failed")
        raise PermanentError(f"the library does not compile: {reason.strip()}", hint=f"run make -C {source}; {_TOOLS}")
    return target / LIBRARY
