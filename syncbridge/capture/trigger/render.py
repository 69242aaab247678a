"""The SQL of trigger capture: which triggers a table needs, and their text. Pure: schemas in, statements out.

A trigger's name ends in a digest of its text, so that one glance at the catalogue tells whether it is of today.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from syncbridge.capture.schema import TableSchema
from syncbridge.capture.sql import parse_statements, quote
from syncbridge.capture.trigger.columns import json_object, json_row, literal
from syncbridge.event import CREATE, DELETE, UPDATE
from syncbridge.seams import hints_function

#: Rises when what triggers write changes its meaning.
FORMAT = 1

#: What a trigger fires after: the letters in its name, the op it reports, and which sides of the row there are.
_ACTIONS = {
    "INSERT": ("ai", CREATE, ("NEW",)),
    "UPDATE": ("au", UPDATE, ("OLD", "NEW")),
    "DELETE": ("ad", DELETE, ("OLD",)),
}


class Trigger(NamedTuple):
    """One trigger as it should be."""

    db: str
    table: str
    #: `syncbridge_<pipeline>_<table digest>_<ai|au|ad>_<text digest>`: at most 64 characters.
    name: str
    statement: str

    @property
    def where(self) -> tuple[str, str, str]:
        """What makes it the one that is wanted: RENAME TABLE takes triggers along, names and all, to another table."""
        return self.db, self.table, self.name

    @property
    def place(self) -> str:
        """The name without the digest of the text: what it has in common with its older and newer forms."""
        return self.name.rpartition("_")[0]


@cache
def triggers_folder() -> Path:
    """Where the SQL and the UDF library's source are: in a checkout, or where the package was installed."""
    checkout = Path(__file__).parents[3] / "triggers"
    return checkout if (checkout / "outbox.sql").exists() else Path(sys.prefix) / "share" / "syncbridge" / "triggers"


@cache
def _templates(transport: str) -> dict[str, str]:
    return parse_statements((triggers_folder() / f"{transport}.sql").read_text(encoding="utf-8"))


def outbox_table(pipeline: str) -> str:
    """The pipeline's outbox, quoted."""
    return f"syncbridge.{quote('outbox_' + pipeline)}"


def outbox_statements(pipeline: str) -> list[str]:
    """Create the schema and the outbox where they are missing."""
    templates = _templates("outbox")
    return [templates["create-schema"], templates["create-outbox"].format(outbox=outbox_table(pipeline))]


def prefix(pipeline: str) -> str:
    """What the names of this pipeline's triggers begin with."""
    return f"syncbridge_{hashlib.sha256(pipeline.encode()).hexdigest()[:8]}_"


def table_triggers(
    pipeline: str, schema: TableSchema, key: tuple[str, ...], *, mariadb: bool, transport: str = "outbox"
) -> list[Trigger]:
    """The three triggers of one table. `key`: the columns that name a row."""
    by_name = {column.name: column for column in schema.columns}
    parts = {"key": ([by_name[name] for name in key], json_object), "row": (list(schema.columns), json_row)}
    words = {
        "function": literal(hints_function(pipeline)),
        "outbox": outbox_table(pipeline),
        "table": f"{quote(schema.db)}.{quote(schema.table)}",
        "db": literal(schema.db),
        "name": literal(schema.table),
    }
    table = hashlib.sha256(f"{schema.db}.{schema.table}".encode()).hexdigest()[:12]
    template = _templates(transport)["report"]
    made = []
    for action, (letters, op, sides) in _ACTIONS.items():
        reported = {
            f"{side.lower()}_{part}": write(columns, side, mariadb=mariadb)
            for part, (columns, write) in parts.items()
            for side in sides
        }
        words |= {
            "action": action,
            "op": f"'{op}'",
            "columns": ", ".join(reported),
            "values": ", ".join(reported.values()),
            "members": ", ".join(f"'{column}', {value}" for column, value in reported.items()),
        }
        digest = hashlib.sha256(f"{FORMAT} {template.format(trigger='', **words)}".encode()).hexdigest()[:12]
        name = f"{prefix(pipeline)}{table}_{letters}_{digest}"
        quoted = f"{quote(schema.db)}.{quote(name)}"
        made.append(Trigger(schema.db, schema.table, name, template.format(trigger=quoted, **words)))
    return made
