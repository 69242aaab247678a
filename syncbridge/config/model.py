"""The model of sync.yaml: names, types, defaults and impossible combinations. Pure: files come in load.py."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping as MappingABC
from glob import escape
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, field_validator, model_validator

from syncbridge.config.base import Model as _Model
from syncbridge.config.base import OptionalAddressField, UrlField
from syncbridge.config.queue import FunctionConfig, QueueConfig
from syncbridge.config.values import Address, Duration, ImpossibleError, MissingError, OnDelete, Size, Ttl, Url
from syncbridge.expression import check_expression
from syncbridge.seams import LANE_PREFIX
from syncbridge.template import KEY, TABLE, Template

# Written as in sync.yaml, so that a stored mapping can be read again.
OnDeleteField = Annotated[OnDelete, BeforeValidator(OnDelete.parse), PlainSerializer(str)]
TtlField = Annotated[
    Ttl | None,
    BeforeValidator(lambda value: None if value is None else Ttl.parse(value)),
    PlainSerializer(lambda value: None if value is None else str(value)),
]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_SERVER = re.compile(r"unix:/[^\s,]+|(\[[0-9a-fA-F:]+\]|[^\s,:/]+):\d{1,5}")
#: `{_table}` and `{_key}` (primary key values joined by ':') are ours; see syncbridge.template.
DEFAULT_KEY = "{_table}:{_key}"
#: Longest name of a mapped function: it stands where failed rows have their table (state/tables.py).
LONGEST_FUNCTION = 64
#: What holds for jobs of a mapped function unless queue.functions says otherwise: they leave on WORK_COMPLETE only, and
#: one whose worker died returns to its place at once. One that kills every worker is set aside.
MAPPED_FUNCTION = FunctionConfig.model_validate(
    {"durable": True, "backoff": "0s", "attempts": 10, "keep_dead": "3650d"}
)


class TriggerConfig(_Model):
    """How triggers hand changes over (capture: trigger)."""

    #: outbox: a table of the source, written in the user's own transaction. udf: a job through the UDF library, and the
    #: outbox only where that fails.
    transport: Literal["outbox", "udf"] = "outbox"
    #: udf: the job server as the database server reaches it: host:port, or unix:/path, several behind commas. Empty:
    #: where the pipeline's job server listens.
    servers: str = ""
    #: udf: read each changed row from the source. False: trust what the trigger said, rolled back or not.
    confirm: bool = True

    @field_validator("servers")
    @classmethod
    def _list_of_servers(cls, value: str) -> str:
        for one in filter(None, value.split(",")):
            if not _SERVER.fullmatch(one.strip()):
                raise ValueError(f"{one.strip()!r} is no server: write host:4730 or unix:/path, several behind commas")
        return ",".join(one.strip() for one in value.split(",") if one.strip())

    @model_validator(mode="after")
    def _udf_only(self) -> TriggerConfig:
        if self.transport != "udf" and self.servers:
            raise ImpossibleError(("servers",), "only transport: udf has the database server send jobs")
        if self.transport != "udf" and not self.confirm:
            raise ImpossibleError(("confirm",), "what the outbox holds is committed: leave this out")
        return self


class SourceConfig(_Model):
    """Where rows come from."""

    #: One URL, or several: failover candidates, tried in order.
    url: tuple[UrlField, ...]
    capture: Literal["binlog", "trigger"] = "binlog"
    trigger: TriggerConfig = TriggerConfig()
    #: Our id among the source's replicas; 0 derives one from the pipeline's name.
    server_id: int = Field(default=0, ge=0, le=2**32 - 1)
    snapshot: Literal["initial", "never"] = "initial"
    #: Chunks of tables that are read at the same time, each over two connections.
    snapshot_readers: int = Field(default=2, ge=1, le=16)
    #: Most rows per second that snapshots read, all tables together; 0: as fast as they go.
    snapshot_rate: int = Field(default=0, ge=0, le=10**9)
    #: Seconds between heartbeat rows; 0s turns them off, and with them the truth about lag.
    heartbeat: Duration = 1.0
    #: Where heartbeat and watermark rows are written when `url` is a read-only replica.
    write_url: UrlField | None = None
    ssl_ca: Path | None = None
    ssl_cert: Path | None = None
    ssl_key: Path | None = None
    ssl_verify: bool = True

    @field_validator("url", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return value if isinstance(value, (list, tuple)) else (value,)

    @field_validator("url", "write_url")
    @classmethod
    def _is_mysql(cls, value: Any) -> Any:
        for url in value if isinstance(value, tuple) else [value]:
            if url is not None and url.scheme not in ("mysql", "mariadb"):
                raise ValueError("the source is MySQL or MariaDB: write mysql://user:password@host:3306")
            if url is not None and not url.host:
                raise ValueError("this URL has no host: write mysql://user:password@host:3306")
            if url is not None and {name for name, _ in url.query} - {"unix_socket"}:
                raise ValueError("options in this URL are not read: use ssl_ca, ssl_cert, ssl_key and ssl_verify")
        if value == ():
            raise ValueError("name at least one URL: mysql://user:password@host:3306")
        return value

    @model_validator(mode="after")
    def _possible(self) -> SourceConfig:
        if self.capture == "trigger" and self.write_url is not None:
            raise ImpossibleError(
                ("write_url",), "an outbox lies on the primary: name the primary in url, leave this out"
            )
        if (self.ssl_cert is None) != (self.ssl_key is None):
            missing = "ssl_cert" if self.ssl_cert is None else "ssl_key"
            raise ImpossibleError((missing,), "ssl_cert and ssl_key go together: name both or neither")
        return self

    @property
    def named(self) -> bool:
        """Whether there is one: a pipeline of functions alone reads nothing."""
        return bool(self.url)


#: Where sync.yaml names no source.
NO_SOURCE = SourceConfig.model_construct(url=())


class SinkConfig(_Model):
    """Where rows go."""

    url: UrlField
    #: Worker processes.
    workers: int = Field(default=2, ge=1, le=64)
    #: How long a removed key is remembered; an event older than half of it is read again, never applied.
    tombstone: Duration = 86400.0
    #: Largest value (bytes) written to Redis; a row beyond it goes to the retry table.
    max_value: Size = 64 * 2**20

    @field_validator("url")
    @classmethod
    def _is_redis(cls, value: Url) -> Url:
        if value.scheme in ("redis+sentinel", "redis+cluster"):
            raise ValueError("Sentinel and Cluster are not built yet; write redis://, rediss:// or unix://")
        if value.scheme == "unix" and not value.path:
            raise ValueError("this URL has no socket path: write unix:///run/redis/redis.sock")
        if value.scheme != "unix" and not value.host:
            raise ValueError("this URL has no host: write redis://host:6379/0")
        if value.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("the sink is Redis: write redis://host:6379/0, rediss:// or unix:///path")
        return value

    @field_validator("tombstone")
    @classmethod
    def _long_enough(cls, value: float) -> float:
        if value < 1:
            raise ValueError("remember removed keys for at least 1s; 24h is a good value")
        return value


class RetryConfig(_Model):
    """How a row that fails by itself is tried again."""

    max_attempts: int = Field(default=8, ge=1, le=1000)
    backoff: Duration = 1.0
    max_backoff: Duration = 600.0

    @model_validator(mode="after")
    def _ordered(self) -> RetryConfig:
        if self.backoff <= 0:
            raise ImpossibleError(("backoff",), "pause at least 1ms between attempts")
        if self.max_backoff < self.backoff:
            raise ImpossibleError(("max_backoff",), f"it must be at least backoff, which is {self.backoff:g}s")
        return self


class HttpConfig(_Model):
    """Where /metrics, /healthz and /readyz listen; `listen: off` turns it off."""

    listen: OptionalAddressField = Address("127.0.0.1", 9108)


class Columns(_Model):
    """Which columns Redis sees, and under which names."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    mask: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Columns:
        if self.include and self.exclude:
            raise ImpossibleError(("exclude",), "include and exclude contradict each other: keep one")
        for column, name in self.rename.items():
            if name.startswith("_") or not name:
                mend = "field names that start with _ are syncbridge's own: choose another name"
                raise ImpossibleError(("rename", column), mend)
            if list(self.rename.values()).count(name) > 1:
                raise ImpossibleError(("rename", column), f"rename gives two columns the name {name}: choose another")
        for option, names in (("rename", tuple(self.rename)), ("mask", self.mask)):
            for column in names:
                if not self.shows(column):
                    raise ImpossibleError((option,), f"column {column} is not shown at all: remove it from {option}")
        return self

    def shows(self, column: str) -> bool:
        """Whether Redis sees this column."""
        return column in self.include if self.include else column not in self.exclude


