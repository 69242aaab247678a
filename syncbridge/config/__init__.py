"""sync.yaml: the one validated model that knows every option and its default (DESIGN section 2)."""

from syncbridge.config.load import load_config, parse_config, queue_from_options
from syncbridge.config.model import (
    Columns,
    Config,
    HttpConfig,
    Mapping,
    RetryConfig,
    SinkConfig,
    SourceConfig,
)
from syncbridge.config.queue import FunctionConfig, QueueConfig, TlsConfig
from syncbridge.config.values import Address, OnDelete, SocketPath, Ttl, Url

__all__ = [
    "Address",
    "Columns",
    "Config",
    "FunctionConfig",
    "HttpConfig",
    "Mapping",
    "OnDelete",
    "QueueConfig",
    "RetryConfig",
    "SinkConfig",
    "SocketPath",
    "SourceConfig",
    "TlsConfig",
    "Ttl",
    "Url",
    "load_config",
    "parse_config",
    "queue_from_options",
]
