"""The process's limit of open files: every connection is one, and the usual soft limit of 1,024 is few."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

#: What the process needs beside connections: stores, logs, libraries.
_OTHERS = 200


def allow_connections(count: int) -> None:
    """Raise the soft limit so far that `count` connections fit, as far as the hard limit lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    if wanted < count + _OTHERS:
        logger.warning("%d open files are allowed, too few for %d connections; raise the limit", wanted, count)
