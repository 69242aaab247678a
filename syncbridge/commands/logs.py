"""The log of a process that runs on: standard error, for journald, Docker and people."""

from __future__ import annotations

import logging
import sys
import time


def log_to_stderr(stage: str) -> None:
    """One line a message: UTC time, level where it is not INFO, stage, text."""

    class Line(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            level = "" if record.levelno == logging.INFO else f"{record.levelname} "
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            text += f".{int(record.msecs):03d}Z {level}{stage}: " + record.getMessage()
            return text if record.exc_info is None else f"{text}\n{self.formatException(record.exc_info)}"

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
