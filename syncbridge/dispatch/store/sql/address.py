"""Where the database is and how to get in: a store URL, read once and never printed with its password."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy.engine.url import URL, make_url
from sqlalchemy.exc import ArgumentError

from syncbridge.errors import ConfigError

_MYSQL: Final = "mysql"
_POSTGRESQL: Final = "postgresql"
_BACKENDS: Final = {"mysql": _MYSQL, "mariadb": _MYSQL, "postgresql": _POSTGRESQL, "postgres": _POSTGRESQL}
_PORTS: Final = {_MYSQL: 3306, _POSTGRESQL: 5432}
_OPTIONS: Final = ("socket", "timeout", "ssl", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify")
_HINT: Final = "write mysql://user:password@host:3306/database, mariadb://... or postgresql://..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A database and an account in it.

    Options of the URL: `socket` (path; PostgreSQL: folder), `timeout` (seconds that one answer may take), and for TLS
    `ssl_ca` (the server's certificate and name are verified by it), `ssl_cert`, `ssl_key`, `ssl_verify=false` (TLS, but
    nothing verified). Any of these makes TLS a must. Without them TLS is used where the server has it, and never
    with `ssl=false`.
    """

    #: "mysql" (MariaDB too) or "postgresql".
    backend: str
    host: str
    port: int
    user: str
    database: str
    password: str = field(default="", repr=False)
    socket: str = ""
    timeout: float = 5.0
    ssl: bool = True
    ssl_ca: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    ssl_verify: bool = True

    def __str__(self) -> str:
        return f"{self.backend}://{self.socket or f'{self.host}:{self.port}'}/{self.database}"

    @property
    def tls(self) -> bool:
        """TLS or nothing."""
        return bool(self.ssl_ca or self.ssl_cert or not self.ssl_verify)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ConfigError, which names the fault but no password."""
        try:
            parsed = make_url(url)
            port = parsed.port
        except (ArgumentError, ValueError):
            raise ConfigError("queue store: this is no database URL", hint=_HINT) from None
        backend = _BACKENDS.get(parsed.drivername)
        if backend is None:
            raise ConfigError(f"queue store: {parsed.drivername!r} is no database that can be used", hint=_HINT)
        if not parsed.database:
            raise ConfigError("queue store: the URL names no database", hint=_HINT)
        options = _options(parsed)
        address = cls(
            backend=backend,
            host=parsed.host or "127.0.0.1",
            port=port or _PORTS[backend],
            user=parsed.username or ("root" if backend == _MYSQL else "postgres"),
            password=str(parsed.password or ""),
            database=parsed.database,
            socket=options.get("socket", ""),
            timeout=_seconds(options.get("timeout", "5")),
            ssl=_yes("ssl", options),
            ssl_ca=_file("ssl_ca", options),
            ssl_cert=_file("ssl_cert", options),
            ssl_key=_file("ssl_key", options),
            ssl_verify=_yes("ssl_verify", options),
        )
        if address.tls and not address.ssl:
            raise ConfigError("queue store: ssl=false, and another option wants TLS", hint="remove one of them")
        return address


def _options(parsed: URL) -> dict[str, str]:
    options = {}
    for name, value in parsed.query.items():
        if name not in _OPTIONS or not isinstance(value, str):
            raise ConfigError(
                f"queue store: the URL has an unknown option {name!r}", hint=f"known: {', '.join(_OPTIONS)}"
            )
        options[name] = value
    return options


def _file(name: str, options: dict[str, str]) -> str:
    path = options.get(name, "")
    if path and not Path(path).is_file():
        raise ConfigError(f"queue store: {name} names {path}, which is no file", hint=f"correct {name} in the URL")
    return path


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise ConfigError(f"queue store: timeout={value} is no time", hint="write seconds, such as timeout=5")
    return seconds


def _yes(name: str, options: dict[str, str]) -> bool:
    value = options.get(name, "true")
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if value.lower() not in known:
        raise ConfigError(f"queue store: {name}={value} is neither true nor false", hint=f"write {name}=true or false")
    return known[value.lower()]
