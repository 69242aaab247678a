"""The client of a job server's admin interface: where it is, the token, one request. Blocking."""

from __future__ import annotations

import http.client
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes, urlencode, urlsplit

import orjson

from syncbridge.commands.options import DEFAULT_CONFIG
from syncbridge.config import load_config
from syncbridge.errors import ConfigError, SyncbridgeError, TransientError

#: Seconds for an answer; purging a long queue takes a while.
TIMEOUT = 60.0
URL, TOKEN_FILE = "SYNCBRIDGE_ADMIN_URL", "SYNCBRIDGE_ADMIN_TOKEN_FILE"


class NotThere(ConfigError):
    """The server does not know what it was asked for."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Where the admin interface is."""

    host: str
    port: int
    token: str
    tls: ssl.SSLContext | None = None

    @classmethod
    def find(cls, config: Path | None, url: str | None, token_file: Path | None, ca: Path | None) -> Admin:
        """As options say, then the environment, then sync.yaml. Raises ConfigError."""
        url = url or (None if config else os.environ.get(URL))
        if url is None:
            return cls._configured(config or DEFAULT_CONFIG, ca)
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("http", "https") or not parts.hostname or not port or parts.path.strip("/"):
            raise ConfigError(f"--url: {url!r} is not possible", hint="write http://127.0.0.1:4731")
        path = token_file or Path(os.environ.get(TOKEN_FILE, ""))
        if not path.name:
            raise ConfigError("the admin interface needs a token", hint=f"--token-file FILE, or {TOKEN_FILE}=FILE")
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the token in {path}", hint="check its path and permissions") from error
        return cls(parts.hostname, port, token, _context(ca) if parts.scheme == "https" else None)

    @classmethod
    def _configured(cls, path: Path, ca: Path | None) -> Admin:
        if not path.exists():
            raise ConfigError(
                "it is not said where the job server is", hint=f"--url and --token-file, {URL}, or --config sync.yaml"
            )
        queue = load_config(path).queue
        if queue.admin.listen is None:
            raise ConfigError(
                "queue.admin.listen is off",
                hint="queue: {admin: {listen: '127.0.0.1:4731', token: 'file:/path/admin.token'}}, then restart",
            )
        address = queue.admin.listen.reachable
        tls = None if queue.tls is None else _context(ca or queue.tls.ca or queue.tls.client_ca)
        return cls(address.host, address.port, queue.admin.token, tls)

    def get(self, *path: str, **query: Any) -> Any:
        return self._ask("GET", path, query)

    def post(self, *path: str, **query: Any) -> Any:
        return self._ask("POST", path, query)

    def _ask(self, method: str, path: tuple[str, ...], query: dict[str, Any]) -> Any:
        """The JSON of an answer. Raises ConfigError (refused), TransientError (not reachable)."""
        target = "/" + "/".join(_quoted(part) for part in path)
        if query:
            target += "?" + urlencode(query, quote_via=quote, errors="surrogateescape")
        try:
            status, body = self._answer(method, target)
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(
                f"the admin interface {self.host}:{self.port} cannot be reached: {str(error) or type(error).__name__}",
                hint="is the job server running, with --admin or queue.admin.listen?",
            ) from error
        try:
            answer = orjson.loads(body)
            if status == 200:
                return answer
            text, hint = str(answer["error"]), str(answer["hint"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise TransientError(f"{self.host}:{self.port} does not answer as an admin interface does") from None
        if status == 401:
            raise ConfigError(f"the admin interface refused the token: {text}", hint="is it the server's token?")
        kinds: dict[int, type[SyncbridgeError]] = {404: NotThere, 500: TransientError, 503: TransientError}
        raise kinds.get(status, ConfigError)(text, hint=hint)

    def _answer(self, method: str, target: str) -> tuple[int, bytes]:
        connection = (
            http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
            if self.tls is None
            else http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT, context=self.tls)
        )
        try:
            connection.request(method, target, headers={"Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _quoted(part: str) -> str:
    return quote_from_bytes(os.fsencode(part), safe="")


def _context(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{authority} holds no certificate", hint="name a PEM file of the authority") from error
