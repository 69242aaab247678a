"""Findings of trigger capture about who waits for whom. Pure: facts in, findings out.

Capture's own sessions set isolation level, autocommit and lock waits for themselves, so what is judged here is what
the server's defaults do to users. Not judged, since it changes nothing for either side: innodb_rollback_on_timeout (a
trigger's row goes back with its statement or with its transaction), innodb_snapshot_isolation (we change no row that
we have read before).
"""

from __future__ import annotations

from collections.abc import Iterator

from syncbridge.commands.checks.finding import Finding, ok, warning
from syncbridge.commands.checks.source import ServerFacts, set_variable
from syncbridge.config.model import TriggerConfig

#: What is judged here, for the gatherer.
VARIABLES = (
    "transaction_isolation", "tx_isolation", "autocommit", "innodb_autoinc_lock_mode", "innodb_lock_wait_timeout",
)  # fmt: skip


def judge_locks(facts: ServerFacts, trigger: TriggerConfig) -> list[Finding]:
    """Defaults of the server under which users wait longer, or fail, because of us."""
    findings = [*_isolation(facts), *_autocommit(facts), *_counter(facts)]
    if trigger.transport == "udf" and trigger.confirm:
        findings += _patience(facts)
    return findings or [ok("locks", "isolation and lock settings suit triggers")]


def _isolation(facts: ServerFacts) -> Iterator[Finding]:
    level = facts.variables.get("transaction_isolation", facts.variables.get("tx_isolation", ""))
    if level.upper() == "SERIALIZABLE":
        yield warning(
            "isolation",
            "transaction_isolation is SERIALIZABLE: reading rows locks them, so changes wait for every reader and"
            " Redis shows them later",
            "SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ;  -- and transaction_isolation = REPEATABLE-READ"
            " under [mysqld] in my.cnf",
        )


def _autocommit(facts: ServerFacts) -> Iterator[Finding]:
    if "autocommit" in facts.variables and not facts.on("autocommit"):
        yield warning(
            "autocommit",
            "autocommit is OFF: a session that does not say COMMIT keeps its rows locked, and Redis does not see them",
            set_variable(facts, "autocommit", "ON"),
        )


def _counter(facts: ServerFacts) -> Iterator[Finding]:
    if facts.variables.get("innodb_autoinc_lock_mode") == "0":
        yield warning(
            "autoinc-lock-mode",
            "innodb_autoinc_lock_mode is 0: statements on all mapped tables wait for one another, since each holds the"
            " outbox's counter until it ends",
            "innodb_autoinc_lock_mode = 2  under [mysqld] in my.cnf, then restart",
        )


def _patience(facts: ServerFacts) -> Iterator[Finding]:
    """MariaDB knows 0: not to wait at all."""
    if facts.variables.get("innodb_lock_wait_timeout") == "0":
        yield warning(
            "lock-wait-timeout",
            "innodb_lock_wait_timeout is 0: a user's change fails if it comes in the moment in which capture reads its"
            " row under a lock",
            set_variable(facts, "innodb_lock_wait_timeout", "50") + "; or trigger: {transport: outbox}",
        )
