"""sync.yaml: the one validated model that knows every option and its default (DESIGN section 2)."""

from syncbridge.config.load import load_config, parse_config
from syncbridge.config.model import (
    Columns,
    Config,
    HttpConfig,
    Mapping,
    QueueConfig,
    RetryConfig,
    SinkConfig,
    SourceConfig,
)
from syncbridge.config.values import Address, OnDelete, Ttl, Url

__all__ = [
    "Address",
    "Columns",
    "Config",
    "HttpConfig",
    "Mapping",
    "OnDelete",
    "QueueConfig",
    "RetryConfig",
    "SinkConfig",
    "SourceConfig",
    "Ttl",
    "Url",
    "load_config",
    "parse_config",
]
