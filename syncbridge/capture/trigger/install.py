"""Putting triggers on the source and taking them off again. IO: one connection.

New triggers are made before old ones go: for a moment a change is written twice, which does no harm; the other way
round it would not be written at all. Triggers of anybody else are never touched. Nobody's statement waits for us for
long: what a transaction of somebody keeps us from is tried again after a pause, in which others get their turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

import pymysql

from syncbridge.capture.connection import source_error, source_errors
from syncbridge.capture.sql import quote
from syncbridge.capture.trigger.failing import gone_accounts, lacks_outbox
from syncbridge.capture.trigger.render import Trigger, outbox_statements, outbox_table, prefix
from syncbridge.errors import ConfigError, TransientError

_NO_TRIGGER_PRIVILEGE = {1142, 1227, 1044}
_BINLOG_NEEDS_SUPER = 1419
_LOCK_TIMEOUT = 1205
#: Seconds that a statement of ours waits for a table, and others behind it; how often it is tried; the pause between.
_PATIENCE = 1
_ATTEMPTS = 10
_PAUSE = 1.0


class Installed(NamedTuple):
    """A trigger of ours that the source has."""

    db: str
    table: str
    name: str


class Plan(NamedTuple):
    """What install() would do."""

    missing: list[Trigger]
    stale: list[Installed]
    right: list[Installed]
    #: Those that would be right, but whose definer, an account, is gone: they fail every write.
    orphans: dict[Installed, str]
    #: Triggers are there, but the outbox is not: they fail every write.
    no_outbox: bool


def installed(connection: Any, pipeline: str) -> dict[Installed, str]:
    """The triggers of this pipeline, whatever table they are on, with their definers."""
    sql = (
        "SELECT trigger_schema, event_object_table, trigger_name, definer FROM information_schema.triggers "
        "WHERE LEFT(trigger_name, %s) = %s ORDER BY 1, 2, 3"
    )
    own = prefix(pipeline)
    with source_errors(), connection.cursor() as cursor:
        cursor.execute(sql, (len(own), own))
        return {Installed(str(db), str(table), str(name)): str(definer) for db, table, name, definer in cursor}


def plan(connection: Any, pipeline: str, wanted: list[Trigger]) -> Plan:
    """Compare what is there with what should be."""
    there = installed(connection, pipeline)
    gone = gone_accounts(connection, set(there.values()))
    places = {trigger.where for trigger in wanted}
    in_place = [one for one in there if one in places]
    return Plan(
        missing=[trigger for trigger in wanted if trigger.where not in there],
        stale=[one for one in there if one not in places],
        right=[one for one in in_place if there[one] not in gone],
        orphans={one: there[one] for one in in_place if there[one] in gone},
        no_outbox=bool(there) and lacks_outbox(connection, pipeline),
    )


def install(connection: Any, pipeline: str, wanted: list[Trigger]) -> Plan:
    """Make the outbox and the triggers that are missing or fail, remove those that are stale. Raises ConfigError."""
    found = plan(connection, pipeline, wanted)
    with connection.cursor() as cursor:
        # A trigger keeps the sql_mode and the character sets of the session that made it.
        cursor.execute(f"SET SESSION sql_mode = '', lock_wait_timeout = {_PATIENCE}, NAMES utf8mb4")
        for statement in outbox_statements(pipeline):
            _execute(cursor, statement)
        # A name is given once in a database: what went with a table that was renamed holds one that is wanted now.
        names = {(trigger.db, trigger.name) for trigger in found.missing}
        in_the_way = [one for one in found.stale if (one.db, one.name) in names]
        _drop(cursor, in_the_way)
        for trigger in found.missing:
            _execute(cursor, trigger.statement)
        for trigger in wanted:
            if trigger.where in found.orphans:
                _make_again(cursor, trigger)
        _drop(cursor, [one for one in found.stale if one not in in_the_way])
    return found


def remove(connection: Any, pipeline: str, *, sees_all: bool) -> list[Installed]:
    """Take every trigger of this pipeline off, then its outbox, then our schema where nothing else is in it.

    `sees_all`: no trigger is hidden from the account. Else the outbox stays, because without it a hidden trigger would
    fail the user's statements; it is emptied, which tells the next capture to read every table again.
    """
    there = list(installed(connection, pipeline))
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION lock_wait_timeout = {_PATIENCE}")
        _drop(cursor, there)
        if not sees_all:
            if not lacks_outbox(connection, pipeline):
                _execute(cursor, f"TRUNCATE TABLE {outbox_table(pipeline)}")
            return there
        _execute(cursor, f"DROP TABLE IF EXISTS {outbox_table(pipeline)}")
        cursor.execute("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'syncbridge'")
        if not cursor.fetchone()[0]:
            _execute(cursor, "DROP DATABASE IF EXISTS syncbridge")
    return there


def _drop(cursor: Any, triggers: Iterable[Installed]) -> None:
    for one in triggers:
        _execute(cursor, f"DROP TRIGGER IF EXISTS {quote(one.db)}.{quote(one.name)}")


def _make_again(cursor: Any, trigger: Trigger) -> None:
    """The same trigger of ours instead of another's. Another name bridges the moment in which there is none."""
    stopgap = f"{trigger.place}_again"
    bridge = Installed(trigger.db, trigger.table, stopgap)
    _drop(cursor, [bridge])  # from an attempt that was broken off
    _execute(cursor, trigger.statement.replace(quote(trigger.name), quote(stopgap), 1))
    _drop(cursor, [Installed(*trigger.where)])
    _execute(cursor, trigger.statement)
    _drop(cursor, [bridge])


def _execute(cursor: Any, statement: str) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            cursor.execute(statement)
            return
        except pymysql.MySQLError as error:
            if error.args[0] != _LOCK_TIMEOUT or attempt == _ATTEMPTS:
                _refuse(error)
        time.sleep(_PAUSE)


def _refuse(error: pymysql.MySQLError) -> NoReturn:
    """Raises ConfigError, TransientError or what else source_errors makes of it."""
    number = error.args[0] if error.args else 0
    if number == _LOCK_TIMEOUT:
        raise TransientError(
            "a transaction uses the table for too long", hint="nothing is half done: run it again when it has ended"
        ) from error
    if number == _BINLOG_NEEDS_SUPER:
        raise ConfigError(
            "the source lets only SUPER accounts create or drop triggers while its binlog is on",
            hint="SET GLOBAL log_bin_trust_function_creators=ON, or use an account with SUPER",
        ) from error
    if number in _NO_TRIGGER_PRIVILEGE:
        raise ConfigError(
            f"the account may not do this: {error.args[1]}",
            hint="GRANT TRIGGER ON each mapped database, and CREATE, DROP, SELECT, INSERT, DELETE ON syncbridge.*"
            " TO the account; or run the output of syncbridge triggers render as another one",
        ) from error
    raise source_error(error) from error
