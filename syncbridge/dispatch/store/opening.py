"""From a URL to a store. The engines are imported when they are asked for: a server needs the drivers of one only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Final

from syncbridge.dispatch.store import JobStore, Promise
from syncbridge.errors import ConfigError

_EXAMPLES: Final = "sqlite:///queue.db, mysql://…, postgresql://…, redis://…, memcached://host:11211 or memory:"

#: Scheme -> module and class, which takes (url, durability=…).
_ENGINES: Final = {
    "mysql": ("sql", "SqlStore"),
    "mariadb": ("sql", "SqlStore"),
    "postgresql": ("sql", "SqlStore"),
    "postgres": ("sql", "SqlStore"),
    "redis": ("redis", "RedisStore"),
    "rediss": ("redis", "RedisStore"),
    "unix": ("redis", "RedisStore"),
    "memcached": ("memcached", "MemcachedStore"),
}
#: Drivers that are not installed with syncbridge, and the extra that brings them.
_EXTRAS: Final = {"psycopg": "postgresql", "pymemcache": "memcached"}


def open_store(url: str, *, durability: Promise = Promise.FULL) -> JobStore:
    """The store at `url`. `durability` is what is wanted of it; its `promise` says what it keeps.

    MEMORY stores nothing, whatever the URL. Raises ConfigError (an unknown URL, a missing driver, a store that cannot
    be used) and TransientError (it is not there now, another server has it), one sentence each.
    """
    opener = _opener(url)
    if durability is Promise.MEMORY:
        opener = _memory
    try:
        return opener(durability)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ConfigError(
            f"queue.store needs the Python package {error.name}, which is not installed",
            hint=f"pip install 'syncbridge[{extra}]'",
        ) from error


def _opener(url: str) -> Callable[[Promise], JobStore]:
    scheme, colon, rest = url.partition(":")
    if url == "memory:":
        return _memory
    if scheme == "sqlite":
        return partial(_sqlite, _sqlite_path(url))
    engine = _ENGINES.get(scheme)
    if engine is None or not rest.startswith("//"):
        # The URL itself may hold a password.
        raise ConfigError(
            f"queue.store: there is no store {scheme}://" if colon else "queue.store is not a URL",
            hint=f"write {_EXAMPLES}",
        )
    return partial(_engine, *engine, url)


def _engine(module: str, name: str, url: str, durability: Promise) -> JobStore:
    store: JobStore = getattr(import_module(f"syncbridge.dispatch.store.{module}"), name)(url, durability=durability)
    return store


def _memory(_durability: Promise) -> JobStore:
    from syncbridge.dispatch.store.memory import MemoryStore

    return MemoryStore()


def _sqlite(path: str, durability: Promise) -> JobStore:
    from syncbridge.dispatch.store.sqlite import SqliteStore

    return SqliteStore(path, durability=durability)


def _sqlite_path(url: str) -> str:
    """As in SQLAlchemy: three slashes and a path relative to where we run, or four."""
    path = url.removeprefix("sqlite:///")
    if path == url or not path.strip("/") or path == ":memory:":
        raise ConfigError(
            f"queue.store: {url} names no file",
            hint="write sqlite:///queue.db, sqlite:////absolute/queue.db, or memory: for no file at all",
        )
    if "?" in path:
        raise ConfigError(f"queue.store: {url} has options, an SQLite store has none", hint="remove the ? and the rest")
    return path
