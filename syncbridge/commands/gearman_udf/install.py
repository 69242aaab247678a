"""Putting the UDF library into a server and taking it out again. IO: the server's plugin_dir, two connections.

A server keeps a library mapped as long as one function of it is in use: the file is never written over, another one
takes its name, and all functions go before the first comes back. In between, a statement whose trigger calls one of
them would fail; so those tables are locked for that moment, and the statement waits.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pymysql

from syncbridge.capture.connection import source_errors
from syncbridge.commands.gearman_udf.server import UdfFacts, stats_of, table_name
from syncbridge.commands.gearman_udf.source import LIBRARY, folder, functions, statements, version
from syncbridge.errors import ConfigError, PermanentError, SyncbridgeError

IN_PLACE, INSTALLED, UPGRADED, BY_HAND = "in place", "installed", "upgraded", "by hand"

#: How long functions in use may keep the older library in the server, seconds.
RELEASE = 5.0
#: A transaction that has used a table keeps it from being locked; statements that come later wait behind us so long.
_LOCK_PATIENCE, _LOCK_ATTEMPTS = 1, 3
_LOCK_TIMEOUT, _CANNOT_LOAD, _READ_ONLY = 1205, 1126, 1290
_DENIED = (1044, 1142, 1227)


class Step(NamedTuple):
    """What somebody else has to run."""

    who: str
    commands: tuple[str, ...]


class Outcome(NamedTuple):
    """What became of one server."""

    address: str
    #: IN_PLACE, INSTALLED, UPGRADED or BY_HAND.
    state: str
    library: str
    version: int
    #: BY_HAND: why, and what to run.
    reason: str = ""
    steps: tuple[Step, ...] = ()


def complete(facts: UdfFacts) -> bool:
    """Whether the server has this very library, or a later one, and all of its functions."""
    if facts.loaded is None or facts.loaded < version():
        return False
    return facts.libraries is None or {name for name, file in facts.libraries.items() if file == LIBRARY} >= functions()


def install(
    facts: UdfFacts, connect: Callable[[], Any], build: Callable[[], Path], client: str, *, copied: bool = False
) -> Outcome:
    """Make the server have the library and its functions, where this machine and the account can.

    `connect` opens connections to it, `build` gives the path of the compiled library, `client` is the mysql command
    line for people. `copied`: the file lies in plugin_dir already. Raises SyncbridgeError.
    """
    if complete(facts):
        return Outcome(facts.address, IN_PLACE, str(facts.library), facts.loaded or 0)
    if facts.without_grant_tables:
        raise ConfigError(
            f"{facts.address} runs with --skip-grant-tables, and such a server loads no functions",
            hint="start it without that option",
        )
    if reason := _not_possible(facts, copied=copied):
        return Outcome(facts.address, BY_HAND, str(facts.library), version(), reason, _steps(facts, client, copied))
    with closing(connect()) as connection:
        try:
            _without_binlog(connection, facts)
        except pymysql.MySQLError:
            reason = f"{facts.account} may not SET sql_log_bin = 0, and replicas without the library would stop"
            return Outcome(facts.address, BY_HAND, str(facts.library), version(), reason, _steps(facts, client, copied))
        fresh = None if copied else build()
        with _locked(facts, connect):
            try:
                with _in_place(facts.library, fresh):
                    _replace_functions(connection, facts)
            except SyncbridgeError:
                _make_again(connection, facts)
                raise
    return Outcome(facts.address, INSTALLED if facts.loaded is None else UPGRADED, str(facts.library), version())


def remove(facts: UdfFacts, connect: Callable[[], Any]) -> list[str]:
    """Drop every function of ours, and delete the library where this machine can. The functions' names."""
    gone = sorted(functions() if facts.libraries is None else functions() & facts.libraries.keys())
    with closing(connect()) as connection, source_errors(), connection.cursor() as cursor:
        _without_binlog(connection, facts)
        for statement in statements("remove.sql"):
            cursor.execute(statement)
    if facts.local and os.access(facts.plugin_dir, os.W_OK):
        facts.library.unlink(missing_ok=True)
    return gone


# Whether it can be done from here


def _not_possible(facts: UdfFacts, *, copied: bool) -> str:
    """Why somebody else has to do it; empty where nothing speaks against trying."""
    if not copied and not facts.local:
        return f"the server runs on another machine, {facts.variables.get('hostname')}"
    if not copied and not os.access(facts.plugin_dir, os.W_OK | os.X_OK):
        return f"this user may not write to {facts.plugin_dir}"
    if facts.unprivileged:
        return f"{facts.account} lacks {' and '.join(facts.unprivileged)} on mysql.func"
    if facts.has("super_read_only"):
        return "the server is read-only"
    return ""


def _steps(facts: UdfFacts, client: str, copied: bool) -> tuple[Step, ...]:
    """The commands that do it by hand, each with who can run them."""
    source = shlex.quote(str(folder()))
    plugin_dir = shlex.quote(str(facts.plugin_dir))
    steps = []
    if not copied:
        make = f"make -C {source} install PLUGIN_DIR={plugin_dir}"
        if facts.local:
            steps.append(Step(f"who may write to {facts.plugin_dir}, such as root", (make,)))
        else:
            host = shlex.quote(facts.variables.get("hostname") or "its-machine")
            remote = f"make -C /tmp/syncbridge_udf install PLUGIN_DIR={plugin_dir}"
            commands = (f"scp -r {source} root@{host}:/tmp/syncbridge_udf", f"ssh root@{host} {shlex.quote(remote)}")
            steps.append(Step(f"root on {host}, where the server runs", commands))
    # The statement would reach replicas, which stop where they have no such library.
    logged = "--init-command='SET SESSION sql_log_bin = 0' " if facts.has("log_bin") else ""
    words = client.partition(" ")
    command = f"{words[0]} {logged}{words[2]} < {shlex.quote(str(folder() / 'install.sql'))}"
    account = "a database account with INSERT and DELETE on mysql.*"
    steps.append(Step(account + (", and SUPER" if logged else ""), (command,)))
    return tuple(steps)


