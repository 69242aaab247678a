"""The file of the SQLite store: opened, locked, created, brought to this version's format; what its errors mean."""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from syncbridge.dispatch.store import Promise
from syncbridge.errors import ConfigError, TransientError

#: The layout this version writes; format 1 is migrated, a higher one refused.
FORMAT = 2

_SCHEMA = Path(__file__).with_name("schema.sql")
_MIGRATION = Path(__file__).with_name("migrate_1.sql")
#: Pages of write-ahead log before SQLite copies them into the file (16 MiB), and what the log is laid out for.
_CHECKPOINT_PAGES = 4096
_LOG_SIZE = 17 << 20
#: The log is written over, not shortened, up to this size: that makes fsync cheaper. Bytes.
_LOG_LIMIT = 128 << 20


def connect(path: Path, promise: Promise) -> sqlite3.Connection:
    """A connection with explicit transactions only; used by one thread at a time, not by the one that opened it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    # FULL: fsync of the log in every commit. NORMAL: only before a checkpoint copies it; see sqlite.py.
    connection.execute(f"PRAGMA synchronous={'FULL' if promise is Promise.FULL else 'NORMAL'}")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={_LOG_LIMIT}")
    connection.execute("PRAGMA cache_size=-65536")
    connection.execute("PRAGMA secure_delete=OFF")
    return connection


def lay_out_log(writer: sqlite3.Connection, path: Path) -> None:
    """Give the log its size in advance, in zeros, which to SQLite is what an older round of the log left there.

    A commit that writes over what is there changes no size of a file: its fsync takes 110 instead of 240 µs (ext4).
    """
    writer.execute("UPDATE meta SET value = value WHERE name = 'format'")  # now there is a log
    with suppress(OSError):  # it will grow as it goes, then
        log = os.open(f"{path}-wal", os.O_WRONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(log).st_size
            if size < _LOG_SIZE:
                os.pwrite(log, bytes(_LOG_SIZE - size), size)
                os.fsync(log)
        finally:
            os.close(log)


def create_or_check(writer: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """The file has this version's format from here on; returns its table `meta`."""
    writer.execute("PRAGMA journal_mode=WAL")
    if not writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        # One transaction: a crash in the middle leaves an empty file, not half a schema.
        meta = f"INSERT INTO meta VALUES ('format',{FORMAT}),('queue_id','{secrets.token_hex(16)}'),('next_id',1);"  # noqa: S608
        writer.executescript(f"BEGIN IMMEDIATE;{_SCHEMA.read_text()}{meta}COMMIT;")
    stored = dict(writer.execute("SELECT name, value FROM meta"))
    if stored.get("format") == 1:
        schema = _SCHEMA.read_text().partition("WITHOUT ROWID;")[2]
        migration = _MIGRATION.read_text().partition("\n\n")[2].replace("@SCHEMA@", schema)
        writer.executescript(f"BEGIN IMMEDIATE;{migration}COMMIT;")
    elif stored.get("format") != FORMAT:
        _refuse_format(path, stored.get("format"))
    return stored


def _refuse_format(path: Path, found: object) -> NoReturn:
    raise ConfigError(
        f"queue store {path} has format {found}, this syncbridge reads format {FORMAT}",
        hint="run the syncbridge version that wrote it, or point queue.store at a new file",
    )


def unusable(path: Path, error: sqlite3.Error) -> ConfigError:
    """Why the file cannot be opened."""
    if is_corrupt(error):
        return ConfigError(f"queue store {path} is damaged: {error}", hint=_repair(path))
    return ConfigError(
        f"queue store {path} cannot be used: {error}",
        hint="queue.store must name a writable file that syncbridge created, or one that does not exist yet",
    )


def unavailable(path: Path, doing: str, error: sqlite3.Error) -> TransientError:
    """Why the open file cannot be written or read now."""
    if is_corrupt(error):
        return TransientError(f"queue store {path} cannot be {doing}: {error}", hint=_repair(path))
    return TransientError(
        f"queue store {path} cannot be {doing}: {error}", hint="free space on its disk, check its mount"
    )


def is_corrupt(error: sqlite3.Error) -> bool:
    """Pages of the file make no sense."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def _repair(path: Path) -> str:
    return (
        f'stop the server, save what can be read with `sqlite3 {path} ".recover" | sqlite3 {path}.new`, put that file '
        "in its place (its -wal and -shm files must go too), and check the disk"
    )


def lock(path: Path) -> int:
    """Hold `<path>.lock` as long as this process lives; the kernel lets go of it however the process ends.

    Raises ConfigError (the folder is not writable) and TransientError (another process holds it).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"queue store {path} cannot be created: {error.strerror}",
            hint="point queue.store at a folder that this user may write",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise TransientError(
            f"queue store {path} is in use by another process",
            hint="stop the other syncbridge server, or give this one a store of its own",
        ) from None
    return descriptor
