"""When a worker asks for jobs and when it sleeps: the decisions of one connection, as packets to send. No socket.

A burst starts with one grab and grows by one with every job, up to the room there is: an idle worker costs two packets
per job, a busy one keeps the pipe full. NO_JOB stops grabbing; when no grab is out any more, PRE_SLEEP; NOOP starts
again.
"""

from __future__ import annotations

from syncbridge.dispatch import packets as p

_PRE_SLEEP = p.request(p.PRE_SLEEP)


class Grabbing:
    """`grab`: the packet that asks for a job."""

    def __init__(self, grab: bytes) -> None:
        self._grab = grab
        #: Grabs not answered yet.
        self.out = 0
        #: A NO_JOB came: no more grabs before a NOOP.
        self.dry = False
        #: PRE_SLEEP was sent, and no NOOP came since.
        self.asleep = False

    def ask(self, count: int, room: int) -> bytes:
        """Grab `count` more jobs, at most `room`."""
        count = min(count, room)
        if self.dry or count <= 0:
            return b""
        self.out += count
        return self._grab * count

    def assigned(self) -> None:
        self.out -= 1

    def no_job(self) -> None:
        self.out -= 1
        self.dry = True

    def woken(self) -> None:
        """NOOP, or a function was added: there may be something."""
        self.dry = self.asleep = False

    def sleep(self) -> bytes:
        """PRE_SLEEP, once, when there is nothing to be had."""
        if not self.dry or self.out or self.asleep:
            return b""
        self.asleep = True
        return _PRE_SLEEP
