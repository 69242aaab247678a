"""Reading what Redis holds under keys, guards and time to live included. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import ResponseError

from syncbridge.commands.verification.compare import Stored
from syncbridge.config import Config
from syncbridge.sinks.connection import connect_sync, redis_errors
from syncbridge.sinks.keys import GUARD_FIELD, companion_key, companion_prefix
from syncbridge.sinks.mapping import CompiledMapping

#: Keys that one SCAN looks at.
SCAN_COUNT = 1000
_GUARD_FIELD, _HASH = GUARD_FIELD.encode(), b"hash"


class StoredReader:
    """Reads keys of mappings in batches. Close it."""

    def __init__(self, config: Config) -> None:
        self._url = config.sink.url
        self._client: Any = connect_sync(config.sink)
        self._prefix = companion_prefix(config.name)
        with redis_errors(self._url):
            self._client.ping()

    def close(self) -> None:
        self._client.close()

    def read(self, mapping: CompiledMapping, keys: Sequence[bytes]) -> list[Stored]:
        """What is stored under each key, in order."""
        with self._batch() as batch:
            for key in keys:
                batch.hgetall(key) if mapping.hash else batch.get(key)
                batch.pttl(key)
            answers = batch.execute(raise_on_error=False)
        contents, ttls = answers[::2], answers[1::2]
        # A hash has its guard in a field; any other type, and what is gone, in its companion.
        elsewhere = [
            place for place, held in enumerate(contents) if not (isinstance(held, dict) and _GUARD_FIELD in held)
        ]
        with self._batch() as batch:
            for place in elsewhere:
                batch.type(keys[place])
                batch.get(companion_key(self._prefix, keys[place]))
            answers = batch.execute(raise_on_error=False)
        more = dict(zip(elsewhere, zip(answers[::2], answers[1::2], strict=True), strict=True))
        return [
            _stored(mapping, held, ttl, *more.get(place, (_HASH, None)))
            for place, (held, ttl) in enumerate(zip(contents, ttls, strict=True))
        ]

    def scan(self, mapping: CompiledMapping) -> Iterator[dict[bytes, bytes]]:
        """Keys that carry this mapping's guard, with it, in batches; one may come twice."""
        cursor = 0
        while True:
            with redis_errors(self._url):
                cursor, keys = self._client.scan(cursor, match=mapping.key_pattern(), count=SCAN_COUNT)
            ours = self._guarded(mapping, keys)
            if ours:
                yield ours
            if cursor == 0:
                return

    def _guarded(self, mapping: CompiledMapping, keys: list[bytes]) -> dict[bytes, bytes]:
        with self._batch() as batch:
            for key in keys:
                if mapping.hash:
                    batch.hget(key, GUARD_FIELD)
                else:
                    batch.get(companion_key(self._prefix, key))
            guards = batch.execute(raise_on_error=False)
        wanted = mapping.id.encode()
        return {
            key: guard
            for key, guard in zip(keys, guards, strict=True)
            if isinstance(guard, bytes) and guard[41:49] == wanted and not key.startswith(self._prefix)
        }

    @contextmanager
    def _batch(self) -> Iterator[Any]:
        """Commands that travel together."""
        with redis_errors(self._url), self._client.pipeline(transaction=False) as batch:
            yield batch


def _stored(mapping: CompiledMapping, content: Any, ttl: Any, kind: Any, companion: Any) -> Stored:
    for answer in (content, ttl, kind, companion):
        if isinstance(answer, Exception) and not (answer is content and isinstance(answer, ResponseError)):
            raise answer
    guard: bytes | None = companion
    if isinstance(content, Exception):
        return Stored(None, guard, ttl, wrong_type=kind.decode())
    if mapping.hash:
        guard = content.get(_GUARD_FIELD, companion if not content else None)
        content = {field: value for field, value in content.items() if not field.startswith(b"_")} if content else None
    return Stored(content, guard, ttl)
