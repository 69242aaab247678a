"""What makes triggers that are in place fail their users' statements. IO: one connection, reads only.

Says nothing of what the account may not see: a wrong alarm would be worse.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pymysql

from syncbridge.capture.connection import source_error
from syncbridge.capture.trigger.render import outbox_table

#: Unknown database, unknown table.
_NO_TABLE = {1049, 1146}
#: Access to a database, a table or a column denied; a view (MariaDB's mysql.user is one) that lacks what it needs.
_MAY_NOT_LOOK = {1044, 1142, 1143, 1356, 1449}


def lacks_outbox(connection: Any, pipeline: str) -> bool:
    """Whether the outbox surely is not there. Asks the table: what the catalogue shows depends on the rights."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(f"SELECT 1 FROM {outbox_table(pipeline)} LIMIT 0")  # noqa: S608 - our own name
        except pymysql.MySQLError as error:
            if error.args[0] not in _NO_TABLE | _MAY_NOT_LOOK:
                raise source_error(error) from error
            return error.args[0] in _NO_TABLE
    return False


def gone_accounts(connection: Any, accounts: Iterable[str]) -> set[str]:
    """Those of these `user@host` that surely do not exist: triggers run with the rights of the account that made them.

    A name without a host is a role's.
    """
    with connection.cursor() as cursor:
        try:
            cursor.execute("SELECT user, host FROM mysql.user")
        except pymysql.MySQLError as error:
            if error.args[0] not in _MAY_NOT_LOOK:
                raise source_error(error) from error
            return set()
        there = {f"{_text(user)}@{_text(host)}".lower() for user, host in cursor.fetchall()}
    return {one for one in accounts if "@" in one and not one.endswith("@") and one.lower() not in there}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
