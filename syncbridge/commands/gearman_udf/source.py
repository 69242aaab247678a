"""What triggers/udf holds: the library's source and version, and the statements that make its functions known."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from syncbridge.capture.trigger.render import triggers_folder

#: The file's name in plugin_dir, and in mysql.func.
LIBRARY = "syncbridge_udf.so"
#: What the names of all its functions begin with, those of gearman-mysql-udf too.
PREFIX = "gman_"

_VERSION = re.compile(r"^#define LIBRARY_VERSION (\d+)$", re.M)
_FUNCTION = re.compile(r"FUNCTION (?:IF EXISTS )?(\w+)")


def folder() -> Path:
    """Where Makefile, source and SQL are."""
    return triggers_folder() / "udf"


@cache
def version() -> int:
    """The library's number: that of its source here."""
    found = _VERSION.search((folder() / "syncbridge_udf.c").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1])


@cache
def statements(name: str) -> tuple[str, ...]:
    """The statements of `install.sql` or `remove.sql`."""
    lines = (folder() / name).read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("--"))
    return tuple(statement.strip() for statement in text.split(";") if statement.strip())


def functions() -> frozenset[str]:
    """The names of the functions that install.sql makes."""
    return frozenset(found[1] for text in statements("install.sql") if (found := _FUNCTION.search(text)))
