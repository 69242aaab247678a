"""The source as sync.yaml names it: its addresses, tried in order, and the account that may write heartbeats."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from syncbridge.capture.connection import ConnectionSettings, connect, is_read_only
from syncbridge.config import SourceConfig, Url
from syncbridge.errors import ConfigError, TransientError

#: Where there is no primary: how often to look for one, and how long one address may take to answer, seconds.
LOOK_INTERVAL, LOOK_SECONDS = 5.0, 1.0


def settings_of(source: SourceConfig, url: Url) -> ConnectionSettings:
    """How to reach `url` with the TLS options of the source section."""
    query = dict(url.query)
    return ConnectionSettings(
        host=url.host,
        port=url.port or 3306,
        user=url.user,
        password=url.password,
        unix_socket=query.get("unix_socket"),
        ssl_ca=str(source.ssl_ca) if source.ssl_ca else None,
        ssl_cert=str(source.ssl_cert) if source.ssl_cert else None,
        ssl_key=str(source.ssl_key) if source.ssl_key else None,
        ssl_verify="" if source.ssl_verify else "required" if source.ssl_ca or source.ssl_cert else "",
        read_timeout_s=60.0,
    )


class Source:
    """Opens connections to one of its addresses, the one that `elect` chose; the first one until then."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._candidates = [settings_of(config, url) for url in config.url]
        self._current = 0
        #: The primary is meant, and there was none: the one in use is read-only.
        self.reads_replica = False
        self._next_look = 0.0
        write_url = config.write_url
        self._writer = settings_of(config, write_url) if write_url else None

    @property
    def settings(self) -> ConnectionSettings:
        """The candidate in use."""
        return self._candidates[self._current]

    @property
    def wants_primary(self) -> bool:
        """Of several addresses the primary is meant; with a write_url, any of them will do."""
        return len(self._candidates) > 1 and self._writer is None

    def elect(self) -> Any:
        """A connection to the first address that answers, beginning with the one in use: the one in use from now on.

        Where the primary is meant, a read-only server is passed over: a replica that nobody promoted may lack what its
        primary, soon back, has. Only where all of them answer and all are read-only, the one in use is as good as any.
        Raises TransientError or ConfigError.
        """
        failure: TransientError | ConfigError | None = None
        read_only: list[str] = []
        for offset in range(len(self._candidates)):
            candidate = (self._current + offset) % len(self._candidates)
            settings = self._candidates[candidate]
            try:
                if (connection := self._connect_unless_read_only(settings)) is not None:
                    self._current, self.reads_replica = candidate, False
                    return connection
                read_only.append(settings.address)
            except (TransientError, ConfigError) as error:
                failure = failure or error
        if failure is None:
            self.reads_replica = True
            self._next_look = time.monotonic() + LOOK_INTERVAL
            return self.connect()
        if read_only:
            raise TransientError(
                f"no primary: {failure}; {', '.join(read_only)} is read-only",
                hint="promote a replica, or set source.write_url to the primary in order to read from replicas",
            )
        raise failure

    def misplaced(self, control: Any) -> bool:
        """Whether to elect anew: the server in use, `control`, is the primary no longer, or there is one again."""
        if not self.wants_primary:
            return False
        if not self.reads_replica:
            return is_read_only(control)
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + LOOK_INTERVAL
        return not is_read_only(control) or any(map(self._is_primary, self._candidates))

    def _is_primary(self, settings: ConnectionSettings) -> bool:
        with suppress(TransientError, ConfigError):
            connection = self._connect_unless_read_only(replace(settings, connect_timeout_s=LOOK_SECONDS))
            if connection is not None:
                connection.close()
                return True
        return False

    def _connect_unless_read_only(self, settings: ConnectionSettings) -> Any:
        connection = connect(settings)
        try:
            if not self.wants_primary or not is_read_only(connection):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None

    def failed(self) -> None:
        """The candidate in use does not answer: the next connection tries the next one."""
        self._current = (self._current + 1) % len(self._candidates)

    def connect(self, *, raw: bool = False) -> Any:
        """A connection for reading. Raises TransientError or ConfigError."""
        return connect(self.settings, raw=raw)

    def connect_writer(self) -> Any:
        """A connection for heartbeat and watermark rows."""
        return connect(self._writer or self.settings)


def first_that_answers(source: Source, candidates: int, use: Callable[[], Any]) -> Any:
    """`use()` with each candidate in turn; the last one's error when none answers."""
    for attempt in range(candidates):
        try:
            return use()
        except (TransientError, ConfigError):
            source.failed()
            if attempt == candidates - 1:
                raise
    raise AssertionError("no candidates")
