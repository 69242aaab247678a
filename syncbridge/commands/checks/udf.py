"""Findings of `transport: udf`: the library in plugin_dir, its functions, and who may put libraries there. Pure."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from syncbridge.commands.checks.finding import Finding, error, ok, warning
from syncbridge.commands.gearman_udf.install import complete
from syncbridge.commands.gearman_udf.server import UdfFacts
from syncbridge.commands.gearman_udf.source import functions, version

_INSTALL = "syncbridge udf install"


def judge_udf(facts: UdfFacts) -> list[Finding]:
    """One server that triggers send jobs from."""
    findings = [*_functions(facts)]
    if not complete(facts):
        findings += _privileges(facts)
    findings += _file(facts)
    findings += _secure(facts)
    return findings


def _functions(facts: UdfFacts) -> Iterator[Finding]:
    foreign = ", ".join(facts.foreign())
    missing = sorted(functions() - (facts.libraries or {}).keys()) if facts.libraries is not None else []
    if facts.without_grant_tables:
        yield error(
            "udf-functions",
            f"{facts.address} runs with --skip-grant-tables, and such a server loads no functions",
            "start it without that option",
        )
    elif foreign:
        yield error(
            "udf-functions",
            f"{facts.address} has Gearman functions of {foreign}, which connect at every call and may hang",
            f"{_INSTALL}  -- it replaces them, and triggers that call them go on",
        )
    elif facts.loaded is None:
        yield error("udf-functions", f"{facts.address} lacks the UDF library: every change takes the outbox", _INSTALL)
    elif facts.loaded < version():
        yield warning(
            "udf-version",
            f"{facts.address} has version {facts.loaded} of the UDF library, and this is {version()}",
            _INSTALL,
        )
    elif missing:
        yield warning("udf-functions", f"{facts.address} lacks {', '.join(missing)} of the UDF library", _INSTALL)
    else:
        yield ok("udf-functions", f"{facts.address} has version {facts.loaded} of the UDF library")


def _privileges(facts: UdfFacts) -> Iterator[Finding]:
    if facts.unprivileged:
        yield warning(
            "udf-privileges",
            f"{facts.account} may not make functions: it lacks {', '.join(facts.unprivileged)} on mysql.func",
            f"{_INSTALL}  -- it prints who has to run what",
        )


def _file(facts: UdfFacts) -> Iterator[Finding]:
    """Only this machine's files can be looked at."""
    if not facts.plugin_dir.name:
        yield error("plugin-dir", f"{facts.address} has no plugin_dir", "plugin_dir = …  under [mysqld] in my.cnf")
    elif facts.local and facts.loaded is not None and not facts.library.exists():
        yield warning(
            "plugin-dir",
            f"{facts.library} is gone: the server keeps the functions until its next start, then loses them",
            f"syncbridge udf remove --force, then {_INSTALL}",
        )
    elif facts.local:
        yield ok("plugin-dir", f"libraries of {facts.address} lie in {facts.plugin_dir}")


def _secure(facts: UdfFacts) -> Iterator[Finding]:
    """SELECT … INTO DUMPFILE writes files as the server's user: where that reaches plugin_dir, FILE is every right."""
    where = facts.variables.get("secure_file_priv", "NULL")
    reaches = where == "" or (where.upper() != "NULL" and facts.plugin_dir.is_relative_to(where))
    if not facts.local:
        return
    if reaches and _writable_by_owner_of(Path(facts.variables.get("datadir", "/")), facts.plugin_dir):
        yield warning(
            "secure-file-priv",
            f"an account with FILE can put libraries into {facts.plugin_dir}: the server itself may write there, and"
            f" secure_file_priv is {where!r}",
            f"chown -R root: {facts.plugin_dir} && chmod go-w {facts.plugin_dir}; or secure_file_priv = NULL  under"
            " [mysqld] in my.cnf, then restart",
        )


def _writable_by_owner_of(data: Path, folder: Path) -> bool:
    """Whether the server's user, who owns its data, may write to `folder`. Root may, and is no finding of ours."""
    try:
        user, there = data.stat().st_uid, folder.stat()
    except OSError:
        return False
    return bool(there.st_mode & stat.S_IWOTH) or (user != 0 and there.st_uid == user)