class Mapping(_Model):
    """How the rows of one table, or the jobs of one plain Gearman function, become keys."""

    #: `db.table`, or `db.*` for every table of a database.
    table: str = ""
    #: In place of a table: a function whose jobs are rows as JSON objects, such as hand-written triggers submit.
    function: str = ""
    key: str = DEFAULT_KEY
    type: Literal["hash", "json", "string", "set", "zset", "list", "stream", "pubsub"] = "hash"
    #: The text of a `string` key.
    value: str = ""
    #: Columns that name a row where the table has no primary key: unique and NOT NULL.
    unique: tuple[str, ...] = ()
    columns: Columns = Columns()
    #: A MySQL expression. A row of a table that stops matching is removed; other objects of a function are passed over.
    where: str = ""
    #: Which objects of a function say that their row is gone.
    delete_when: str = ""
    ttl: TtlField = None
    on_delete: OnDeleteField = OnDelete("delete")

    @field_validator("table")
    @classmethod
    def _has_database(cls, value: str) -> str:
        db, dot, table = value.partition(".")
        if not (dot and db and table) or "*" in db or ("*" in table and table != "*"):
            raise ValueError("write db.table, or db.* for every table of a database")
        return value

    @field_validator("function")
    @classmethod
    def _plain_function(cls, value: str) -> str:
        if not 0 < len(value) <= LONGEST_FUNCTION or not value.isprintable():
            raise ValueError(f"a function has 1 to {LONGEST_FUNCTION} printable characters")
        if value.startswith(LANE_PREFIX):
            raise ValueError("functions under syncbridge. carry the changes of tables: name another")
        return value

    @field_validator("type")
    @classmethod
    def _type_built(cls, value: str) -> str:
        if value not in ("hash", "json", "string"):
            raise ValueError(f"type {value} is not built yet; write hash, json or string")
        return value

    @field_validator("key", "value")
    @classmethod
    def _is_template(cls, value: str) -> str:
        Template(value)
        return value

    @field_validator("where", "delete_when")
    @classmethod
    def _is_expression(cls, value: str) -> str:
        if value:
            check_expression(value)
        return value

    @model_validator(mode="after")
    def _possible(self) -> Mapping:
        if self.function:
            self._function_possible()
        elif not self.table:
            raise MissingError(("table",), "name the table of this mapping: table: db.table")
        elif self.delete_when:
            raise ImpossibleError(("delete_when",), "a table tells its own deletes; delete_when belongs to a function")
        columns = Template(self.key).columns
        if not [name for name in columns if name != TABLE]:
            raise ImpossibleError(
                ("key",), "key names no column, so every row would be one key: write for example order:{id}"
            )
        if self.wildcard and TABLE not in columns:
            raise ImpossibleError(
                ("key",), "the tables of db.* would share keys: put {_table} into it, for example {_table}:{_key}"
            )
        if self.type == "string" and not self.value:
            raise ImpossibleError(("value",), 'type string needs a value, for example value: "{name}"')
        if self.type != "string" and self.value:
            raise ImpossibleError(("value",), f"value belongs to type string; a {self.type} takes its columns")
        return self

    def _function_possible(self) -> None:
        if self.table:
            raise ImpossibleError(("function",), "a mapping has a table or a function: write two mappings")
        if "key" not in self.model_fields_set:
            raise MissingError(
                ("key",), "a function's objects have no primary key: name members, for example order:{id}"
            )
        if {TABLE, KEY} & set(Template(self.key).columns) | {TABLE, KEY} & set(Template(self.value).columns):
            raise ImpossibleError(
                ("key",), "a function's objects have no table and no primary key: name members, for example order:{id}"
            )
        if self.unique:
            raise ImpossibleError(("unique",), "unique belongs to a table: the key names an object, leave unique out")
        if "on_delete" in self.model_fields_set and not self.delete_when:
            raise ImpossibleError(
                ("on_delete",),
                "nothing is ever deleted without delete_when, for example delete_when: \"_op = 'delete'\"",
            )

    @property
    def db(self) -> str:
        return self.table.partition(".")[0]

    @property
    def wildcard(self) -> bool:
        return self.table.endswith(".*")

    def covers(self, db: str, table: str) -> bool:
        """Whether rows of db.table belong to this mapping."""
        return self.table == f"{db}.{table}" or (self.wildcard and self.db == db)

    @property
    def id(self) -> str:
        """8 hex digits that name this mapping in Redis guards: they change when its keys or type change."""
        identity = "\0".join((self.table or f"function:{self.function}", self.key, self.type))
        return f"{zlib.crc32(identity.encode()):08x}"

    @property
    def fingerprint(self) -> str:
        """Text that changes whenever Redis would show something else for the same rows (DESIGN P3)."""
        return self.model_dump_json(exclude={"function", "delete_when"} if self.table else None)


