"""Connections to Redis for packed script calls. Every new connection is greeted before it may write.

redis-py opens, authenticates and parses; packing is hiredis's own, several times faster than redis-py's. The greeting
(marks.py) finds out whether this is still the Redis we filled. Never retries: callers decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError

from syncbridge.errors import SyncbridgeError
from syncbridge.sinks.apply import APPLY, SWEEP
from syncbridge.sinks.failures import is_sick

Greeting = Callable[["Raw"], Awaitable[None]]


def command(*words: Any) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(words)
    return packed


class Raw:
    """One open connection."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._timeout = connection.socket_timeout

    async def open(self) -> None:
        await self._connection.connect()  # type: ignore[no-untyped-call]
        # One timeout for a call: redis-py's own, a task for sending and a timer for reading, cost twice the call.
        self._connection.socket_timeout = None

    async def call(self, packed: bytes) -> Any:
        """Send packed bytes of one command, answer its reply. Raises redis-py's errors, or TimeoutError."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._connection.send_packed_command([packed], check_health=False)
                return await self._connection.read_response()
        except TimeoutError:
            raise TimeoutError(f"no answer within {self._timeout:g} s") from None

    async def command(self, *words: Any) -> Any:
        return await self.call(command(*words))

    @property
    def usable(self) -> bool:
        return bool(self._connection.is_connected)

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)


class Link:
    """As many connections as there are calls at one time. Raises our errors."""

    def __init__(
        self, make_connection: Callable[[], AbstractConnection], translate: Callable[[Exception], SyncbridgeError]
    ) -> None:
        self._make_connection = make_connection
        self._translate = translate
        self._idle: list[Raw] = []
        #: What every new connection must pass before it is used.
        self.greeting: Greeting | None = None

    async def command(self, *words: Any) -> Any:
        return await self.call(lambda: command(*words))

    async def call(self, pack: Callable[[], bytes]) -> Any:
        """One command's reply. TransientError, PermanentError (its text is the reply's) or ConfigError.

        It is packed once there is a connection: a greeting may change what is to be said.
        """
        connection: Raw | None = None
        try:
            connection = self._idle.pop() if self._idle else await self._open()
            packed = pack()
            try:
                reply = await connection.call(packed)
            except NoScriptError:
                await self._load_scripts(connection)
                reply = await connection.call(packed)
        except (RedisError, OSError) as error:
            # After a sick answer the server may have changed its role: whoever comes next greets it again.
            await self._put_back(connection, keep=not is_sick(error))
            raise self._translate(error) from error
        except BaseException:  # cancelled in the middle: a late reply must not meet the next call
            await self._put_back(connection, keep=False)
            raise
        await self._put_back(connection, keep=True)
        return reply

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def forget(self) -> None:
        """Close idle connections, so that the next calls greet the server again."""
        await self.close()

    async def _open(self) -> Raw:
        connection = Raw(self._make_connection())
        try:
            await connection.open()
            if self.greeting is not None:
                await self.greeting(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _load_scripts(self, connection: Raw) -> None:
        for script in (APPLY, SWEEP):
            await connection.command("SCRIPT", "LOAD", script.source)

    async def _put_back(self, connection: Raw | None, *, keep: bool) -> None:
        if connection is None:
            return
        if keep and connection.usable:
            self._idle.append(connection)
        else:
            await connection.close()


def pairs(reply: Sequence[bytes]) -> dict[str, str]:
    """A flat HGETALL reply as a dict of texts."""
    texts = [item.decode() for item in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))
