"""Findings of trigger capture: the server and the account, and whether the triggers are in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from syncbridge.capture.trigger.render import outbox_table
from syncbridge.commands.checks.finding import Finding, error, ok, warning
from syncbridge.commands.checks.privileges import Privileges
from syncbridge.commands.checks.source import ServerFacts
from syncbridge.commands.triggers import compare
from syncbridge.config import Config
from syncbridge.errors import ConfigError

#: Settings under which several servers take writes, whose ids nobody can order.
_SEVERAL_PRIMARIES = {"wsrep_on": "ON", "group_replication_single_primary_mode": "OFF"}


def judge_trigger_server(facts: ServerFacts, databases: Sequence[str]) -> list[Finding]:
    """`databases`: those of the mapped tables."""
    findings = [ok("server", f"{facts.version_text} at {facts.address} answers")]
    for judge in (_primaries, _trust, _durability):
        findings += judge(facts)
    findings += _account(facts, databases)
    return findings


def judge_installed(config: Config, connection: Any) -> list[Finding]:
    """Whether every mapped table has the triggers that it should have."""
    try:
        found = compare(connection, config)
    except ConfigError as failure:
        return [error("triggers", str(failure), failure.hint)]
    missing = sorted({f"{trigger.db}.{trigger.table}" for trigger in found.missing})
    if missing:
        return [
            error("triggers", f"triggers are missing or stale on {', '.join(missing)}", "syncbridge triggers install")
        ]
    return [ok("triggers", f"{len(found.right)} triggers are in place")]


def _primaries(facts: ServerFacts) -> Iterator[Finding]:
    for name, refused in _SEVERAL_PRIMARIES.items():
        if facts.variables.get(name, "").upper() == refused:
            yield error(
                "several-primaries",
                f"{name} is {refused}: several servers take writes, and an outbox cannot order them",
                "write capture: binlog",
            )


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
    for database in dict.fromkeys(databases):
        if held.missing(["TRIGGER"], database):
            yield warning(
                "trigger-privilege",
                f"the account cannot see or make triggers in {database}",
                f"GRANT TRIGGER ON `{database}`.* TO {facts.account}",
            )
