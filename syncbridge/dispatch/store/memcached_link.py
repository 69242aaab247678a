"""The way to one memcached: values of any size and name as items that it takes, and its errors as ours.

Its keys are short and without spaces, its values at most 1 MB: names are ours and hashed where they hold other
people's bytes, long values are cut into items, the first of which says how long the value is. It knows no jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from struct import Struct
from typing import Any, Final, TypeVar

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

from syncbridge.config import Url
from syncbridge.errors import ConfigError, TransientError

_CONNECT_TIMEOUT, _TIMEOUT = 2.0, 5.0
_PORT = 11211
#: Items per request, and the bytes of a request that writes.
_KEYS, _BYTES = 200, 2 << 20
_LARGEST: Final = 512 << 10
_SIZE = Struct(">Q")

#: What a call may raise.
ERRORS = (MemcacheError, OSError, ValueError)

T = TypeVar("T")


class Link:
    """What one thread needs to talk to memcached: one connection, made again when it was lost."""

    def __init__(self, url: str) -> None:
        try:
            parsed = Url.parse(url)
        except ValueError as error:
            raise ConfigError(f"queue.store: {error}") from None
        if parsed.scheme != "memcached" or not parsed.host or parsed.path.strip("/") or parsed.user or parsed.password:
            raise ConfigError(
                "queue.store: a memcached store is one host, without account or path",
                hint="write memcached://127.0.0.1:11211, or with a name of its own memcached://127.0.0.1:11211?prefix=shop",
            )
        name = dict(parsed.query).get("prefix", "default")
        #: For people.
        self.place = f"memcached://{parsed.host}:{parsed.port or _PORT} ({name})"
        self._prefix = "sb:" + hashlib.blake2b(name.encode(), digest_size=8).hexdigest() + ":"
        self.client: Any = Client(
            (parsed.host, parsed.port or _PORT),
            connect_timeout=_CONNECT_TIMEOUT,
            timeout=_TIMEOUT,
            no_delay=True,
            default_noreply=False,
        )
        #: Bytes per item.
        self.chunk = _LARGEST

    def measure(self) -> None:
        """Learn how large an item may be."""
        largest = int(self.client.stats("settings").get(b"item_size_max", 1 << 20))
        self.chunk = min(_LARGEST, largest // 2)

    def key(self, name: str) -> str:
        return self._prefix + name

    def put(self, values: Iterable[tuple[str, bytes]]) -> None:
        """Store values. Whoever reads one finds all of it or None."""
        items: dict[str, bytes] = {}
        size = 0
        for name, value in values:
            for part, piece in enumerate(_cut(value, self.chunk)):
                items[self.key(f"{name}:{part}")] = piece
                size += len(piece)
                if len(items) >= _KEYS or size >= _BYTES:
                    self._set(items)
                    items, size = {}, 0
        self._set(items)

    def _set(self, items: Mapping[str, bytes]) -> None:
        if items and (failed := self.client.set_many(items)):
            raise ValueError(f"{len(failed)} items were not stored")

    def get(self, names: Iterable[str]) -> dict[str, bytes]:
        """The values that are there, whole."""
        names = list(names)
        firsts = self._get(f"{name}:0" for name in names)
        found: dict[str, bytes] = {}
        for name in names:
            first = firsts.get(f"{name}:0", b"")
            if len(first) < _SIZE.size:
                continue
            size = _SIZE.unpack_from(first)[0] + _SIZE.size
            if size > len(first):
                rest = [f"{name}:{part}" for part in range(1, -(-size // max(1, len(first))))]
                pieces = self._get(rest)
                first = b"".join([first, *(pieces.get(piece, b"") for piece in rest)])
            if len(first) == size:
                found[name] = first[_SIZE.size :]
        return found

    def _get(self, names: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for some in _batches(names, _KEYS):
            answer = self.client.get_many([self.key(name) for name in some])
            found.update((key.removeprefix(self._prefix), value) for key, value in answer.items())
        return found

    def drop(self, sizes: Iterable[tuple[str, int]]) -> None:
        """Delete values of these sizes, without asking whether they were there."""
        keys = (
            self.key(f"{name}:{part}") for name, size in sizes for part in range(1 + (size + _SIZE.size) // self.chunk)
        )
        for some in _batches(keys, _KEYS):
            self.client.delete_many(some, noreply=True)

    def error(self, error: Exception, verb: str) -> TransientError:
        text = str(error).partition("\n")[0] or type(error).__name__
        return TransientError(
            f"queue store {self.place} cannot be {verb}: {text}", hint="is it running, and has it enough memory?"
        )

    def close(self) -> None:
        self.client.close()


def _cut(value: bytes, chunk: int) -> Iterator[bytes]:
    whole = _SIZE.pack(len(value)) + value
    return (whole[start : start + chunk] for start in range(0, len(whole), chunk))


def _batches(some: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(some)
    while batch := list(islice(iterator, size)):
        yield batch
