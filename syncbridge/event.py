"""The change event: what one row change looks like between capture and sinks (DESIGN section 3).

An event is JSON; field names follow the Debezium envelope. In Python it stays a plain dict: the hot path
builds and dumps hundreds of thousands per second, and a dict is what orjson is fastest with.

    {"op": "u", "ts_us": 1700000000000000,            # when capture read it (wall clock, microseconds)
     "source": {"name", "db", "table", "ts_us",       # ts_us: when the source wrote it (1 s resolution on MariaDB)
                "server_id", "gtid", "file", "pos", "row"},
     "key": {"id": 42}, "before": {...} | null, "after": {...} | null,
     "types": {"price": "decimal", "photo": "binary"},
     "version": "40 hex digits", "id": "<version>", "format": 1,
     "gone": ["old_name"]}                            # only where the table had other columns once

Row values, per column (`types` names the kind of every column that is not implied by its JSON value):

    null                      SQL NULL
    number (no kind)          any integer type, BIT as its unsigned decimal
    string (no kind)          CHAR, VARCHAR, TEXT, ENUM, SET under a case-insensitive (`_ci`) collation
    string, "text_bin"        the same under a binary or case-sensitive collation; INET4, INET6, UUID
    string, "decimal"         DECIMAL
    string, "float"           FLOAT and DOUBLE, in the server's own formatting
    string, "zerofill"        an integer column with ZEROFILL, padded as SELECT prints it
    string, "date" | "time" | "datetime" | "year"      as SELECT prints it in UTC (TIMESTAMP is "datetime")
    string, "binary"          BINARY, VARBINARY, BLOB, VECTOR: base64 of the raw bytes
    string, "json"            JSON, in the server's own spacing
    string, "geometry"        WKT with axes as GeoJSON has them; "geometry_yx": WKT whose axes GeoJSON swaps
    0 or 1, "bool"            false or true; only in objects of plain functions, since MySQL has no such type
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeAlias

from syncbridge.errors import PermanentError

#: Format number of events; a worker refuses a higher one in one sentence.
FORMAT = 1

CREATE, UPDATE, DELETE, READ, TRUNCATE = "c", "u", "d", "r", "t"
OPERATIONS = frozenset((CREATE, UPDATE, DELETE, READ, TRUNCATE))

#: Kinds that `types` may name; see the module docstring.
KINDS = frozenset(
    (
        "text_bin", "decimal", "float", "zerofill", "date", "time", "datetime", "year",
        "binary", "json", "geometry", "geometry_yx", "bool",
    )
)  # fmt: skip

Row: TypeAlias = dict[str, Any]
Event: TypeAlias = dict[str, Any]


def place(db: str, table: str) -> str:
    """What a table is called in messages and metrics; without a db it is a plain function."""
    return f"function:{table}" if table and not db else f"{db}.{table}"


def check(events: list[Any]) -> list[Event]:
    """The very list, once each of it has what every event has. Raises PermanentError."""
    for event in events:
        try:
            source = event["source"]
            sound = event["format"] == FORMAT and event["op"] in OPERATIONS and "version" in event
            sound = sound and "db" in source and "table" in source and type(source) is dict
        except (KeyError, TypeError):
            sound = False
        if not sound:
            _refuse(event)
    return events


def _refuse(event: Any) -> NoReturn:
    """Say what is wrong with something that should be an event."""
    if not isinstance(event, dict):
        raise PermanentError("job holds something that is not an event object")
    format_number = event.get("format")
    if format_number != FORMAT:
        raise PermanentError(
            f"event has format {format_number!r}, this syncbridge reads format {FORMAT}",
            hint="run the same syncbridge version on every host of the pipeline",
        )
    if event.get("op") not in OPERATIONS:
        raise PermanentError(f"event has unknown op {event.get('op')!r}")
    raise PermanentError("event lacks source.db, source.table or version")
