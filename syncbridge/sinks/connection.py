"""Ways to Redis: clients made from `sink.url`, and redis-py's errors translated into ours. No secret in any text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from syncbridge.config import SinkConfig, Url
from syncbridge.errors import ConfigError, PermanentError, SyncbridgeError, TransientError
from syncbridge.sinks.failures import is_sick
from syncbridge.sinks.link import Link

log = logging.getLogger(__name__)

#: Oldest Redis that has all we use: SET with PX, HELLO, ACLs with passwords, EXISTS and TYPE in scripts.
OLDEST = (6, 2)
_CONNECT_TIMEOUT, _TIMEOUT = 5.0, 30.0


async def connect(sink: SinkConfig) -> Link:
    """A link to Redis. One that is down is fine, it will be waited for; ConfigError when it refuses our password."""
    pool = redis.asyncio.ConnectionPool.from_url(
        sink.url.secret_text,
        protocol=2,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        socket_timeout=_TIMEOUT,
        retry=AsyncRetry(NoBackoff(), 0),
        **_tcp_options(sink.url),
    )

    def translated(error: Exception) -> SyncbridgeError:
        return translate(error, sink.url)

    link = Link(pool.make_connection, translated)
    try:
        await link.command("PING")
        await link.close()  # who uses the link sets its greeting first
    except TransientError as error:
        log.warning("%s; waiting for it", error)
    return link


def connect_sync(sink: SinkConfig) -> redis.Redis:
    """A blocking client (bytes in, bytes out) for commands; wrap its use in `redis_errors`."""
    client: redis.Redis = redis.Redis.from_url(
        sink.url.secret_text,
        protocol=2,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        socket_timeout=_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        **_tcp_options(sink.url),
    )
    return client


def _tcp_options(url: Url) -> dict[str, Any]:
    return {} if url.scheme == "unix" else {"socket_keepalive": True}


@contextmanager
def redis_errors(url: Url) -> Iterator[None]:
    """Inside, redis-py's errors become ours."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise translate(error, url) from error


def translate(error: Exception, url: Url) -> SyncbridgeError:
    """What a redis-py error means for the caller: ConfigError, TransientError, or PermanentError for the rest."""
    if isinstance(error, SyncbridgeError):
        return error
    text = str(error).partition("\n")[0]
    if isinstance(error, AuthenticationError) or text.startswith(("WRONGPASS", "NOAUTH", "NOPERM")):
        return ConfigError(
            f"Redis at {url} refuses this user: {text}", hint="correct the user and password in sink.url, or its ACL"
        )
    if is_sick(error):
        return TransientError(f"Redis at {url} is not available: {text}", hint="is it running, and sink.url right?")
    if isinstance(error, ResponseError):
        return PermanentError(text)
    return TransientError(f"Redis at {url}: {text}")


def version_finding(info: dict[str, Any]) -> str | None:
    """What is wrong with the version in INFO's answer; None when it will do. Valkey counts as the Redis it forked."""
    text = str(info.get("redis_version", ""))
    parts = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if parts >= OLDEST:
        return None
    return f"Redis {text or '(unknown version)'} is too old: syncbridge needs {OLDEST[0]}.{OLDEST[1]} or later"
