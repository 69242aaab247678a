"""Reading what Redis holds under keys, guards and time to live included. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from syncbridge.commands.verification.compare import Stored
from syncbridge.config import Config
from syncbridge.sinks.connection import connect_sync, redis_errors
from syncbridge.sinks.keys import GUARD_FIELD, companion_key, companion_prefix
from syncbridge.sinks.mapping import CompiledMapping

#: Keys that one SCAN looks at.
SCAN_COUNT = 1000


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
        if not keys:
            return []
        with redis_errors(self._url), self._client.pipeline(transaction=False) as batch:
            for key in keys:
                batch.hgetall(key) if mapping.hash else batch.get(key)
                batch.pttl(key)
                batch.type(key)
                # A hash has its guard in a field; any other type, and what is gone, in its companion.
                batch.get(companion_key(self._prefix, key))
            answers = batch.execute(raise_on_error=False)
        return [_stored(mapping, *answers[start : start + 4]) for start in range(0, len(answers), 4)]

    def scan(self, mapping: CompiledMapping) -> Iterator[list[bytes]]:
        """Keys that carry this mapping's guard, in batches; one may come twice."""
        cursor = 0
        while True:
            with redis_errors(self._url):
                cursor, keys = self._client.scan(cursor, match=mapping.key_pattern(), count=SCAN_COUNT)
            ours = self._guarded(mapping, keys)
            if ours:
                yield ours
            if cursor == 0:
                return

    def _guarded(self, mapping: CompiledMapping, keys: list[bytes]) -> list[bytes]:
        if not keys:
            return []
        with redis_errors(self._url), self._client.pipeline(transaction=False) as batch:
            for key in keys:
                if mapping.hash:
                    batch.hget(key, GUARD_FIELD)
                else:
                    batch.get(companion_key(self._prefix, key))
            guards = batch.execute(raise_on_error=False)
        wanted = mapping.id.encode()
        return [
            key
            for key, guard in zip(keys, guards, strict=True)
            if isinstance(guard, bytes) and guard[41:49] == wanted and not key.startswith(self._prefix)
        ]


def _stored(mapping: CompiledMapping, content: Any, ttl: Any, kind: Any, companion: Any) -> Stored:
    for answer in (content, ttl, kind, companion):
        if isinstance(answer, Exception) and not (answer is content and isinstance(answer, ResponseError)):
            raise answer
    name = kind.decode()
    guard: bytes | None = companion
    if isinstance(content, Exception):
        return Stored(None, guard, ttl, wrong_type=name)
    if mapping.hash:
        guard = content.get(GUARD_FIELD.encode(), companion if not content else None)
        content = {field: value for field, value in content.items() if not field.startswith(b"_")} if content else None
    return Stored(content, guard, ttl)
