"""What an account may do, read out of SHOW GRANTS. Pure. Roles are the gatherer's to expand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_GRANT = re.compile(
    r"GRANT (?P<what>.+?) ON (?:TABLE )?(?P<db>`(?:[^`]|``)+`|\*)\.(?P<table>`(?:[^`]|``)+`|\*) TO ", re.S
)
#: MariaDB's old and new names of one privilege.
_SYNONYMS = {"BINLOG MONITOR": "REPLICATION CLIENT", "REPLICATION REPLICA": "REPLICATION SLAVE"}


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges on `db`.`table`; "*" for all. `db` is a LIKE pattern, as GRANT takes it."""

    privileges: frozenset[str]
    db: str
    table: str

    def covers(self, db: str, table: str) -> bool:
        return (self.db == "*" or _like(self.db, db)) and self.table in ("*", table)


class Privileges:
    """The sum of an account's grants."""

    def __init__(self, lines: Iterable[str]) -> None:
        lines = list(lines)
        self.grants = [grant for line in lines if (grant := _parse(line)) is not None]
        #: MySQL's partial revokes: what is granted on everything, but not there.
        self._taken_back = any(line.startswith("REVOKE ") for line in lines)

    def missing(self, wanted: Iterable[str], db: str = "*", table: str = "*") -> list[str]:
        """Those of `wanted` that the account lacks on db.table ("*": on everything)."""
        held: set[str] = set()
        for grant in self.grants:
            if (grant.db, grant.table) == ("*", "*") or (db != "*" and grant.covers(db, table)):
                held |= grant.privileges
        if "ALL PRIVILEGES" in held or "ALL" in held:
            return []
        return [privilege for privilege in wanted if privilege not in held]

    def everywhere(self, privilege: str) -> bool:
        """Whether the account surely has it on whatever there is."""
        return not self._taken_back and not self.missing([privilege])


def _parse(line: str) -> Grant | None:
    match = _GRANT.match(line)
    if match is None:  # a role, a PROXY
        return None
    # A privilege on some columns only is none on the table.
    names = [part.strip().upper() for part in re.sub(r"\w+ \([^)]*\)", "", match["what"]).split(",")]
    privileges = frozenset(_SYNONYMS.get(name, name) for name in names if name)
    return Grant(privileges, _unquote(match["db"]), _unquote(match["table"]))


def _unquote(name: str) -> str:
    return name if name == "*" else name[1:-1].replace("``", "`")


def _like(pattern: str, text: str) -> bool:
    expression = re.sub(
        r"\\(.)|(%)|(_)|(.)",
        lambda m: ".*" if m[2] else "." if m[3] else re.escape(m[1] or m[4]),
        pattern,
        flags=re.S,
    )
    return re.fullmatch(expression, text, re.S) is not None
