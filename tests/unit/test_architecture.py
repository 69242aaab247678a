"""The one way that data takes: capture -> dispatch -> sinks, and only the wiring knows more than one of them.

A stage (capture/, dispatch/, sinks/) imports core modules and itself. A core module (and state/) imports no stage. The
wiring - pipeline.py, supervisor.py, commands/, demo/, __main__.py - imports what it wires, and nothing else imports it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "syncbridge"
STAGES = {"capture", "dispatch", "sinks"}
WIRING = {"pipeline", "supervisor", "commands", "demo", "__main__"}


def room(module: str) -> str:
    """The room a dotted module of ours is in: a stage, "wiring", or "core"."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else ""
    if name in STAGES:
        return name
    return "wiring" if name in WIRING else "core"


def allowed(importer: str, imported: str) -> bool:
    """Whether a module in one room may import a module in another."""
    return importer in {"wiring", imported} or imported == "core"


def imports(module: str, source: str, *, is_package: bool) -> set[str]:
    """Dotted names of our own modules that `source` imports, wherever in the file, TYPE_CHECKING included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # "from ..event import Event": climb from the package that holds the module
                package = module.split(".") if is_package else module.split(".")[:-1]
                climbed = package[: len(package) - node.level + 1]
                base = ".".join([*climbed, base]).rstrip(".")
            # "from syncbridge import capture" imports a room by its alias
            found |= {f"{base}.{alias.name}" if base == "syncbridge" else base for alias in node.names}
    return {name for name in found if name.split(".")[0] == "syncbridge"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    module = module_name(path)
    imported = imports(module, path.read_text(), is_package=path.name == "__init__.py")
    wrong = sorted(name for name in imported if not allowed(room(module), room(name)))
    assert not wrong, f"{module} ({room(module)}) may not import {', '.join(wrong)}"


@pytest.mark.parametrize(
    ("module", "source", "legal"),
    [
        ("syncbridge.capture.lanes", "from syncbridge.event import Event", True),
        ("syncbridge.capture.lanes", "from syncbridge.capture.schema import Column", True),
        ("syncbridge.capture.lanes", "from .schema import Column", True),
        ("syncbridge.capture.lanes", "import syncbridge.dispatch.submitter", False),
        ("syncbridge.capture.lanes", "from syncbridge import sinks", False),
        ("syncbridge.capture.lanes", "def f():\n    from ..dispatch import core", False),
        ("syncbridge.capture.lanes", "from syncbridge.pipeline import build", False),
        ("syncbridge.sinks.worker", "from ..capture.schema import Column", False),
        ("syncbridge.state.tables", "from syncbridge.sinks.retry import Retry", False),
        ("syncbridge.seams", "from syncbridge.dispatch.queue import Queue", False),
        ("syncbridge.pipeline", "from syncbridge import capture, dispatch, sinks", True),
        ("syncbridge.commands.run", "from syncbridge.supervisor import Supervisor", True),
        ("syncbridge.event", "import json, redis", True),
    ],
)
def test_the_guard_itself(module: str, source: str, legal: bool) -> None:
    names = imports(module, source, is_package=False)
    assert all(allowed(room(module), room(name)) for name in names) is legal


def test_the_guard_sees_every_stage() -> None:
    assert {room(module_name(path)) for path in FILES} >= STAGES