class Config(_Model):
    """A whole sync.yaml."""

    name: str = "syncbridge"
    source: SourceConfig = NO_SOURCE
    queue: QueueConfig = QueueConfig()
    sink: SinkConfig
    state: str = ""
    retry: RetryConfig = RetryConfig()
    http: HttpConfig = HttpConfig()
    mappings: tuple[Mapping, ...] = Field(min_length=1)

    @field_validator("state")
    @classmethod
    def _is_database(cls, value: str) -> str:
        scheme = value.partition("://")[0].partition("+")[0]
        if value and scheme not in ("sqlite", "mysql", "mariadb", "postgresql"):
            raise ValueError("write sqlite:///path/state.db or mysql://user:password@host:3306/database")
        if (scheme == "sqlite" and not value.removeprefix("sqlite:///").strip("/")) or value == "sqlite://":
            raise ValueError("a state in memory would be lost with its process: write sqlite:///path/state.db")
        return value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("use 1 to 40 lower-case letters, digits, - and _")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.table_mappings and not self.source.named:
            raise MissingError(("source",), "rows of tables come from a source: add source.url")
        for mapping in self.function_mappings:
            pattern = self.queue.pattern_of(mapping.function)
            if pattern is not None and not self.queue.functions[pattern].durable:
                raise ImpossibleError(
                    ("queue", "functions", pattern, "durable"),
                    f"jobs of {mapping.function} must leave the queue on WORK_COMPLETE only: write durable: true",
                )
        for index, mapping in enumerate(self.mappings):
            for first, other in enumerate(self.mappings[:index]):
                if _same_keys(mapping, other):
                    raise ImpossibleError(
                        ("mappings", index, "key"),
                        f"mappings[{first}] writes the same keys: change one of the keys or remove one mapping",
                    )
        for path, address in self.queue.listeners():
            if self.http.listen is not None and self.http.listen == address and self.http.listen.port:
                place = f"queue.{path[0]}" if path[0] == "listen" else f"queue.{path[0]}.listen"
                raise ImpossibleError(("http", "listen"), f"{place} has the same address: choose another port")
        if self.state and self.state == self.queue.store and self.queue.store_path is not None:
            raise ImpossibleError(("state",), "queue.store names the same file: choose another")
        return self

    @property
    def server_id(self) -> int:
        """Our replica id: as configured, else stable for the name and far from the small numbers people choose."""
        return self.source.server_id or (zlib.crc32(f"syncbridge:{self.name}".encode()) | 0x40000000)

    @property
    def folder(self) -> Path:
        """Where the processes of one `syncbridge run` meet: beside the queue's file, else the default folder."""
        path = self.queue.store_path
        return path.parent if path is not None else default_folder(self.name, os.environ, root=os.geteuid() == 0)

    def mappings_of(self, db: str, table: str) -> list[Mapping]:
        return [mapping for mapping in self.mappings if mapping.covers(db, table)]

    @property
    def table_mappings(self) -> list[Mapping]:
        """What capture feeds."""
        return [mapping for mapping in self.mappings if mapping.table]

    @property
    def function_mappings(self) -> list[Mapping]:
        """What others feed: jobs of plain functions."""
        return [mapping for mapping in self.mappings if mapping.function]

    @property
    def functions(self) -> list[str]:
        """The mapped functions, each once."""
        return list(dict.fromkeys(mapping.function for mapping in self.function_mappings))


