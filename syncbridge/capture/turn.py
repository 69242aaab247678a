"""Whose turn it is: one capture of a pipeline at a time, others stand by (DESIGN section 5, Processes). IO.

The turn is an advisory lock on the source, which the server gives up with the connection that holds it: whoever dies is
followed at once. A host that vanishes without a word is followed when the server has heard nothing for SILENCE seconds.
The connection does nothing else: to one that holds locks, MariaDB's information_schema shows no table that is altered.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import Any

import pymysql

from syncbridge.capture.delivery import Stopped
from syncbridge.capture.source import Source
from syncbridge.capture.stopping import StopFlag

log = logging.getLogger(__name__)

#: The server closes the connection after so many seconds without a word; we say one that often.
SILENCE = 60
_WORD = 1.0
#: How long one attempt waits, seconds: a wish to stop is noticed between two.
_ATTEMPT = 1
#: A cluster that refuses such locks, because its nodes do not share them (Percona's, MariaDB's).
_NO_LOCKS = (1105, 1235)


class Turn:
    """On the server that the source elects; ours once this is made. Raises Stopped, and what PyMySQL raises."""

    def __init__(self, source: Source, pipeline: str, stop: StopFlag) -> None:
        self._connection = source.elect()
        self._next_word = 0.0
        try:
            self._wait(lock_name(pipeline), source.settings.address, stop)
        except BaseException:
            self.close()
            raise

    def _wait(self, name: str, address: str, stop: StopFlag) -> None:
        told = False
        with self._connection.cursor() as cursor:
            cursor.execute("SET SESSION wait_timeout = %s", (SILENCE,))
            while not self._taken(cursor, name):
                if stop.is_set():
                    raise Stopped
                if not told:
                    log.info("another capture of this pipeline reads %s: standing by", address)
                    told = True
        if told:
            log.info("the other capture is gone: taking over")

    def _taken(self, cursor: Any, name: str) -> bool:
        try:
            cursor.execute("SELECT GET_LOCK(%s, %s)", (name, _ATTEMPT))
        except pymysql.MySQLError as error:
            if error.args[0] not in _NO_LOCKS:
                raise
            log.warning("the source has no locks (%s): nobody would notice a second capture of this pipeline",
                        error.args[1])  # fmt: skip
            return True
        return bool(cursor.fetchone()[0])

    def keep(self) -> None:
        """Call it again and again. Raises what PyMySQL raises when the turn is lost."""
        now = time.monotonic()
        if now >= self._next_word:
            self._next_word = now + _WORD
            self._connection.ping(reconnect=False)

    def close(self) -> None:
        """It is somebody else's."""
        self._connection._force_close()


def lock_name(pipeline: str) -> str:
    """At most 64 characters, and another one for each name: servers compare it without regard to case."""
    return f"syncbridge.{pipeline[:40]}.{hashlib.sha256(pipeline.encode()).hexdigest()[:8]}"
