"""`udf build|install|remove`: the UDF library of triggers/udf, from its source into the server (DESIGN section 5)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from syncbridge.capture.connection import ConnectionSettings, connect
from syncbridge.capture.source import settings_of
from syncbridge.commands.gearman_udf.build import build, build_folder
from syncbridge.commands.gearman_udf.install import BY_HAND, IN_PLACE, Outcome, install, remove
from syncbridge.commands.gearman_udf.server import UdfFacts, udf_facts
from syncbridge.commands.gearman_udf.source import version
from syncbridge.commands.options import DEFAULT_CONFIG, AsJson, ConfigPath
from syncbridge.commands.output import count, say, say_json
from syncbridge.config import SourceConfig, Url, load_config
from syncbridge.errors import ConfigError, PermanentError

_group = typer.Typer(no_args_is_help=True, help="Build the UDF library for triggers, and put it into the server.")

Folder = Annotated[Path | None, typer.Option("--folder", help="Where to build.", show_default=False)]
ServerUrl = Annotated[
    str | None, typer.Option("--url", help="mysql://user:password@host:3306, instead of the sources of sync.yaml.")
]


def register(app: typer.Typer) -> None:
    app.add_typer(_group, name="udf")


class Target(NamedTuple):
    """A server to look at."""

    url: Url
    settings: ConnectionSettings

    def connect(self) -> Any:
        return connect(self.settings)

    def facts(self) -> UdfFacts:
        with closing(self.connect()) as connection:
            return udf_facts(connection, str(self.url))

    @property
    def client(self) -> str:
        """The mysql command line that reaches it; asks for the password."""
        place = f"-S {shlex.quote(self.settings.unix_socket)}" if self.settings.unix_socket else ""
        return f"mysql {place or f'-h {self.settings.host} -P {self.settings.port}'} -u root -p"


@_group.command("build")
def build_command(folder: Folder = None, json: AsJson = False) -> None:
    """Compile the library with make and the C compiler, and say where it is."""
    library = _built(folder)
    if json:
        say_json({"library": str(library), "version": version()})
    else:
        say(f"{library} is built, version {version()}")


@_group.command("install")
def install_command(
    config: ConfigPath = DEFAULT_CONFIG,
    url: ServerUrl = None,
    folder: Folder = None,
    copied: Annotated[bool, typer.Option("--copied", help="The library is in plugin_dir: make its functions.")] = False,
    json: AsJson = False,
) -> None:
    """Put the library and its functions into every server that sync.yaml names as source, and try a call.

    Where this machine or the account cannot, prints who has to run what. Exit 1 unless every server has it.
    """
    built = cache(partial(_built, folder))
    outcomes = [
        install(target.facts(), target.connect, built, target.client, copied=copied) for target in _targets(config, url)
    ]
    if json:
        say_json({"servers": [_plain(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            _say(outcome)
    raise typer.Exit(1 if any(outcome.state == BY_HAND for outcome in outcomes) else 0)


@_group.command("remove")
def remove_command(
    config: ConfigPath = DEFAULT_CONFIG,
    url: ServerUrl = None,
    force: Annotated[bool, typer.Option("--force", help="Even if triggers call the functions.")] = False,
    json: AsJson = False,
) -> None:
    """Drop the functions, and delete the library where this machine can."""
    removed: dict[str, list[str]] = {}
    for target in _targets(config, url):
        facts = target.facts()
        if facts.callers and not force:
            names = ", ".join(".".join(name) for name in facts.callers)
            raise PermanentError(
                f"triggers on {names} call these functions: without them every write to such a table fails",
                hint="syncbridge triggers remove, or drop your own triggers, first",
            )
        removed[facts.address] = remove(facts, target.connect)
    if json:
        say_json({"servers": [{"address": address, "removed": names} for address, names in removed.items()]})
    else:
        for address, gone in removed.items():
            say(f"{address}: {count(len(gone), 'function')} removed")


def _built(folder: Path | None) -> Path:
    return build(folder or build_folder(os.environ, root=os.geteuid() == 0))


def _targets(config: Path, url: str | None) -> Iterator[Target]:
    """The servers meant. Raises ConfigError."""
    if url is None:
        source = load_config(config).source
        if not source.url:
            raise ConfigError("source: missing", hint="add source.url, or name the server: --url mysql://…")
    else:
        try:
            source = SourceConfig(url=(Url.parse(url),))
        except ValueError as error:
            reason = "write mysql://user:password@host:3306"
            raise ConfigError("--url: this is not the URL of a MySQL or MariaDB server", hint=reason) from error
    for one in source.url:
        yield Target(one, settings_of(source, one))


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {**outcome._asdict(), "steps": [step._asdict() for step in outcome.steps]}


def _say(outcome: Outcome) -> None:
    if outcome.state == BY_HAND:
        say(f"{outcome.address}: not possible from here: {outcome.reason}. To be run by hand:")
        for step in outcome.steps:
            say(f"as {step.who}:")
            for command in step.commands:
                say(f"    {command}")
        say("then: syncbridge udf install --copied")
    elif outcome.state == IN_PLACE:
        say(f"{outcome.address}: version {outcome.version} was in place")
    else:
        say(f"{outcome.address}: version {outcome.version} {outcome.state} as {outcome.library}, and it answers")
