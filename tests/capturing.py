"""The ways of capturing, for tests that run in each: what sync.yaml says, and what a user of triggers has to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.pipeline import Pipeline
from tests.servers import Redis, SqlServer, udf


@dataclass(frozen=True, slots=True)
class Capturing:
    """`transport` is empty where the binlog is read."""

    name: str
    transport: str = ""
    #: What the source must be started with.
    options: dict[str, Any] = field(default_factory=dict)

    def pipeline(
        self, folder: Path, source: SqlServer, redis: Redis, mappings: Sequence[dict[str, Any]], **more: Any
    ) -> Pipeline:
        """Not started; install() comes first."""
        made = Pipeline(folder, source, redis, mappings, **more)
        self.configure(made)
        return made

    def configure(self, pipeline: Pipeline) -> None:
        if self.transport:
            pipeline.settings["source"] |= {"capture": "trigger", "trigger": {"transport": self.transport}}
            pipeline.write_config()

    def install(self, pipeline: Pipeline) -> None:
        """Before the first start, and after DDL on mapped tables."""
        if self.transport == "udf" and not pipeline.source.value("SELECT COUNT(*) FROM mysql.func"):
            udf.install(pipeline.source)
        if self.transport:
            done = pipeline.command("triggers", "install")
            assert done.returncode == 0, done.stderr


BINLOG = Capturing("binlog")
OUTBOX = Capturing("outbox", "outbox")
#: Its source needs the fixture udf_library.
UDF = Capturing("udf", "udf")
