"""Asking Redis for the facts that `check` judges. Writes nothing."""

from __future__ import annotations

from contextlib import suppress

from redis.exceptions import ResponseError

from syncbridge.commands.checks.sink import SinkFacts
from syncbridge.config import SinkConfig
from syncbridge.sinks.connection import connect_sync, redis_errors


def sink_facts(sink: SinkConfig) -> SinkFacts:
    """Raises ConfigError or TransientError when Redis cannot be asked at all."""
    save, script_error = None, ""
    with redis_errors(sink.url), connect_sync(sink) as client:
        client.ping()
        info = client.info("everything")
        with suppress(ResponseError):
            save = next((_text(value) for value in client.config_get("save").values()), "")
        try:
            client.eval("return 1", 0)
        except ResponseError as error:
            script_error = str(error)
    return SinkFacts(address=str(sink.url), info=dict(info), save=save, script_error=script_error)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
