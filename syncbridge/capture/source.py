"""The source as sync.yaml names it: its addresses, tried in order, and the account that may write heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from syncbridge.capture.connection import ConnectionSettings, connect
from syncbridge.config import SourceConfig, Url
from syncbridge.errors import ConfigError, TransientError


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
    """Opens connections to the first address that answers, and stays with it until `failed()`."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._candidates = [settings_of(config, url) for url in config.url]
        self._current = 0
        write_url = config.write_url
        self._writer = settings_of(config, write_url) if write_url else None

    @property
    def settings(self) -> ConnectionSettings:
        """The candidate in use."""
        return self._candidates[self._current]

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