def _without_binlog(connection: Any, facts: UdfFacts) -> None:
    """CREATE FUNCTION would go to the replicas, too: one that lacks the library stops there."""
    if facts.has("log_bin"):
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")


# The file


@contextmanager
def _in_place(library: Path, fresh: Path | None) -> Iterator[None]:
    """`fresh` (None: nothing) takes the library's place; what was there comes back if the block raises."""
    if fresh is None:
        yield
        return
    new, old = (library.with_name(f".{library.name}.{word}") for word in ("new", "old"))
    try:
        old.unlink(missing_ok=True)
        if library.exists():
            os.link(library, old)
        shutil.copyfile(fresh, new)
        new.chmod(0o755)
        new.replace(library)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}", hint=f"make {library.parent} writable") from error
    try:
        yield
    except BaseException:
        if old.exists():
            old.replace(library)
        raise
    finally:
        old.unlink(missing_ok=True)


# The functions


@contextmanager
def _locked(facts: UdfFacts, connect: Callable[[], Any]) -> Iterator[None]:
    """Nobody writes to the tables whose triggers call the functions. Raises PermanentError, ConfigError."""
    if not facts.callers or (facts.loaded is None and not facts.foreign()):  # their writes fail anyway
        yield
        return
    with closing(connect()) as connection, source_errors(), connection.cursor() as cursor:
        _patiently(cursor, facts, "LOCK TABLES " + ", ".join(f"{table_name(*name)} WRITE" for name in facts.callers))
        yield


def _patiently(cursor: Any, facts: UdfFacts, statement: str) -> None:
    """Run what waits for transactions that have used the callers' tables. Raises PermanentError."""
    cursor.execute(f"SET SESSION lock_wait_timeout = {_LOCK_PATIENCE}")
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            cursor.execute(statement)
            return
        except pymysql.MySQLError as error:
            if error.args[0] in _DENIED:
                raise ConfigError(
                    f"{facts.account} may not run {statement.split()[0]} TABLES where triggers call these functions",
                    hint="GRANT RELOAD ON *.*, and SELECT, LOCK TABLES ON their databases, TO the account",
                ) from error
            if error.args[0] != _LOCK_TIMEOUT:
                raise
            if attempt == _LOCK_ATTEMPTS - 1:
                names = ", ".join(".".join(name) for name in facts.callers)
                raise PermanentError(
                    f"a transaction that has used one of {names} stands in the way", hint="end it, and try again"
                ) from error
            time.sleep(0.1)


def _replace_functions(connection: Any, facts: UdfFacts) -> None:
    """All away, all made anew, a call, and what was set is set again. Raises ConfigError, PermanentError."""
    deadline = time.monotonic() + RELEASE
    with source_errors(), connection.cursor() as cursor:
        cursor.execute(f"SET SESSION lock_wait_timeout = {_LOCK_ATTEMPTS}")  # DDL elsewhere does not hold us for long
        while True:
            _forget_unloaded(cursor, facts)
            for statement in statements("install.sql"):
                _run(cursor, statement, facts)
            stats = stats_of(connection)
            if stats is not None and stats.get("version") == version():
                break
            if time.monotonic() > deadline:
                raise PermanentError(
                    f"{facts.address} still has an older library in use" if stats else f"{LIBRARY} does not answer",
                    hint="restart the server: its next start loads the new one",
                )
            time.sleep(0.1)
        _restore(cursor, facts.stats)
        if facts.callers and facts.loaded is None:
            # Triggers that were opened meanwhile took the names for stored functions.
            _patiently(cursor, facts, "FLUSH TABLES " + ", ".join(table_name(*name) for name in facts.callers))


def _make_again(connection: Any, facts: UdfFacts) -> None:
    """The functions of the library that was there, after another could not be loaded: triggers may call them."""
    if facts.loaded is not None:
        with suppress(pymysql.MySQLError), connection.cursor() as cursor:
            for statement in statements("install.sql"):
                cursor.execute(statement)
            _restore(cursor, facts.stats)


def _forget_unloaded(cursor: Any, facts: UdfFacts) -> None:
    """Functions that mysql.func remembers although no library answers: DROP FUNCTION may not know them."""
    if facts.loaded is None and facts.libraries:
        for statement in statements("remove.sql"):
            cursor.execute(statement)
        cursor.executemany("DELETE FROM mysql.func WHERE name = %s", [(name,) for name in sorted(functions())])


def _run(cursor: Any, statement: str, facts: UdfFacts) -> None:
    try:
        cursor.execute(statement)
    except pymysql.MySQLError as error:
        if error.args[0] == _CANNOT_LOAD:
            raise ConfigError(
                f"{facts.address} cannot load {facts.library}: {error.args[1]}",
                hint="the server must be able to read it, and it must be built on the server's own system",
            ) from error
        if error.args[0] == _READ_ONLY:
            raise ConfigError(f"{facts.address} is read-only", hint="try again once it takes writes") from error
        raise


def _restore(cursor: Any, stats: dict[str, Any]) -> None:
    """Lists of servers and time-outs, which went with the older library."""
    for name, value in stats.get("options", {}).items():
        cursor.execute("SELECT gman_option_set(%s, %s)", (name, value))
    lists: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for one in stats.get("servers", []):  # a name is there once for each of its addresses
        lists[one["function"]][one["server"]] = None
    for function, servers in lists.items():
        cursor.execute("SELECT gman_servers_set(%s, %s)", (",".join(servers), function))
