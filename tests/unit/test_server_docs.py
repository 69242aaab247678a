"""docs/job-server.md names every option of `syncbridge server` and every command of `syncbridge queue`."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from syncbridge.commands import app as application
from syncbridge.commands.server import OPTIONS

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "job-server.md").read_text()


def command(*names: str) -> object:
    application.register()
    found = typer.main.get_command(application.app)
    for name in names:
        found = found.commands[name]  # type: ignore[attr-defined]
    return found


def test_every_option_of_the_server() -> None:
    section = DOCUMENT.partition("## Options")[2].partition("\n## ")[0]
    documented = set(re.findall(r"--[a-z][a-z-]+", section))
    options = {name for option in command("server").params for name in option.opts if name.startswith("--")}  # type: ignore[attr-defined]
    assert documented == options - {"--help"}
    assert set(OPTIONS.values()) <= options


def test_every_command_of_queue() -> None:
    section = DOCUMENT.partition("## Looking into the queue")[2].partition("\n## ")[0]
    documented = set(re.findall(r"syncbridge queue ([a-z]+)", section)) | set(re.findall(r"; ([a-z]+)\n", section))
    assert documented >= set(command("queue").commands)  # type: ignore[attr-defined]
