"""`check`: preflight. Each finding prints the exact SQL or command that mends it; nothing is changed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer

from syncbridge.capture.connection import connect
from syncbridge.capture.source import settings_of
from syncbridge.commands.checks.finding import ERROR, OK, WARNING, Finding, error, ok
from syncbridge.commands.checks.gather import server_facts, table_facts, version_of
from syncbridge.commands.checks.gather_sink import sink_facts
from syncbridge.commands.checks.local import judge_host
from syncbridge.commands.checks.locks import judge_locks
from syncbridge.commands.checks.sink import judge_sink
from syncbridge.commands.checks.source import ServerFacts, judge_reading_account, judge_server, judge_writing_account
from syncbridge.commands.checks.tables import judge_tables
from syncbridge.commands.checks.triggers import judge_installed, judge_trigger_server
from syncbridge.commands.checks.udf import judge_udf
from syncbridge.commands.gearman_udf.server import udf_facts
from syncbridge.commands.options import DEFAULT_CONFIG, AsJson, ConfigPath
from syncbridge.commands.output import count, say, say_json
from syncbridge.config import Config, Url, load_config
from syncbridge.errors import SyncbridgeError, TransientError

#: Oldest servers that capture reads.
OLDEST = {"mariadb": (10, 6), "mysql": (8, 0)}
_STYLES = {ERROR: "bold red", WARNING: "yellow", OK: "green"}


def register(app: typer.Typer) -> None:
    app.command()(check)


def check(
    config: ConfigPath = DEFAULT_CONFIG,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what is fine, too.")] = False,
    json: AsJson = False,
) -> None:
    """Look for everything that would stop the pipeline or make the mirror wrong. Exit 1 when there is an error."""
    loaded = load_config(config)
    findings = collect(loaded)
    errors, warnings = (sum(finding.severity == severity for finding in findings) for severity in (ERROR, WARNING))
    if json:
        say_json({"errors": errors, "warnings": warnings, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            if verbose or finding.severity != OK:
                say(f"{finding.severity:7} {finding.sentence}  [{finding.code}]", _STYLES[finding.severity])
                if finding.mend:
                    say(f"        {finding.mend}")
        fine = len(findings) - errors - warnings
        say(f"{count(errors, 'error')}, {count(warnings, 'warning')}, {fine} checks are fine")
    raise typer.Exit(1 if errors else 0)


def collect(config: Config) -> list[Finding]:
    """All findings. A part that is away is a finding, and the others are still looked at."""
    findings: list[Finding] = []
    tables = True  # the first server that answers is asked for them
    for url in config.source.url:
        found, seen = _guarded("source", partial(_source, config, url, tables=tables))
        findings += found
        tables = tables and not seen
    if config.source.write_url is not None:
        findings += _guarded("source-write", partial(_writer, config, config.source.write_url))[0]
    findings += _guarded("sink", lambda: judge_sink(sink_facts(config.sink)))[0]
    findings += judge_host(config)
    return findings


def _guarded(code: str, ask: Callable[[], Iterable[Finding]]) -> tuple[list[Finding], bool]:
    """What `ask` finds, or the error that it ran into as a finding; and whether it went well."""
    try:
        return list(ask()), True
    except SyncbridgeError as failure:
        away = isinstance(failure, TransientError)
        mend = f"start the server, or correct {code.partition('-')[0]}.url in sync.yaml" if away else failure.hint
        return [error(f"{code}-unreachable", str(failure), mend)], False


def _source(config: Config, url: Url, *, tables: bool) -> list[Finding]:
    with closing(_connect(config, url)) as connection:
        facts = server_facts(connection, str(url))
        version = version_of(facts)
        if version < OLDEST[facts.flavor]:
            return [
                error(
                    "version",
                    f"{facts.version_text} at {url} is too old",
                    "upgrade to MariaDB 10.6 or later, or to MySQL 8.0 or later",
                )
            ]
        databases = [mapping.db for mapping in config.table_mappings]
        if config.source.capture == "trigger":
            findings = judge_trigger_server(facts, databases, only=len(config.source.url) == 1)
            findings += judge_locks(facts, config.source.trigger)
            if config.source.trigger.transport == "udf":
                findings += judge_udf(udf_facts(connection, str(url)))
            findings += judge_installed(config, connection) if tables else []
            return findings + (_tables(config, connection, facts) if tables else [])
        findings = judge_server(facts, config.server_id, databases)
        findings += judge_reading_account(facts)
        if len(config.source.url) > 1 and (facts.on("read_only") or facts.on("super_read_only")):
            findings.append(ok("read-only", f"{url} is read-only: a candidate once it is promoted"))
        elif config.source.write_url is None:
            findings += judge_writing_account(facts, needed=False)
        if tables:
            findings += _tables(config, connection, facts)
    return findings


def _tables(config: Config, connection: Any, facts: ServerFacts) -> list[Finding]:
    return judge_tables(config, table_facts(connection, config), facts.flavor, version_of(facts))


def _writer(config: Config, url: Url) -> list[Finding]:
    with closing(_connect(config, url)) as connection:
        return list(judge_writing_account(server_facts(connection, str(url)), needed=True))


def _connect(config: Config, url: Url) -> Any:
    return connect(settings_of(config.source, url))
