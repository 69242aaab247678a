"""SQL statements of capture, kept in .sql files: each starts with a line `-- name: <name>`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def statements(file: str) -> dict[str, str]:
    """The statements of `<file>.sql` by name, comments and surrounding space removed."""
    return parse_statements(files(__package__).joinpath(f"{file}.sql").read_text(encoding="utf-8"))


def parse_statements(text: str) -> dict[str, str]:
    """The statements of such a file's text."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []  # what stands before the first name is the file's header
    for line in text.splitlines():
        if line.startswith("-- name:"):
            lines = found.setdefault(line.removeprefix("-- name:").strip(), [])
        elif not line.startswith("--"):
            lines.append(line)
    return {name: "\n".join(body).strip() for name, body in found.items()}


def quote(name: str) -> str:
    """An identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"
