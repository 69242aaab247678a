"""The `queue` section of sync.yaml, which is also what `syncbridge server` takes as options. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from syncbridge.config.base import Model, OptionalAddressField
from syncbridge.config.values import Address, Duration, ImpossibleError, Size, SocketPath

ListenField = Annotated[
    Address | SocketPath,
    BeforeValidator(lambda value: SocketPath.parse(value) if SocketPath.means(value) else Address.parse(value)),
]

#: Store URLs by scheme, as examples of what to write.
STORES = {
    "sqlite": "sqlite:///queue.db",
    "mysql": "mysql://user:password@host:3306/database",
    "mariadb": "mariadb://user:password@host:3306/database",
    "postgresql": "postgresql://user:password@host:5432/database",
    "redis": "redis://host:6379/0",
    "rediss": "rediss://host:6379/0",
    "unix": "unix:///run/redis/redis.sock?db=0",
    "memcached": "memcached://host:11211",
    "memory": "memory:",
}
_SHORTEST_TOKEN = 16


class TlsConfig(Model):
    """Certificates of the job server: with them, no TCP listener of it speaks plain text."""

    cert: Path
    key: Path
    #: Clients must show a certificate of this authority.
    client_ca: Path | None = None
    #: What the pipeline's own stages verify the server by, where they come over TCP.
    ca: Path | None = None


class GatewayConfig(Model):
    """Jobs over HTTP: `POST /function`."""

    listen: OptionalAddressField = None
    #: Requests must carry it: `Authorization: Bearer …`.
    token: str = Field(default="", repr=False)

    @field_validator("token")
    @classmethod
    def _guessable(cls, value: str) -> str:
        return _checked_token(value)


class AdminConfig(Model):
    """The JSON interface behind `syncbridge queue`. It always wants its token."""

    listen: OptionalAddressField = None
    token: str = Field(default="", repr=False)

    @field_validator("token")
    @classmethod
    def _guessable(cls, value: str) -> str:
        return _checked_token(value)


class FunctionConfig(Model):
    """What holds for the jobs of functions that match a pattern."""

    #: Jobs leave on WORK_COMPLETE only; everything else brings them back.
    durable: bool = False
    #: Deliveries at most; 0: no limit for time-outs and lost workers.
    attempts: int = Field(default=0, ge=0, le=1_000_000)
    backoff: Duration = 1.0
    max_backoff: Duration = 600.0
    #: WORK_FAIL and WORK_EXCEPTION of a background job are tried again while attempts are left.
    retry_failures: bool = False
    #: A job that runs longer has failed; 0s: no limit but CAN_DO_TIMEOUT's.
    timeout: Duration = 0.0
    #: Jobs running at a time, over all workers; 0: no limit.
    running: int = Field(default=0, ge=0)
    #: Jobs started per second; 0: no limit.
    rate: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    #: How long the result of a background job can be read.
    keep_result: Duration = 0.0
    #: How long a dead letter is kept.
    keep_dead: Duration = 7 * 86400.0
    #: Queued jobs at which submits are refused: one number, or one each for high, normal and low priority; 0: no limit.
    max_queued: tuple[int, int, int] = (0, 0, 0)

    @field_validator("max_queued", mode="before")
    @classmethod
    def _one_or_three(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            value = (value,) * 3
        if not isinstance(value, (list, tuple)) or len(value) != 3 or any(type(n) is not int or n < 0 for n in value):
            raise ValueError("write one number, or three: [high, normal, low]")
        return value

    @model_validator(mode="after")
    def _possible(self) -> FunctionConfig:
        if self.max_backoff < self.backoff:
            raise ImpossibleError(("max_backoff",), f"it must be at least backoff, which is {self.backoff:g}s")
        if self.retry_failures and not self.attempts:
            raise ImpossibleError(("attempts",), "a job that always fails would be tried for ever: write attempts: 5")
        return self


class QueueConfig(Model):
    """The durable queue between capture and sinks: our own job server, open to other clients."""

    url: str = "embedded"
    #: host:port, or unix:/path; one or several.
    listen: tuple[ListenField, ...] = (Address("127.0.0.1", 4730),)
    store: str = Field(default="", repr=False)
    #: What a job that was acknowledged survives: a power cut, the end of the process, nothing.
    durability: Literal["full", "batch", "memory"] = "full"
    #: Row order is kept within a lane; workers share the lanes.
    lanes: int = Field(default=8, ge=1, le=256)
    #: Payload bytes in the store at which submits are refused until workers catch up.
    max_bytes: Size = 4 * 2**30
    #: Largest packet anybody may send.
    max_packet: Size = 64 * 2**20
    #: How long running jobs may go on after SIGTERM, seconds.
    shutdown: Duration = 5.0
    #: A worker that reports nothing of a lane for so long loses the lane's jobs to another; 0: it keeps them.
    lane_timeout: Duration = 0.0
    tls: TlsConfig | None = None
    http: GatewayConfig = GatewayConfig()
    admin: AdminConfig = AdminConfig()
    #: Pattern (fnmatch) -> what holds for these functions; the first that matches.
    functions: dict[str, FunctionConfig] = Field(default_factory=dict)

    @field_validator("url")
    @classmethod
    def _embedded(cls, value: str) -> str:
        if value != "embedded":
            raise ValueError("only the embedded queue is built yet; write embedded")
        return value

    @field_validator("listen", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if value in ([], ()):
            raise ValueError("name at least one address, for example 127.0.0.1:4730")
        return value if isinstance(value, (list, tuple)) else (value,)

    @field_validator("store")
    @classmethod
    def _is_store(cls, value: str) -> str:
        scheme = value.partition(":")[0].partition("+")[0]
        if value and (scheme not in STORES or (scheme == "memory") != (value == "memory:")):
            raise ValueError("write sqlite:///queue.db, sqlite:////absolute/queue.db, mysql://…, postgresql://…, "
                             "redis://…, memcached://host:port or memory:")  # fmt: skip
        if scheme == "sqlite" and not value.removeprefix("sqlite:///").strip("/"):
            raise ValueError("this URL has no file: write sqlite:///queue.db or sqlite:////absolute/queue.db")
        if value.startswith("sqlite:") and (not value.startswith("sqlite:///") or value.endswith(":memory:")):
            raise ValueError("write sqlite:///queue.db, sqlite:////absolute/queue.db, or memory: for no file at all")
        if scheme not in ("", "sqlite", "memory") and "://" not in value:
            raise ValueError(f"write {STORES[scheme]}")
        return value

    @field_validator("functions", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for pattern in value:
                if not isinstance(pattern, str) or not pattern:
                    raise ValueError("put the names of functions in quotes")
                if pattern.startswith("syncbridge."):
                    raise ImpossibleError((pattern,), "the lanes of a pipeline have rules of their own: remove it")
        return value

    @model_validator(mode="after")
    def _possible(self) -> QueueConfig:
        if self.store == "memory:" and self.durability != "memory" and "durability" in self.model_fields_set:
            raise ImpossibleError(("durability",), "the store memory: keeps nothing: write durability: memory")
        self._tell_apart()
        if self.admin.listen is not None:
            self._guard_admin(self.admin.listen)
        if self.http.listen is not None and not self.http.listen.loopback:
            if self.tls is None:
                raise ImpossibleError(("http", "listen"), "beyond loopback it needs tls: {cert: …, key: …}")
            if self.tls.client_ca is None and not self.http.token:
                raise ImpossibleError(("http", "token"), "beyond loopback it needs a token, or tls with client_ca")
        return self

    def _tell_apart(self) -> None:
        seen: set[Address | SocketPath] = set()
        for path, address in self.listeners():
            if address in seen:
                raise ImpossibleError(path, f"{address} is listened on twice: choose another")
            if not isinstance(address, Address) or address.port:
                seen.add(address)

    def _guard_admin(self, listen: Address) -> None:
        if not self.admin.token:
            raise ImpossibleError(
                ("admin", "token"), "it needs a token: openssl rand -hex 32 > admin.token, then file:admin.token"
            )
        if not listen.loopback and self.tls is None:
            raise ImpossibleError(("admin", "listen"), "beyond loopback it needs tls: {cert: …, key: …}")

    def listeners(self) -> Iterator[tuple[tuple[int | str, ...], Address | SocketPath]]:
        """Every place that is listened on, with its path in this section."""
        for index, address in enumerate(self.listen):
            yield ("listen", index), address
        for name, gate in (("http", self.http), ("admin", self.admin)):
            if gate.listen is not None:
                yield (name, "listen"), gate.listen

    def pattern_of(self, function: str) -> str | None:
        """The key of `functions` that holds for this function."""
        return next((pattern for pattern in self.functions if fnmatchcase(function, pattern)), None)

    @property
    def store_path(self) -> Path | None:
        """The file of an SQLite store. As in SQLAlchemy: three slashes and a path relative to where we run, or four."""
        return Path(self.store.removeprefix("sqlite:///")) if self.store.startswith("sqlite:///") else None

    @property
    def promise(self) -> str:
        """What is promised of the store: full, batch or memory."""
        return "memory" if self.store == "memory:" else self.durability


def _checked_token(value: str) -> str:
    if value and (len(value) < _SHORTEST_TOKEN or not value.isascii() or not value.isprintable() or " " in value):
        raise ValueError(f"a token has {_SHORTEST_TOKEN} characters or more, without spaces: openssl rand -hex 32")
    return value
