"""The tables of the state database (SQLAlchemy Core), prefixed `sb_`; rows of several pipelines may share them.

Times are Unix seconds. Versions are the text of `syncbridge.version`. Keys and payloads are JSON.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import LONGTEXT

#: Format number of everything here; a newer one is refused, an older one migrated.
FORMAT = 1

metadata = MetaData()

_ID = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER PRIMARY KEY counts up by itself in SQLite
_TEXT = Text().with_variant(LONGTEXT(), "mysql", "mariadb")  # TEXT ends at 64 KiB there
_BLOB = LargeBinary(length=2**32 - 1)  # LONGBLOB: a row event may be larger than 64 KiB
# Names compare byte by byte everywhere; MySQL's default collation would fold `Orders` and `orders`.
_OPTIONS: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}

format_table = Table("sb_format", metadata, Column("format", Integer, primary_key=True), **_OPTIONS)

checkpoint = Table(
    "sb_checkpoint",
    metadata,
    Column("pipeline", String(40), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("server", String(255), nullable=False),
    Column("file", String(255), nullable=False),
    Column("pos", BigInteger, nullable=False),
    Column("file_created", BigInteger, nullable=False),
    Column("gtid_set", _TEXT, nullable=False),
    Column("queue_id", String(64), nullable=False),
    Column("lanes", Integer, nullable=False),
    Column("updated_at", Double, nullable=False),
    **_OPTIONS,
)

schema_history = Table(
    "sb_schema",
    metadata,
    Column("pipeline", String(40), primary_key=True),
    Column("db", String(64), primary_key=True),
    Column("table_name", String(64), primary_key=True),
    Column("version", String(40), primary_key=True),
    Column("definition", _BLOB, nullable=True),  # NULL: the table is gone from this version on
    **_OPTIONS,
)

mapping_history = Table(
    "sb_mapping",
    metadata,
    Column("pipeline", String(40), primary_key=True),
    Column("mapping", String(8), primary_key=True),
    Column("definition", _TEXT, nullable=False),
    **_OPTIONS,
)

table_look = Table(
    "sb_table_look",
    metadata,
    Column("pipeline", String(40), primary_key=True),
    Column("db", String(64), primary_key=True),
    Column("table_name", String(64), primary_key=True),
    Column("look", _TEXT, nullable=False),
    **_OPTIONS,
)

mirror = Table(
    "sb_mirror",
    metadata,
    Column("pipeline", String(40), primary_key=True),
    Column("sink_id", String(64), nullable=False),
    **_OPTIONS,
)

snapshot = Table(
    "sb_snapshot",
    metadata,
    Column("pipeline", String(40), primary_key=True),
    Column("db", String(64), primary_key=True),
    Column("table_name", String(64), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("reason", String(255), nullable=False),
    Column("first_version", String(40), nullable=False),
    Column("last_version", String(40), nullable=False),
    Column("last_key", _TEXT, nullable=False),
    Column("rows_done", BigInteger, nullable=False),
    Column("rows_estimate", BigInteger, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double, nullable=False),
    **_OPTIONS,
)

request = Table(
    "sb_request",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("pipeline", String(40), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("db", String(64), nullable=False),
    Column("table_name", String(64), nullable=False),
    Column("payload", _TEXT, nullable=False),
    Column("digest", String(40), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("pipeline", "digest"),
    **_OPTIONS,
)


def _failed_rows(name: str) -> Table:
    """Retry and dead-letter rows have one shape, so that a row moves between them whole."""
    return Table(
        name,
        metadata,
        Column("id", _ID, primary_key=True, autoincrement=True),
        Column("pipeline", String(40), nullable=False),
        Column("db", String(64), nullable=False),
        Column("table_name", String(64), nullable=False),
        Column("mapping", String(8), nullable=False),
        Column("row_key", _TEXT, nullable=False),
        Column("version", String(40), nullable=False),
        Column("payload", _BLOB, nullable=False),
        Column("error_class", String(64), nullable=False),
        Column("message", _TEXT, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("stale", Integer, nullable=False),
        Column("first_failed_at", Double, nullable=False),
        Column("last_failed_at", Double, nullable=False),
        Column("next_attempt_at", Double, nullable=False),
        Index(f"{name}_due", "pipeline", "next_attempt_at"),
        Index(f"{name}_table", "pipeline", "db", "table_name"),
        **_OPTIONS,
    )


retry = _failed_rows("sb_retry")
dead_letter = _failed_rows("sb_dead_letter")
