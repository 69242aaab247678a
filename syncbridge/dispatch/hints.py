"""Capture's way to the jobs that triggers submit through the UDF (HintQueue): many in hand at once, never blocking.

The function is a lane (lanes.py): a hint leaves the queue only once capture says so, and comes again after a crash. A
hint that cannot be used yet may be put back behind the others: it is submitted anew, and only once that is durable does
the old job leave. It knows nothing of what is in a hint.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Sequence

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.peers.grabbing import Grabbing
from syncbridge.dispatch.target import Target
from syncbridge.dispatch.wire import TIMEOUT, Wire
from syncbridge.errors import TransientError
from syncbridge.seams import ISOLATED_SUFFIX, Hint, hints_function

#: Hints in hand at most, and bytes of them at which no more are taken.
MAX_HINTS = 100_000
MAX_BYTES = 128 * 1024 * 1024
_GRAB = p.request(p.GRAB_JOB_UNIQ)
#: How long close() tries to give back what is in hand, seconds.
_PARTING = 1.0


class GearmanHints:
    """HintQueue over the Gearman protocol. One thread. Targets are tried in order at every connect()."""

    def __init__(
        self, pipeline: str, targets: Sequence[Target | tuple[str, int]], *, max_packet: int = p.MAX_PACKET
    ) -> None:
        self._function = hints_function(pipeline).encode()
        self._client_id = f"{pipeline}-capture".encode()
        self._wire = Wire(targets, max_packet)
        self._grabbing = Grabbing(_GRAB)
        self._in_hand: dict[bytes, int] = {}
        self._bytes = 0
        #: Put back and not answered yet, in the order of submission.
        self._returning: deque[bytes] = deque()
        self._output = bytearray()

    def connect(self) -> None:
        """See HintQueue."""
        self._forget()
        self._wire.open()
        self._output += p.request(p.SET_CLIENT_ID, self._client_id)
        for function in (self._function, self._function + ISOLATED_SUFFIX.encode()):
            self._output += p.request(p.CAN_DO, function)
        self._output += self._grabbing.ask(1, 1)
        self._send()

    def take(self) -> list[Hint]:
        """See HintQueue."""
        arrived: list[Hint] = []
        for kind, body in self._wire.receive():
            if kind == p.JOB_ASSIGN_UNIQ:
                arrived.append(self._assigned(body))
            elif kind == p.NO_JOB:
                self._grabbing.no_job()
            elif kind == p.NOOP:
                self._grabbing.woken()
            elif kind == p.JOB_CREATED:
                self.done([self._returning.popleft()])
            elif kind == p.ERROR and self._returning:  # the queue is full: this one keeps its old place
                self._report(p.WORK_FAIL, self._returning.popleft())
        room = 0 if self.full else MAX_HINTS - len(self._in_hand) - self._grabbing.out
        if arrived or not self._grabbing.out:
            self._output += self._grabbing.ask(2 * len(arrived) or 1, room)
        self._output += self._grabbing.sleep()
        self._send()
        return arrived

    def _assigned(self, body: bytes) -> Hint:
        self._grabbing.assigned()
        handle, _, _, workload = p.arguments(body, 4)
        self._in_hand[handle] = len(workload)
        self._bytes += len(workload)
        return Hint(handle, workload)

    @property
    def full(self) -> bool:
        return len(self._in_hand) >= MAX_HINTS or self._bytes >= MAX_BYTES

    def done(self, handles: Iterable[bytes]) -> None:
        """See HintQueue."""
        for handle in handles:
            self._report(p.WORK_COMPLETE, handle)
        self._send()

    def put_back(self, hint: Hint) -> None:
        """See HintQueue."""
        if hint.handle in self._in_hand:
            self._returning.append(hint.handle)
            self._output += p.request(p.SUBMIT_JOB_BG, self._function, b"", hint.workload)

    def clear(self) -> int:
        """See HintQueue."""
        self.connect()
        count = 0
        while not self._grabbing.asleep:
            self._wire.wait(TIMEOUT)
            taken = self.take()
            self.done(hint.handle for hint in taken)
            count += len(taken)
        self.close()
        return count

    def _report(self, kind: int, handle: bytes) -> None:
        if (size := self._in_hand.pop(handle, None)) is None:
            return  # reported already, or of a connection that is no more: then it comes again
        self._bytes -= size
        body = (handle, b"") if kind == p.WORK_COMPLETE else (handle,)
        self._output += p.request(kind, *body)

    def fileno(self) -> int:
        return self._wire.fileno()

    def close(self) -> None:
        """Give back what is in hand, within reason, so that no delivery stays without an answer, and close."""
        if self._wire.fileno() >= 0:
            self._output += p.request(p.RESET_ABILITIES)
            for handle in list(self._in_hand):
                self._report(p.WORK_FAIL, handle)
            deadline = time.monotonic() + _PARTING
            with contextlib.suppress(TransientError):
                while not self._send() and (left := deadline - time.monotonic()) > 0:
                    self._wire.wait(left)
        self._forget()

    def _forget(self) -> None:
        self._wire.close()
        self._in_hand.clear()
        self._returning.clear()
        self._output.clear()
        self._bytes = 0
        self._grabbing = Grabbing(_GRAB)

    def _send(self) -> bool:
        return self._wire.send(self._fill)

    def _fill(self) -> bytes:
        data = bytes(self._output)
        self._output.clear()
        return data
