"""One server at a time on a memcached: a lock item that expires, and that its owner rewrites each second."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from contextlib import suppress

from syncbridge.dispatch.store.memcached_link import ERRORS, Link
from syncbridge.errors import TransientError

#: Seconds: how long the lock of a dead owner stays, and how often a living one rewrites it.
LEASE, _RENEW = 5, 1.0
_POLL = 0.05


class Lease:
    """The lock of one queue. Its thread rewrites it until release()."""

    def __init__(self, url: str) -> None:
        self._link = Link(url)
        self.token = secrets.token_hex(16)
        self._key = self._link.key("lock")
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Become the owner; waits for the lock of a dead one to expire. Raises TransientError when another lives."""
        try:
            self._wait()
        except ERRORS as error:
            self._link.close()
            raise self._link.error(error, "opened") from error
        except TransientError:
            self._link.close()
            raise
        self._thread = threading.Thread(target=self._keep, name="queue-lease", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        client, seen = self._link.client, None
        deadline = time.monotonic() + LEASE + 2
        while not client.add(self._key, f"{self.token} 0", expire=LEASE):
            held = client.get(self._key)
            if (held and seen and held != seen) or time.monotonic() > deadline:
                raise TransientError(
                    f"queue store {self._link.place} is in use by another process",
                    hint="stop the other syncbridge server, or give this one a store or a ?prefix= of its own",
                )
            seen = held or seen
            time.sleep(_POLL)

    def release(self) -> None:
        """Let the next server in."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            with suppress(*ERRORS):  # else it expires
                if self._mine():
                    self._link.client.delete(self._key)
        self._link.close()

    def _mine(self) -> bool:
        held = self._link.client.get(self._key)
        return held is None or held.startswith(self.token.encode())

    def _keep(self) -> None:
        for count in itertools.count(1):
            with suppress(*ERRORS):
                if self._mine():
                    self._link.client.set(self._key, f"{self.token} {count}", expire=LEASE)
            if self._over.wait(_RENEW):
                return
