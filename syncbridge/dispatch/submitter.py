"""Capture's way into the queue: lane jobs out, durable answers in, over one pipelined connection (LaneQueue).

Submissions are sent without waiting; the server answers them in order, JOB_CREATED once durable. What has no answer
yet is kept and sent again on the next connection, so after a crash of the server a job may be there twice and never
not at all. It knows nothing of what is in a job.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.packets import PacketReader
from syncbridge.dispatch.target import Target, unreachable
from syncbridge.errors import PermanentError, ProtocolError, TransientError
from syncbridge.seams import LANE_PREFIX, lane_function

#: Longest wait for the server where a call may block, seconds.
_TIMEOUT = 10.0
#: A refused job is sent again after this long, doubled with every refusal in a row up to the maximum, seconds.
_BACKOFF, _MAX_BACKOFF = 0.05, 2.0
#: Bytes handed to the socket at a time.
_CHUNK = 1 << 18
#: The socket takes or gives nothing now.
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


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
        self._targets = [Target(*target) for target in targets]
        self._max_packet = max_packet
        self._functions: dict[int, bytes] = {}
        self._submitted = 0
        self._socket: socket.socket | None = None
        self._target = self._targets[0]
        self._poll = select.poll()
        #: To be sent; sent and not answered; refused by a full queue. Each ascending, and in this order of age:
        #: refused, sent, unsent, but nothing new is sent while something is refused, so that lanes keep their order.
        self._unsent: deque[Submission] = deque()
        self._sent: deque[Submission] = deque()
        self._refused: deque[Submission] = deque()
        self._output = b""
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
        failure: Exception | None = None
        for target in self._targets:
            try:
                connection = target.connect(_TIMEOUT)
            except OSError as error:
                failure = error
                continue
            try:
                identity = _ask(connection, b"queue id\n")
            except (OSError, ProtocolError) as error:
                connection.close()
                failure = error
                continue
            connection.setblocking(False)
            self._target, self._socket = target, connection
            self._reader = PacketReader(magic=p.RES, max_packet=self._max_packet + p.ANSWER_EXTRA)
            self._poll.register(connection, select.POLLIN)
            return identity.removeprefix(b"OK ").decode() if identity.startswith(b"OK ") else ""
        raise unreachable(self._targets, failure)

    def close(self) -> None:
        self._disconnect()
        self._unsent.clear()
        self._backlog = self._bytes = 0

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket else -1

    def _disconnect(self) -> None:
        """Forget the connection and keep what it left unanswered, oldest first. Probes die with it."""
        if self._socket is not None:
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._poll.unregister(self._socket)
            self._socket.close()
            self._socket = None
        kept = [s for queue in (self._refused, self._sent, self._unsent) for s in queue if s.number]
        kept.sort()
        self._refused.clear()
        self._sent.clear()
        self._unsent = deque(kept)
        self._output = b""
        self._resend_at, self._backoff = 0.0, _BACKOFF
        self._probes.clear()

    def _lost(self, reason: object) -> TransientError:
        self._disconnect()
        return TransientError(f"connection to the job server {self._target} is lost: {reason}")

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
        if self._socket is None:
            raise TransientError("not connected to the job server")
        deadline = time.monotonic() + timeout
        while True:
            self._send()
            if self._receive():
                self._send()
                return
            now = time.monotonic()
            if now >= deadline or not (self._sent or self._refused or self._unsent or self._probes):
                return
            resend = self._resend_at if self._refused and not self._sent else deadline
            self._wait(min(deadline, resend) - now)

    def _wait(self, seconds: float) -> None:
        assert self._socket is not None
        events = select.POLLIN | (select.POLLOUT if self._output else 0)
        self._poll.modify(self._socket, events)
        self._poll.poll(max(0.0, seconds) * 1000)

    def _send(self) -> None:
        """Hand the socket what it takes."""
        assert self._socket is not None
        while True:
            if not self._output and not self._fill():
                return
            try:
                sent = self._socket.send(self._output)
            except _NOT_NOW:
                return
            except OSError as error:
                raise self._lost(error) from error
            self._output = self._output[sent:]

    def _fill(self) -> bool:
        """Choose what goes next. Refused jobs wait for their time, and everything younger waits for them."""
        if self._refused:
            if self._sent or time.monotonic() < self._resend_at:
                return False
            self._unsent.extendleft(reversed(self._refused))
            self._refused.clear()
            self._resend_at = 0.0
        packets, size = [], 0
        while self._unsent and size < _CHUNK:
            submission = self._unsent.popleft()
            self._sent.append(submission)
            packets.append(submission.packet)
            size += len(submission.packet)
        self._output = b"".join(packets)
        return bool(packets)

    def _receive(self) -> bool:
        """Read what is there; True when something was answered."""
        assert self._socket is not None
        progress = False
        while True:
            try:
                data = self._socket.recv(_CHUNK)
            except _NOT_NOW:
                return progress
            except OSError as error:
                raise self._lost(error) from error
            if not data:
                raise self._lost("closed by the server")
            for kind, body in self._reader.receive(data):
                self._take(kind, body)
                progress = True
            if self._reader.error is not None:
                raise self._lost(self._reader.error)

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
            raise self._lost(f"{p.NAMES[kind]} without a submission")
        return self._sent.popleft()

    def _refuse(self, submission: Submission, body: bytes) -> None:
        code, _, text = body.partition(b"\0")
        if code != b"QUEUE_ERROR":
            raise self._lost(f"job refused with {code.decode(errors='replace')}: {text.decode(errors='replace')}")
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
            with self._target.connect(_TIMEOUT) as connection:
                answer = _ask(connection, b"queue pending " + prefix + b"\n")
        except (OSError, ProtocolError) as error:
            raise TransientError(f"job server cannot be asked for its queue: {error}") from error
        if not answer.startswith(b"OK "):
            raise TransientError(
                "this Gearman server cannot count the jobs of a pipeline", hint="use syncbridge's own job server"
            )
        return int(answer[3:])


def _ask(connection: socket.socket, command: bytes) -> bytes:
    """One text command, its one-line answer without the end of line. Raises OSError, ProtocolError."""
    connection.sendall(command)
    answer = b""
    while not answer.endswith(b"\n"):
        data = connection.recv(4096)
        if not data or len(answer) > p.MAX_LINE:
            raise ProtocolError("the server closed the connection without an answer")
        answer += data
    return answer.strip()