def _same_keys(one: Mapping, other: Mapping) -> bool:
    """Whether two mappings certainly write the same keys (two wildcards only might: `check` looks at their tables)."""
    if one.function and other.function:  # several may share a key space: one for changes, one for deletes
        return (one.function, one.key, one.where) == (other.function, other.key, other.where)
    if one.wildcard and other.wildcard:
        return one.table == other.table and one.key == other.key
    if one.db == other.db and (one.wildcard or other.wildcard):
        return one.key == other.key
    if one.wildcard or other.wildcard:
        return False
    tables = one.table.partition(".")[2], other.table.partition(".")[2]
    if one.table == other.table:
        return one.key == other.key
    # Rows of two tables in one key space: the later write would win, whichever row it is of.
    return Template(one.key).glob(tables[0]) == Template(other.key).glob(tables[1])


def default_folder(name: str, environ: MappingABC[str, str], *, root: bool) -> Path:
    """Where files of a pipeline go when nobody says where."""
    if root:
        return Path("/var/lib/syncbridge") / name
    home = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME", "."), ".local", "state")
    return Path(home) / "syncbridge" / name


def with_default_paths(config: Config, environ: MappingABC[str, str], *, root: bool) -> Config:
    """Fill `queue.store` and `state` with files under the state folder of this user."""
    folder = default_folder(config.name, environ, root=root)
    queue = config.queue
    if not queue.store:
        queue = queue.model_copy(update={"store": f"sqlite:///{folder / 'queue.db'}"})
    return config.model_copy(update={"queue": queue, "state": config.state or f"sqlite:///{folder / 'state.db'}"})


def with_mapped_functions(config: Config) -> Config:
    """Fill `queue.functions` with what holds for mapped functions that it says nothing of."""
    unsaid = [name for name in config.functions if config.queue.pattern_of(name) is None]
    if not unsaid:
        return config
    functions = config.queue.functions | {escape(name): MAPPED_FUNCTION for name in unsaid}
    return config.model_copy(update={"queue": config.queue.model_copy(update={"functions": functions})})
