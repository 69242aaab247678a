"""The way to one Redis: connections made from the store's URL, Lua files, and redis-py's errors as ours.

It knows nothing of jobs. No password in any text.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from syncbridge.config import Url
from syncbridge.errors import ConfigError, SyncbridgeError, TransientError

_CONNECT_TIMEOUT, _TIMEOUT = 2.0, 5.0
_PREFIX = "syncbridge:queue:"
_REFUSED = (AuthenticationError, AuthorizationError, NoPermissionError)
_HINT: Final = "is it running, reachable, and not full? The store works again as soon as it is"

T = TypeVar("T")


class Script:
    """A Lua file of this package."""

    def __init__(self, name: str) -> None:
        self.source = files("syncbridge.dispatch.store").joinpath(name).read_text()
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class Link:
    """What one thread needs to talk to Redis: one connection at a time, made again when it was lost.

    `prefix` begins every key; its braces keep all of them in one slot of a cluster.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        options = dict(parsed.query)
        name = options.pop("prefix", "default")
        if not name or "{" in name or "}" in name:
            raise ConfigError("queue.store: prefix must be a name without braces", hint="for example ?prefix=shop")
        self.prefix = f"{_PREFIX}{{{name}}}:".encode()
        #: For people.
        self.place = f"{parsed} ({name})"
        bare = urlunsplit((*urlsplit(parsed.secret_text)[:3], urlencode(options), ""))
        self._scripts: dict[Script, Any] = {}
        try:
            self.client: Any = redis.Redis.from_url(
                bare,
                protocol=2,
                socket_connect_timeout=_CONNECT_TIMEOUT,
                socket_timeout=_TIMEOUT,
                retry=Retry(NoBackoff(), 0),  # whether to try again is for the caller to say
                **({} if parsed.scheme == "unix" else {"socket_keepalive": True}),
            )
            pool = self.client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # so that options it does not know are told now
        except (ValueError, TypeError, RedisError) as error:
            raise ConfigError(
                f"queue.store cannot be used: {_line(error)}",
                hint="write redis://user:password@host:6379/0, rediss://… or unix:///path/to/socket?db=0",
            ) from None

    def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        """Call a Lua file; raises what redis-py raises."""
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self.client.register_script(script.source)
        return registered(keys=keys, args=arguments)

    def run_timed(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> tuple[Any, float]:
        """run(), and how long its answer took beside its execution, seconds (0.0: not known).

        Redis with `appendfsync always` answers after its fsync, so that is what is left, with the way there and back.
        It tells the time before and after the script in the same trip: a clock that is wrong does not matter.
        """
        pool = self.client.connection_pool
        connection = pool.get_connection()
        try:
            call = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
            packed = connection.pack_commands([("TIME",), call, ("TIME",)])
            started = time.perf_counter()
            connection.send_packed_command(packed)
            before, answer, after = (_response(connection) for _ in range(3))
            taken = time.perf_counter() - started
        finally:
            pool.release(connection)
        if isinstance(answer, NoScriptError):
            return self.run(script, keys, arguments), 0.0
        if isinstance(answer, ResponseError):
            raise answer
        if isinstance(before, ResponseError) or isinstance(after, ResponseError):
            return answer, 0.0  # this user may not ask for the time
        return answer, max(0.0, taken - (_seconds(after) - _seconds(before)))

    def read(self, call: Callable[[], T]) -> T:
        """Do something that may be done twice: once more when an idle connection turns out to be dead."""
        try:
            try:
                return call()
            except redis.TimeoutError:
                raise
            except redis.ConnectionError:
                return call()
        except (RedisError, OSError) as error:
            raise self.error(error, "read") from error

    def error(self, error: Exception, verb: str) -> TransientError:
        return TransientError(f"queue store {self.place} cannot be {verb}: {_line(error)}", hint=_HINT)

    def opening_error(self, error: Exception) -> SyncbridgeError:
        """What it means that the store could not be opened."""
        text = _line(error)
        if isinstance(error, _REFUSED) or "user executing the script can't" in text:
            return ConfigError(
                f"queue store {self.place} refuses this user: {text}",
                hint="correct the user and password in queue.store, or the user's ACL: it needs EVALSHA, and all "
                f"commands on keys {_PREFIX}*",
            )
        if isinstance(error, ResponseError) and text.startswith(("WRONGTYPE", "DB index", "invalid DB")):
            return ConfigError(
                f"queue store {self.place} cannot be used: {text}", hint="choose another database or another prefix"
            )
        return self.error(error, "opened")

    def close(self) -> None:
        self.client.close()
        self.client.connection_pool.disconnect()


def _parse(url: str) -> Url:
    try:
        parsed = Url.parse(url)
    except ValueError as error:
        raise ConfigError(f"queue.store: {error}") from None
    if parsed.scheme not in ("redis", "rediss", "unix"):
        raise ConfigError(f"queue.store: {parsed.scheme}:// is no Redis", hint="write redis://127.0.0.1:6379/0")
    return parsed


def _response(connection: Any) -> Any:
    """The next answer, an error that Redis answers with among them. What else goes wrong is raised."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _seconds(answer: list[bytes]) -> float:
    """What TIME says."""
    return int(answer[0]) + int(answer[1]) / 1e6


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
