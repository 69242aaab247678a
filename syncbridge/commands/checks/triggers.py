"""Findings of trigger capture: the server and the account, and whether the triggers are in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from syncbridge.capture.trigger.primaries import several_primaries
from syncbridge.capture.trigger.render import outbox_table
from syncbridge.commands.checks.finding import Finding, error, ok, warning
from syncbridge.commands.checks.privileges import Privileges
from syncbridge.commands.checks.source import ServerFacts
from syncbridge.commands.triggers import compare, failing
from syncbridge.config import Config
from syncbridge.errors import ConfigError


def judge_trigger_server(facts: ServerFacts, databases: Sequence[str], *, only: bool = True) -> list[Finding]:
    """`databases`: those of the mapped tables. `only`: source.url names no other server."""
    findings = [ok("server", f"{facts.version_text} at {facts.address} answers")]
    for judge in (_primaries, _trust, _durability):
        findings += judge(facts)
    findings += _writes(facts, only=only)
    findings += _account(facts, databases)
    return findings


def judge_installed(config: Config, connection: Any) -> list[Finding]:
    """Whether every mapped table has the triggers that it should have, and none besides."""
    try:
        found = compare(connection, config)
    except ConfigError as failure:
        return [error("triggers", str(failure), failure.hint)]
    missing = {f"{trigger.db}.{trigger.table}" for trigger in found.missing}
    stale = {f"{trigger.db}.{trigger.table}" for trigger in found.stale} - missing
    findings = [error("triggers-fail", text, "syncbridge triggers install") for text in failing(found, config)]
    if missing:
        findings.append(
            error(
                "triggers",
                f"triggers are missing on {', '.join(sorted(missing))}, or older than the table",
                "syncbridge triggers install",
            )
        )
    if stale:
        findings.append(
            warning(
                "triggers-stale",
                f"{', '.join(sorted(stale))} still has triggers that nothing needs any more: its changes are written"
                " for nobody, or twice",
                "syncbridge triggers install",
            )
        )
    return findings or [ok("triggers", f"{len(found.right)} triggers are in place")]


def _primaries(facts: ServerFacts) -> Iterator[Finding]:
    if found := several_primaries(facts.variables):
        yield error(
            "several-primaries",
            f"{found}: several servers take writes, and an outbox cannot order them",
            "write capture: binlog",
        )


def _writes(facts: ServerFacts, *, only: bool) -> Iterator[Finding]:
    if not (facts.on("read_only") or facts.on("super_read_only")):
        return
    if only:
        yield warning(
            "read-only",
            f"{facts.address} is read-only: no trigger fires there, and what capture has read cannot be deleted",
            "name the primary in source.url",
        )
    else:
        yield ok("read-only", f"{facts.address} is read-only: a candidate once it is promoted")


def _trust(facts: ServerFacts) -> Iterator[Finding]:
    """Only for making triggers: without a binlog, or with SUPER, nothing is in the way."""
    held = Privileges(facts.grants)
    if facts.on("log_bin") and not facts.on("log_bin_trust_function_creators") and held.missing(["SUPER"]):
        yield warning(
            "trigger-creators",
            "the account cannot create triggers while the binlog is on",
            "SET GLOBAL log_bin_trust_function_creators=ON, or install the triggers with an account that has SUPER",
        )


def _durability(facts: ServerFacts) -> Iterator[Finding]:
    if facts.variables.get("innodb_flush_log_at_trx_commit", "1") != "1":
        yield warning(
            "durability",
            "a crash of the source's host may take back transactions that Redis shows already",
            "SET GLOBAL innodb_flush_log_at_trx_commit=1",
        )


def _account(facts: ServerFacts, databases: Sequence[str]) -> Iterator[Finding]:
    held = Privileges(facts.grants)
    lacking = [name for name in ("SELECT", "INSERT", "DELETE") if held.missing([name], "syncbridge")]
    if lacking:
        yield error(
            "outbox-privileges",
            f"the account cannot {', '.join(lacking)} in {outbox_table('<name>').replace('`', '')}",
            f"GRANT SELECT, INSERT, DELETE, CREATE, DROP ON syncbridge.* TO {facts.account}",
        )
    if held.missing(["PROCESS"]):
        yield warning(
            "process-privilege",
            f"{facts.account} lacks PROCESS: a TRUNCATE, which fires no trigger, goes unnoticed",
            f"GRANT PROCESS ON *.* TO {facts.account}; or syncbridge snapshot --table after each TRUNCATE",
        )
    for database in dict.fromkeys(databases):
        if held.missing(["TRIGGER"], database):
            yield warning(
                "trigger-privilege",
                f"the account cannot see or make triggers in {database}",
                f"GRANT TRIGGER ON `{database}`.* TO {facts.account}",
            )
