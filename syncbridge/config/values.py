"""The small value types of sync.yaml: URLs, addresses, durations, sizes, deletion rules.

Each type parses one scalar and raises ValueError with a sentence that names the mend. Pure: no IO.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BeforeValidator


class ImpossibleError(ValueError):
    """A combination that cannot be: `path` leads from the model that found it to the setting to change."""

    def __init__(self, path: tuple[int | str, ...], mend: str) -> None:
        super().__init__(mend)
        self.path = path


class MissingError(ImpossibleError):
    """A setting that something else in the document needs."""


#: Bytes that the system's address of a Unix socket holds, its final NUL not counted.
LONGEST_SOCKET_PATH = 107
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(B|KB|MB|GB|KiB|MiB|GiB)?", re.IGNORECASE)
_SIZE_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_duration(value: Any) -> float:
    """Seconds of `1s`, `10m`, `1h30m`, `500ms`, `7d`."""
    text = str(value).strip()
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("write a duration with its unit, for example 500ms, 1s, 10m, 24h or 7d")
    return sum(float(number) * _DURATION_SECONDS[unit] for number, unit in parts)


def parse_size(value: Any) -> int:
    """Bytes of `64MiB`, `1GB` or a plain number."""
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("write a size in bytes or with its unit, for example 64MiB")
    return int(match[1]) * _SIZE_BYTES[(match[2] or "B").lower()]


Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address, `host:port`; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, value: Any) -> Address:
        if isinstance(value, Address):
            return value
        host, colon, port = str(value).rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("write an address as host:port, for example 127.0.0.1:4730")
        return cls(host.strip("[]"), int(port))

    @property
    def loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def reachable(self) -> Address:
        """Where clients on this host reach a listener here: one that listens everywhere is reached on loopback."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a comparison
        return Address(everywhere.get(self.host, self.host), self.port)


@dataclass(frozen=True, slots=True)
class SocketPath:
    """A Unix socket, `unix:/path`."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @staticmethod
    def means(value: Any) -> bool:
        """Whether this was meant to be one."""
        return isinstance(value, SocketPath) or str(value).startswith("unix:")

    @classmethod
    def parse(cls, value: Any) -> SocketPath:
        if isinstance(value, SocketPath):
            return value
        path = str(value).removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path or path.endswith("/") or path.startswith("//"):
            raise ValueError("write a Unix socket as unix:/path, for example unix:/run/syncbridge/queue.sock")
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise ValueError(f"the path of a Unix socket has at most {LONGEST_SOCKET_PATH} bytes: choose a shorter one")
        return cls(path)

    @property
    def loopback(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Url:
    """A connection URL. Its text never shows the password; `password` and `secret_text` do."""

    scheme: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    path: str = ""
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    #: The URL as it was written, secrets included. For handing to a driver, never for printing.
    secret_text: str = field(default="", repr=False)

    @classmethod
    def parse(cls, value: Any) -> Url:
        if isinstance(value, Url):
            return value
        text = str(value)
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:  # its text may hold a part of the password
            raise ValueError("this URL cannot be parsed; percent-encode special characters in its password") from None
        if parts.fragment or ("@" in parts.path + parts.query and parts.scheme != "unix"):
            # Left alone, the rest of such a password would count as host or path, and be printed.
            raise ValueError("this URL has # or @ in an odd place; percent-encode special characters in its password")
        if not parts.scheme or ("://" not in text):
            raise ValueError("write a URL such as mysql://user@127.0.0.1:3306 or redis://127.0.0.1:6379/0")
        return cls(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=port,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            path=parts.path,
            query=tuple(parse_qsl(parts.query)),
            secret_text=text,
        )

    def __str__(self) -> str:
        user = f"{self.user}:***@" if self.password else f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port is not None else ""
        return f"{self.scheme}://{user}{self.host}{port}{self.path}"


@dataclass(frozen=True, slots=True)
class OnDelete:
    """What a deleted row leaves in Redis: `delete`, `keep`, or `expire` after some seconds."""

    action: str
    after: float = 0.0

    @classmethod
    def parse(cls, value: Any) -> OnDelete:
        if isinstance(value, OnDelete):
            return value
        text = str(value)
        if text in ("delete", "keep"):
            return cls(text)
        if text.startswith("expire:"):
            return cls("expire", parse_duration(text.removeprefix("expire:")))
        raise ValueError("write delete, keep, or expire:<duration>, for example expire:1h")

    def __str__(self) -> str:
        return f"expire:{self.after:g}s" if self.action == "expire" else self.action


@dataclass(frozen=True, slots=True)
class Ttl:
    """How long a key lives: fixed seconds, or the column that says it.

    A column of an integer or decimal type holds seconds from now; a temporal column holds the moment (UTC) of expiry.
    """

    seconds: float = 0.0
    column: str = ""

    @classmethod
    def parse(cls, value: Any) -> Ttl:
        if isinstance(value, Ttl):
            return value
        text = str(value).strip()
        if text.startswith("{") and text.endswith("}"):
            return cls(column=text[1:-1])
        seconds = parse_duration(text)
        if seconds <= 0:
            raise ValueError("a ttl must be longer than zero; leave it out to keep keys for ever")
        return cls(seconds=seconds)

    def __str__(self) -> str:
        return f"{{{self.column}}}" if self.column else f"{self.seconds:g}s"
