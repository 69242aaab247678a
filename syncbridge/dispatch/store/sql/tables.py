"""The tables of a queue in an SQL database, format 1. Everything but the meta row's texts is numbers and bytes.

Written by transaction.py in one transaction per group commit; read at start, and where the core lacks something.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table, text
from sqlalchemy.dialects.mysql import LONGBLOB, VARBINARY
from sqlalchemy.types import TypeEngine

#: The layout this version writes; another number is refused.
FORMAT: Final = 1

#: Bytes in one row at most: a payload (a result's data) beyond it lies in pieces, so that none is too large for what a
#: statement, a packet or the database's log may take.
PIECE: Final = 256 << 10
#: Bytes of a function's name; clients may use 512 of them.
NAME: Final = 640
#: Bytes of a result's numerator or denominator: numbers, to anybody who means well.
NUMBER: Final = 255

metadata = MetaData()

_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}
#: Few rows, updated by every commit: PostgreSQL keeps the next version of a row in the same page.
_HOT: dict[str, Any] = {**_OPTIONS, "postgresql_with": {"fillfactor": 20}}
_BLOB = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")


def _bytes(length: int) -> TypeEngine[bytes]:
    """Bytes that an index can hold."""
    return LargeBinary().with_variant(VARBINARY(length), "mysql", "mariadb")


#: One row. `queue_id`: 32 hex digits, random, given once; `next_id`: first job id never used; `commits`: counts the
#: commits, so that one whose answer was lost is known to have happened or not; `owner`: the process that may commit.
meta = Table(
    "syncbridge_queue_meta",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("format", Integer, nullable=False),
    Column("queue_id", String(32), nullable=False),
    Column("next_id", BigInteger, nullable=False),
    Column("commits", BigInteger, nullable=False),
    Column("owner", String(32), nullable=False),
    **_HOT,
)

#: Function names, numbered to keep job rows short.
function = Table(
    "syncbridge_queue_function",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", _bytes(NAME), nullable=False, unique=True),
    **_OPTIONS,
)

#: Totals of `job` by place, kept in the same transaction, so that a start counts nothing.
backlog = Table(
    "syncbridge_queue_backlog",
    metadata,
    Column("function_id", Integer, primary_key=True, autoincrement=False),
    Column("priority", SmallInteger, primary_key=True, autoincrement=False),
    Column("state", SmallInteger, primary_key=True, autoincrement=False),
    Column("jobs", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    **_HOT,
)

#: One row per background job. The columns are those of JobRecord; `size` is the payload's, so that nobody has to
#: read a payload to know it; a payload of another size (or none) makes the row unreadable. Beyond PIECE it is NULL.
job = Table(
    "syncbridge_queue_job",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("function_id", Integer, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("submitted", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("uniq", _bytes(255), nullable=False),
    Column("join_key", _bytes(255)),
    Column("reducer", _bytes(NAME), nullable=False),
    Column("note", _bytes(1024), nullable=False),
    Column("payload", _BLOB),
    **_OPTIONS,
)
Index("syncbridge_queue_job_place", job.c.function_id, job.c.state, job.c.priority, job.c.id)
Index("syncbridge_queue_job_due", job.c.state, job.c.due, job.c.id, postgresql_where=text("state <> 0"))
Index(
    "syncbridge_queue_job_join",
    job.c.function_id,
    job.c.join_key,
    job.c.id,
    postgresql_where=text("join_key IS NOT NULL"),
)

#: The parts of large payloads, by job id, and of large results, by the negative of it.
piece = Table(
    "syncbridge_queue_piece",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("data", _BLOB, nullable=False),
    **_OPTIONS,
)

#: How background jobs ended, where that is kept. The columns are those of Result; `size` is that of its data.
result = Table(
    "syncbridge_queue_result",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("function", _bytes(NAME), nullable=False),
    Column("uniq", _bytes(255), nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("numerator", _bytes(NUMBER), nullable=False),
    Column("denominator", _bytes(NUMBER), nullable=False),
    Column("data", _BLOB),
    Column("finished", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    **_OPTIONS,
)

#: What the server remembers beside jobs.
setting = Table(
    "syncbridge_queue_setting",
    metadata,
    Column("name", _bytes(1024), primary_key=True),
    Column("value", _BLOB, nullable=False),
    **_OPTIONS,
)
