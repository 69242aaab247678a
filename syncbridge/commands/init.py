"""`init`: look at a source and write a commented sync.yaml for chosen tables. Passwords stay out of the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import quote as percent

import typer

from syncbridge.capture.connection import connect, source_errors
from syncbridge.capture.schema import TableSchema, load_tables
from syncbridge.capture.source import settings_of
from syncbridge.commands.checks.gather import rows
from syncbridge.commands.options import split_table
from syncbridge.commands.output import count, say, say_json
from syncbridge.config import SourceConfig, Url, parse_config
from syncbridge.errors import ConfigError
from syncbridge.template import KEY

SYSTEM_SCHEMAS = frozenset(("mysql", "information_schema", "performance_schema", "sys", "syncbridge"))
#: Environment variables that hold what the file does not.
SOURCE_SECRET, SINK_SECRET = "MYSQL_PASSWORD", "REDIS_PASSWORD"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table that may be mapped. `reason`: why it is left out; empty when it can be."""

    db: str
    table: str
    primary_key: tuple[str, ...]
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.db}.{self.table}"


def register(app: typer.Typer) -> None:
    app.command()(init)


def init(
    source: Annotated[str, typer.Option(help="mysql://user:password@host:3306")],
    sink: Annotated[str, typer.Option(help="redis://host:6379/0")] = "redis://127.0.0.1:6379/0",
    table: Annotated[list[str] | None, typer.Option(help="db.table; may be repeated. Default: every table.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write it.")] = Path("sync.yaml"),
    name: Annotated[str, typer.Option(help="Name of the pipeline.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Write a commented sync.yaml for the tables of a source."""
    if output.exists() and not force:
        raise ConfigError(f"{output} exists already", hint="write elsewhere with --output, or overwrite with --force")
    source_url, sink_url = (
        _url("--source", source, ("mysql", "mariadb")),
        _url("--sink", sink, ("redis", "rediss", "unix")),
    )
    wanted = [split_table(text) for text in table or ()]
    candidates = _candidates(source_url, wanted)
    chosen = [one for one in candidates if not one.reason]
    if not chosen:
        raise ConfigError(
            "there is no table to map" + "".join(f"; {one.name}: {one.reason}" for one in candidates[:3]),
            hint="create tables with a primary key, or GRANT SELECT on them to this account",
        )
    text = render(source_url, sink_url, candidates, name or _name_for(chosen))
    _must_parse(text)
    _write(output, text)
    secrets = [variable for url, variable in ((source_url, SOURCE_SECRET), (sink_url, SINK_SECRET)) if url.password]
    left_out = [one for one in candidates if one.reason]
    if json:
        say_json(
            {
                "output": str(output),
                "tables": [one.name for one in chosen],
                "left_out": {one.name: one.reason for one in left_out},
                "export": secrets,
            }
        )
        return
    say(f"wrote {output} with {count(len(chosen), 'table')}")
    for one in left_out:
        say(f"left out {one.name}: {one.reason}")
    for variable in secrets:
        say(f"the password is not in the file: export {variable}=… before you start")
    say(f"next: syncbridge check --config {output}, then syncbridge run --config {output}")


def render(source: Url, sink: Url, candidates: Sequence[Candidate], name: str) -> str:
    """The text of the sync.yaml. Pure; holds no password."""
    lines = [
        "# Made by `syncbridge init`. Every option is in docs/configuration.md; `syncbridge check` looks it over.",
        f"name: {name}                       # prefixes queues, guard keys and state rows",
        "source:",
        f"  url: {_yaml(_redacted(source, SOURCE_SECRET))}",
        "  # snapshot: never                # leave out what is in the tables already",
        "  # ssl_ca: /etc/ssl/mysql-ca.pem  # verify the server's certificate",
        "sink:",
        f"  url: {_yaml(_redacted(sink, SINK_SECRET))}",
        "  # workers: 2                     # processes that write to Redis",
        "# queue: {listen: 127.0.0.1:4730, lanes: 8}",
        "# http: {listen: 127.0.0.1:9108}   # /metrics, /healthz, /readyz",
        "mappings:",
    ]
    same_name = {one.table for one in candidates if sum(other.table == one.table for other in candidates) > 1}
    for one in candidates:
        if one.reason:
            lines.append(f"  # left out {one.name}: {one.reason}")
            continue
        prefix = f"{one.db}:{one.table}" if one.table in same_name else one.table
        # {_key} keeps several columns apart whatever they hold.
        key = f"{_brace(prefix)}:{{{one.primary_key[0] if len(one.primary_key) == 1 else KEY}}}"
        lines += [f"  - table: {_yaml(one.name)}", f"    key: {_yaml(key)}", "    type: hash"]
        lines.append("    # columns: {exclude: []}       # also include, rename, mask")
        lines.append("    # where: \"status <> 'draft'\"   # a row that stops matching is removed")
        lines.append("    # ttl: 7d")
    return "\n".join(lines) + "\n"


def _candidates(url: Url, wanted: Sequence[tuple[str, str]]) -> list[Candidate]:
    settings = settings_of(SourceConfig(url=(url,)), url)
    with closing(connect(settings)) as connection, source_errors(settings):
        listed = [
            (db, table)
            for db, table in rows(
                connection,
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'"
                " ORDER BY TABLE_SCHEMA, TABLE_NAME",
            )
            if db not in SYSTEM_SCHEMAS
        ]
        default_db = url.path.strip("/")
        if wanted:
            names = list(dict.fromkeys(wanted))
        else:
            names = [one for one in listed if not default_db or one[0] == default_db]
        schemas = load_tables(connection, names)
    missing = [f"{db}.{table}" for db, table in names if (db, table) not in listed]
    if missing:
        raise ConfigError(
            f"--table: {missing[0]} does not exist, or this account may not see it",
            hint=f"tables here: {', '.join(f'{db}.{table}' for db, table in listed[:10]) or 'none'}",
        )
    return [_judge(schemas[one]) for one in names]


def _judge(schema: TableSchema) -> Candidate:
    reason = ""
    if not schema.primary_key:
        reason = "it has no primary key (map it with unique: [column] if it has unique NOT NULL columns)"
    elif any(column.name.startswith("_") for column in schema.columns):
        reason = "a column starts with _, which is syncbridge's own: rename or exclude it under columns"
    elif "." in schema.db or "\n" in schema.table + schema.db:
        reason = "its name cannot be written as db.table"
    return Candidate(schema.db, schema.table, schema.primary_key, reason)


def _url(option: str, text: str, schemes: tuple[str, ...]) -> Url:
    try:
        url = Url.parse(text)
    except ValueError as error:
        raise ConfigError(f"{option} is not possible", hint=str(error)) from None
    if url.scheme not in schemes:
        raise ConfigError(f"{option}: {url.scheme}:// is not possible", hint=f"write {schemes[0]}://user:password@host")
    return url


def _redacted(url: Url, variable: str) -> str:
    """The URL with a placeholder where its password was."""
    account = percent(url.user, safe="") + (f":${{{variable}}}" if url.password else "")
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = f":{url.port}" if url.port is not None else ""
    query = "?" + "&".join(f"{key}={percent(value, safe='/')}" for key, value in url.query) if url.query else ""
    return f"{url.scheme}://{account + '@' if account else ''}{host}{port}{url.path}{query}"


def _must_parse(text: str) -> None:
    """What is written must be a sync.yaml that `run` takes. Raises ConfigError."""
    parse_config(text, {**os.environ, SOURCE_SECRET: "x", SINK_SECRET: "x"})


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}", hint="write elsewhere with --output") from error


def _name_for(chosen: Sequence[Candidate]) -> str:
    databases = {one.db for one in chosen}
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in next(iter(databases)).lower()).strip("-")
    return name[:40] if len(databases) == 1 and name else "syncbridge"


def _brace(text: str) -> str:
    """Literal text inside a template."""
    return text.replace("{", "{{").replace("}", "}}")


def _yaml(text: str) -> str:
    """A YAML scalar in double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
