"""One server at a time: who owns a queue in Redis, and how it is known that an owner is gone.

The owner's token stands in the queue's meta key, where every commit checks it: whoever lost the queue can no longer
write, however late its commit arrives. The lock only tells others that the owner lives. It expires with the lease,
and its owner prolongs it each second from a connection that bears its name: Redis drops the name the moment the owner
dies, so a restart need not wait for the lease.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from contextlib import suppress
from typing import NamedTuple

import redis
from redis.exceptions import RedisError, ResponseError

from syncbridge.dispatch.store.redis_link import Link, Script
from syncbridge.dispatch.store.rows import FORMAT
from syncbridge.errors import ConfigError, TransientError

logger = logging.getLogger(__name__)

#: Seconds: how long a dead owner can keep others out where its death cannot be seen, and how often it says it lives.
LEASE, _RENEW = 10.0, 1.0
#: A living owner is back after a restart of Redis within this time, seconds.
_RETURN = 2
_POLL = 0.05

_OPEN, _LEASE = Script("redis_open.lua"), Script("redis_lease.lua")


class Opened(NamedTuple):
    queue_id: str
    next_id: int
    #: Number of the last commit.
    sequence: int


class Lease:
    """The ownership of one queue. Its thread prolongs it until release()."""

    def __init__(self, url: str) -> None:
        self._link = Link(url)
        self.token = secrets.token_hex(16)
        self._keys = [self._link.prefix + b"meta", self._link.prefix + b"lock"]
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> Opened:
        """Become the owner. Raises TransientError when another server lives, ConfigError for another format."""
        try:
            opened = self._take()
        except BaseException:
            self._link.close()
            raise
        self._thread = threading.Thread(target=self._keep, name="queue-lease", daemon=True)
        self._thread.start()
        return opened

    def _take(self) -> Opened:
        deadline = time.monotonic() + LEASE + _RETURN
        dead = b""
        while True:
            try:
                answer = self._open(dead)
                if answer[0] == b"OK":
                    return _opened(answer)
                holder = answer[1]
                if self._alive(holder, int(answer[2])):
                    raise self._in_use()
                if self._gone(holder):
                    dead = holder
                    continue
            except redis.BusyLoadingError as error:
                if time.monotonic() > deadline:
                    raise self._link.opening_error(error) from error
            except (RedisError, OSError) as error:
                raise self._link.opening_error(error) from error
            if time.monotonic() > deadline:
                raise self._in_use()
            time.sleep(_POLL)

    def restore(self, next_id: int) -> Opened:
        """The queue lost what it had acknowledged: go on with what it has, under a new id."""
        answer = self._link.read(lambda: self._open(self.token.encode(), next_id, lost=True))
        if answer[0] != b"OK":
            raise self.lost()
        return _opened(answer)

    def lost(self) -> TransientError:
        return TransientError(
            f"queue store {self._link.place} belongs to another server now",
            hint="one store serves one server: stop the other or give it a ?prefix= of its own, then restart this one",
        )

    def release(self) -> None:
        """Let the next server in."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            with suppress(RedisError, OSError):  # else it expires
                self._link.run(_LEASE, self._keys, [self.token, 0])
        self._link.close()

    def _open(self, dead: bytes, next_id: int = 1, *, lost: bool = False) -> list[bytes]:
        arguments = [self.token, int(LEASE * 1000), dead, FORMAT, secrets.token_hex(16), next_id, int(lost)]
        answer: list[bytes] = self._link.run(_OPEN, self._keys, arguments)
        if answer[0] == b"FORMAT":
            found = answer[1].decode(errors="replace")
            raise ConfigError(
                f"queue store {self._link.place} has format {found}, this syncbridge reads format {FORMAT}",
                hint="run the syncbridge version that wrote it, or choose another ?prefix=",
            )
        return answer

    def _alive(self, holder: bytes, left: int) -> bool:
        """It said so within the last seconds, and is connected."""
        return left > (LEASE - 2 * _RENEW) * 1000 and self._connected(holder) is True

    def _gone(self, holder: bytes) -> bool:
        """Redis has been here long enough for it to come back, and it is not connected."""
        try:
            uptime = int(self._link.client.info("server")["uptime_in_seconds"])
        except (ResponseError, KeyError):
            return False
        return uptime >= _RETURN and self._connected(holder) is False

    def _connected(self, holder: bytes) -> bool | None:
        """Whether a connection bears the name of this owner; None where Redis does not tell."""
        try:
            clients = self._link.client.client_list()
        except ResponseError:
            return None
        return any(client.get("name") == _name(holder.decode()) for client in clients)

    def _keep(self) -> None:
        """The thread: say each second that the owner lives."""
        while True:
            try:
                with suppress(ResponseError):  # where that is not allowed, others wait for the lease
                    self._link.client.client_setname(_name(self.token))
                self._link.run(_LEASE, self._keys, [self.token, int(LEASE * 1000)])
            except (RedisError, OSError) as error:
                logger.debug("lease of queue store %s not prolonged: %s", self._link.place, error)
            if self._over.wait(_RENEW):
                return

    def _in_use(self) -> TransientError:
        return TransientError(
            f"queue store {self._link.place} is in use by another process",
            hint="stop the other syncbridge server, or give this one a store or a ?prefix= of its own",
        )


def _opened(answer: list[bytes]) -> Opened:
    return Opened(answer[1].decode(), int(answer[2]), int(answer[3]))


def _name(token: str) -> str:
    return f"syncbridge-queue-{token}"
