"""Capture's way into the queue: lane jobs out, durable answers in, over one pipelined connection (LaneQueue).

Submissions are sent without waiting; the server answers them in order, JOB_CREATED once durable. What has no answer
yet is kept and sent again on the next connection, so after a crash of the server a job may be there twice and never
not at all. It knows nothing of what is in a job.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.target import Target
from syncbridge.dispatch.wire import CHUNK, TIMEOUT, Wire, ask
from syncbridge.errors import PermanentError, ProtocolError, TransientError
from syncbridge.seams import LANE_PREFIX, lane_function

#: A refused job is sent again after this long, doubled with every refusal in a row up to the maximum, seconds.
_BACKOFF, _MAX_BACKOFF = 0.05, 2.0


class Submission(NamedTuple):
    """A packet on its way: a lane job (`number` > 0) or a probe (`number` 0)."""

    number: int
    lane: int
    token: int
    size: int
    packet: bytes


class GearmanLanes:
    """LaneQueue over the Gearman protocol. One thread. Targets are tried in order at every connect()."""

    def __init__(
        self, pipeline: str, targets: Sequence[Target | tuple[str, int]], *, max_packet: int = p.MAX_PACKET
    ) -> None:
        self._pipeline = pipeline
        self._wire = Wire(targets, max_packet)
        self._max_packet = max_packet
        self._functions: dict[int, bytes] = {}
        self._submitted = 0
        #: To be sent; sent and not answered; refused by a full queue. Each ascending, and in this order of age:
        #: refused, sent, unsent, but nothing new is sent while something is refused, so that lanes keep their order.
        self._unsent: deque[Submission] = deque()
        self._sent: deque[Submission] = deque()
        self._refused: deque[Submission] = deque()
        self._resend_at = 0.0
        self._backoff = _BACKOFF
        self._backlog = self._bytes = 0
        #: Probes under way by handle, and done.
        self._probes: dict[bytes, tuple[int, int]] = {}
        self._answered: list[tuple[int, int]] = []

    # -- connection ----------------------------------------------------------------------------------------------

    def connect(self) -> str:
        """Connect and return the queue's id (empty where the server has none: a foreign Gearman server)."""
        self._disconnect()
        return self._wire.open()

    def close(self) -> None:
        self._disconnect()
        self._unsent.clear()
        self._backlog = self._bytes = 0

    def fileno(self) -> int:
        return self._wire.fileno()

    def _disconnect(self) -> None:
        """Forget the connection and keep what it left unanswered, oldest first. Probes die with it."""
        self._wire.close()
        kept = [s for queue in (self._refused, self._sent, self._unsent) for s in queue if s.number]
        kept.sort()
        self._refused.clear()
        self._sent.clear()
        self._unsent = deque(kept)
        self._resend_at, self._backoff = 0.0, _BACKOFF
        self._probes.clear()

    # -- submitting ----------------------------------------------------------------------------------------------

    def submit(self, lane: int, workload: bytes) -> int:
        """See LaneQueue. Raises PermanentError for a job that the server would never take."""
        packet = p.request(p.SUBMIT_JOB_BG, self._function(lane), b"", workload)
        if len(packet) - p.HEADER_SIZE > self._max_packet:
            raise PermanentError(
                f"job of {len(workload)} bytes is larger than the job server takes ({self._max_packet} bytes a packet)",
                hint="raise queue.max_packet",
            )
        self._submitted += 1
        self._unsent.append(Submission(self._submitted, lane, 0, len(workload), packet))
        self._backlog += 1
        self._bytes += len(workload)
        return self._submitted

    def probe(self, lane: int, workload: bytes, token: int) -> None:
        packet = p.request(p.SUBMIT_JOB, self._function(lane), b"", workload)
        self._unsent.append(Submission(0, lane, token, 0, packet))

    def _function(self, lane: int) -> bytes:
        name = self._functions.get(lane)
        if name is None:
            name = self._functions[lane] = lane_function(self._pipeline, lane).encode()
        return name

    @property
    def accepted(self) -> int:
        for queue in (self._refused, self._sent, self._unsent):
            for submission in queue:
                if submission.number:
                    return submission.number - 1
        return self._submitted

    @property
    def backlog(self) -> int:
        return self._backlog

    @property
    def backlog_bytes(self) -> int:
        return self._bytes

    def answered(self) -> list[tuple[int, int]]:
        answered, self._answered = self._answered, []
        return answered

    # -- traffic -------------------------------------------------------------------------------------------------

    def poll(self, timeout: float) -> None:
        """See LaneQueue. Returns at once when something was answered, or when nothing is under way."""
        try:
            self._exchange(timeout)
        except TransientError:
            self._disconnect()
            raise

    def _exchange(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            self._wire.send(self._fill)
            if answers := self._wire.receive():
                for kind, body in answers:
                    self._take(kind, body)
                self._wire.send(self._fill)
                return
            now = time.monotonic()
            if now >= deadline or not (self._sent or self._refused or self._unsent or self._probes):
                return
            resend = self._resend_at if self._refused and not self._sent else deadline
            self._wire.wait(min(deadline, resend) - now)

    def _fill(self) -> bytes:
        """Choose what goes next. Refused jobs wait for their time, and everything younger waits for them."""
        if self._refused:
            if self._sent or time.monotonic() < self._resend_at:
                return b""
            self._unsent.extendleft(reversed(self._refused))
            self._refused.clear()
            self._resend_at = 0.0
        packets, size = [], 0
        while self._unsent and size < CHUNK:
            submission = self._unsent.popleft()
            self._sent.append(submission)
            packets.append(submission.packet)
            size += len(submission.packet)
        return b"".join(packets)

    def _take(self, kind: int, body: bytes) -> None:
        if kind == p.JOB_CREATED:
            submission = self._answer(kind)
            self._backoff = _BACKOFF
            if submission.number:
                self._backlog -= 1
                self._bytes -= submission.size
            else:
                self._probes[body] = (submission.lane, submission.token)
        elif kind == p.ERROR:
            self._refuse(self._answer(kind), body)
        elif kind == p.WORK_COMPLETE:
            done = self._probes.pop(body.partition(b"\0")[0], None)
            if done is not None:
                self._answered.append(done)
        elif kind in (p.WORK_FAIL, p.WORK_EXCEPTION):
            self._probes.pop(body.partition(b"\0")[0], None)

    def _answer(self, kind: int) -> Submission:
        if not self._sent:
            raise self._wire.lost(f"{p.NAMES[kind]} without a submission")
        return self._sent.popleft()

    def _refuse(self, submission: Submission, body: bytes) -> None:
        code, _, text = body.partition(b"\0")
        if code != b"QUEUE_ERROR":
            raise self._wire.lost(f"job refused with {code.decode(errors='replace')}: {text.decode(errors='replace')}")
        if not submission.number:
            return  # a probe says what is true now or nothing
        if not self._refused:
            self._resend_at = time.monotonic() + self._backoff
            self._backoff = min(self._backoff * 2, _MAX_BACKOFF)
        self._refused.append(submission)

    # -- totals --------------------------------------------------------------------------------------------------

    def pending(self) -> int:
        prefix = f"{LANE_PREFIX}{self._pipeline}.".encode()
        try:
            with self._wire.target.connect(TIMEOUT) as connection:
                answer = ask(connection, b"queue pending " + prefix + b"\n")
        except (OSError, ProtocolError) as error:
            raise TransientError(f"job server cannot be asked for its queue: {error}") from error
        if not answer.startswith(b"OK "):
            raise TransientError(
                "this Gearman server cannot count the jobs of a pipeline", hint="use syncbridge's own job server"
            )
        return int(answer[3:])
