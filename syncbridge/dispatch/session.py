"""One connection's side of the protocol: packets in, calls on the queue core, packets out. No socket, no clock.

A connection may submit, work, or both. Replies keep the order of the requests: while a submit waits for its commit,
whatever is answered after it waits behind it. NOOP and WORK_* are not replies and go out at once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable

from syncbridge.dispatch import calendar
from syncbridge.dispatch import packets as p
from syncbridge.dispatch.admin import answer_text
from syncbridge.dispatch.job import HIGH, LOW, NORMAL, Job
from syncbridge.dispatch.queue import JobQueue
from syncbridge.dispatch.text import leading_number, one_line
from syncbridge.dispatch.worker import Worker
from syncbridge.errors import ProtocolError

logger = logging.getLogger(__name__)

_MAX_FUNCTION = p.MAX_FUNCTION
_MAX_UNIQUE = p.MAX_UNIQUE
MAX_CLIENT_ID = 127
#: CAN_DO_TIMEOUT counts milliseconds, but no worker gets less than this, seconds.
_LEAST_TIMEOUT = 1.0
#: The latest time a job can be due, Unix time: the year 9999.
_LAST_SECOND = 253_402_300_799

_NOOP = p.response(p.NOOP)
_NO_JOB = p.response(p.NO_JOB)

#: The header of JOB_CREATED, by the length of the handle.
_CREATED = [p.pack_header(p.RES, p.JOB_CREATED, size) for size in range(p.MAX_HANDLE + 1)]

#: Makes the answer to a grab from (handle, job, payload).
Assigned = Callable[[bytes, Job, bytes], bytes]
#: Acts on a request: its body, and the time.
Handler = Callable[["Session", bytes, float], None]


class Session:
    """Feed it with receive(); send what drain() gives.

    `on_output` is called when there is something to send after there was nothing. `closing` is set once the peer is to
    be closed after the output; requests still unread are then dropped.
    """

    def __init__(
        self,
        queue: JobQueue,
        on_output: Callable[[], None],
        *,
        number: int = 0,
        address: str = "-",
        sessions: Iterable[Session] = (),
    ) -> None:
        self.queue = queue
        self._holdings = queue.holdings
        self._pause = queue.limits.output_pause
        self._submit = queue.submit
        self._queue_run = queue.submit_run
        self._grab_job = queue.grab
        self._complete = queue.complete
        #: For the `workers` command: the connection's number and address, the id it gave itself, and all the others.
        self.number = number
        self.address = address
        self.client_id = b"-"
        self.sessions = sessions
        self.closing = False
        #: Set by the driver while the peer does not read: requests wait in the inbox.
        self.blocked = False
        self.worker: Worker | None = None
        self._on_output = on_output
        self._output = bytearray()
        self._reader = p.PacketReader(max_packet=queue.limits.max_packet)
        self._inbox: deque[p.Packet] = deque()
        #: Requests that the queue core answers, not answered yet; further replies wait behind them.
        self._unanswered = 0
        #: Foreground jobs whose results this connection waits for.
        self._waiting: dict[int, Job] = {}
        self._exceptions = False
        #: The job that this worker ended last with WORK_EXCEPTION.
        self._excepted: bytes | None = None
        #: A grab that waits for a read, as the function that makes its answer; all later requests wait behind it.
        self._grabbing: Assigned | None = None
        #: Called when it may go on; the driver calls resume().
        self.on_retry: Callable[[], None] = lambda: None
        #: Disconnected.
        self._gone = False

    # -- driver --------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Requests wait in the inbox until output is drained."""
        return bool(self._inbox)

    @property
    def held(self) -> int:
        """Bytes of an incomplete packet."""
        return self._reader.held

    @property
    def output_size(self) -> int:
        """Bytes not drained yet."""
        return len(self._output)

    def receive(self, data: bytes, now: float) -> bool:
        """Take bytes from the peer and act on every complete packet. True: they were one, and nothing is left to do."""
        if self.closing:
            return False
        if self._inbox or self._grabbing is not None or self.blocked:
            self._inbox.extend(self._reader.receive(data))
            self.resume(now)
        elif kind := self._reader.lone(data):
            self._holdings.now = now
            try:
                _HANDLERS[kind](self, data[p.HEADER_SIZE :], now)
            except ProtocolError as error:
                self._broken(error)
            return not self.closing
        else:
            data = self._reader.join(data)
            self._work(self._reader.cut(data, self._submit_run(data, now)), now)
        return False

    def _submit_run(self, data: bytes, now: float) -> int:
        """Take the SUBMIT_JOB_BG for one function that come first, if nothing is unusual; returns where they end."""
        run = self._reader.submits(data)
        if run is None:
            return 0
        self._holdings.now = now
        self._unanswered += len(run.payloads)
        if self._queue_run(self, run.function, NORMAL, run.uniques, run.payloads, now):
            return run.end
        self._unanswered -= len(run.payloads)
        return 0

    def resume(self, now: float) -> None:
        """Work on the inbox until it is empty or the peer has too much to read."""
        if self.closing:
            return
        if self._grabbing is not None:
            self._holdings.now = now
            assigned, self._grabbing = self._grabbing, None
            self._grab(assigned, now)
        if self.blocked or self._grabbing is not None:
            return
        packets, self._inbox = self._inbox, deque()
        self._work(packets, now)

    def _work(self, packets: Iterable[p.Packet], now: float) -> None:
        """Act on packets; those that have to wait go to the inbox, which is empty."""
        self._holdings.now = now
        output, pause, handlers = self._output, self._pause, _HANDLERS
        waiting = iter(packets)
        try:
            for kind, body in waiting:
                handlers[kind](self, body, now)
                if len(output) > pause or self._grabbing is not None or self.closing:
                    if not self.closing:
                        self._inbox.extend(waiting)
                    break
        except ProtocolError as error:
            self._broken(error)
        if self._reader.error is not None and not self._inbox:
            self.closing = True

    def _broken(self, error: ProtocolError) -> None:
        logger.info("%s closed: %s", self.address, error)
        self.closing = True

    def drain(self) -> bytes:
        """What is to be sent now."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def discard(self) -> None:
        """Let go of everything unread and unsent."""
        self.closing = True
        self._reader.discard()
        self._inbox.clear()
        self._output.clear()

    def disconnected(self) -> None:
        """The connection is gone: its jobs return to the queue, the jobs only it waited for are dropped."""
        self.discard()
        self._gone = True
        if self.worker is not None:
            self.queue.disconnect(self.worker)
        for job in self._waiting.values():
            self.queue.abandon(self, job)

    # -- Client (see job.py) -------------------------------------------------------------------------------------

    def created(self, job: Job) -> None:
        self._unanswered -= 1
        if job.clients and self in job.clients:
            if self._gone:
                self.queue.abandon(self, job)
                return
            self._waiting[job.id] = job
        if self.closing:
            return
        handle, output = job.handle, self._output
        if not output:
            self._on_output()
        output += _CREATED[len(handle)]
        output += handle

    def created_run(self, first: int, count: int) -> None:
        self._unanswered -= count
        self._send(_created(self.queue.handles.format, first, count))

    def refused(self, reason: str) -> None:
        self._unanswered -= 1
        self._send(p.response(p.ERROR, b"QUEUE_ERROR", reason.encode()))

    def deliver(self, reply: bytes) -> None:
        self._unanswered -= 1
        self._send(reply)

    def progress(self, kind: int, job: Job, data: bytes) -> None:
        handle = job.handle
        if kind == p.WORK_EXCEPTION and not self._exceptions:
            kind = p.WORK_FAIL
        packet = p.response(kind, handle) if kind == p.WORK_FAIL else p.response(kind, handle, data)
        if job.id not in self._waiting:
            self._reply(packet)  # behind the JOB_CREATED that tells the client of this job
            return
        if kind in (p.WORK_COMPLETE, p.WORK_FAIL, p.WORK_EXCEPTION):
            del self._waiting[job.id]
        self._send(packet)

    def expect_reply(self) -> None:
        """The queue core will answer a request by one of these; replies to later requests wait behind it."""
        self._unanswered += 1

    # -- output --------------------------------------------------------------------------------------------------

    def _send(self, packet: bytes) -> None:
        if self.closing:
            return
        if not self._output:
            self._on_output()
        self._output += packet

    def _reply(self, packet: bytes) -> None:
        if self._unanswered:
            self._unanswered += 1
            self.queue.answer(self, packet)
        elif not self.closing:
            if not self._output:
                self._on_output()
            self._output += packet

    def _error(self, code: bytes, text: bytes) -> None:
        self._reply(p.response(p.ERROR, code, text))

    # -- client packets ------------------------------------------------------------------------------------------

    def _on_submit_epoch(self, body: bytes, now: float) -> None:
        function, unique, epoch, payload = p.arguments(body, 4)
        self._submit_later(function, unique, leading_number(epoch), payload, now)

    def _on_submit_sched(self, body: bytes, now: float) -> None:
        function, unique, *fields, payload = p.arguments(body, 3 + len(calendar.FIELDS))
        try:
            due = calendar.next_time(fields, self.queue.holdings.clock() / 1e6)
        except ProtocolError as error:
            self._error(b"INVALID_COMMAND", str(error).encode())
            return
        self._submit_later(function, unique, due, payload, now)

    def _submit_later(self, function: bytes, unique: bytes, due: int, payload: bytes, now: float) -> None:
        if self._acceptable(function, unique):
            self.expect_reply()
            due = min(due, _LAST_SECOND) * 1_000_000
            self.queue.submit(self, function, NORMAL, unique, payload, True, now, due=due)

    def _submit_reduce(self, background: bool, body: bytes, now: float) -> None:
        # The fourth argument is not in the protocol document; gearmand and its clients have it, and do not use it.
        function, unique, reducer, _, payload = p.arguments(body, 5)
        if self._acceptable(function, unique) and (not reducer or self._acceptable(reducer, unique)):
            self.expect_reply()
            self.queue.submit(self, function, NORMAL, unique, payload, background, now, reducer=reducer)

    def _on_submit_reduce(self, body: bytes, now: float) -> None:
        self._submit_reduce(False, body, now)

    def _on_submit_reduce_background(self, body: bytes, now: float) -> None:
        self._submit_reduce(True, body, now)

    def _acceptable(self, function: bytes, unique: bytes) -> bool:
        """Whether a job of this function and unique may be; if not, it is answered."""
        if len(unique) > _MAX_UNIQUE:
            self._error(b"ARGUMENT_TOO_LARGE", b"Unique value too large")
        elif len(function) > _MAX_FUNCTION:
            self._error(b"ARGUMENT_TOO_LARGE", b"Function value too large")
        elif not function:
            self._error(b"INVALID_COMMAND", b"Function name is empty")
        else:
            return True
        return False

    def _on_get_status(self, body: bytes, now: float) -> None:
        self.expect_reply()
        self.queue.status(self, body)

    def _on_get_status_unique(self, body: bytes, now: float) -> None:
        self.expect_reply()
        self.queue.unique_status(self, body)

    def _on_echo(self, body: bytes, now: float) -> None:
        self._reply(p.response(p.ECHO_RES, body))

    def _on_option(self, body: bytes, now: float) -> None:
        if body.lower() == b"exceptions":
            self._exceptions = True
            self._reply(p.response(p.OPTION_RES, body))
        else:
            self._error(b"UNKNOWN_OPTION", b"Server does not recognize given option")

    def _on_text(self, line: bytes, now: float) -> None:
        answer = answer_text(self, line, now)
        if answer:
            self._reply(answer)

    def _on_misdirected(self, body: bytes, now: float) -> None:
        self._error(b"INVALID_MAGIC", b"Request magic expected")

    # -- worker packets ------------------------------------------------------------------------------------------

    def _as_worker(self) -> Worker:
        if self.worker is None:
            self.worker = Worker(self._wake, lambda: self.on_retry())
        return self.worker

    def _wake(self) -> None:
        self._send(_NOOP)

    def _on_set_client_id(self, body: bytes, now: float) -> None:
        self.client_id = one_line(body[:MAX_CLIENT_ID])

    def _on_can_do(self, body: bytes, now: float) -> None:
        if self._acceptable(body, b""):
            self.queue.can_do(self._as_worker(), body)

    def _on_can_do_timeout(self, body: bytes, now: float) -> None:
        function, milliseconds = p.arguments(body, 2)
        if self._acceptable(function, b""):
            seconds = leading_number(milliseconds) / 1000
            self.queue.can_do(self._as_worker(), function, max(seconds, _LEAST_TIMEOUT) if seconds else 0.0)

    def _on_cant_do(self, body: bytes, now: float) -> None:
        self.queue.cannot_do(self._as_worker(), body)

    def _on_reset_abilities(self, body: bytes, now: float) -> None:
        self.queue.reset_abilities(self._as_worker())

    def _on_pre_sleep(self, body: bytes, now: float) -> None:
        self.queue.pre_sleep(self._as_worker(), now)

    def _on_grab_job(self, body: bytes, now: float) -> None:
        worker = self.worker or self._as_worker()
        grabbed = self._grab_job(worker, now)
        if grabbed is None:
            self._grab_nothing(worker, _job_assign)
        elif self._unanswered or self.closing:
            self._reply(_job_assign(*grabbed))
        else:
            handle, job, payload = grabbed
            body, output = b"\0".join((handle, job.function.name, payload)), self._output
            if not output:
                self._on_output()
            output += p.pack_header(p.RES, p.JOB_ASSIGN, len(body))
            output += body

    def _on_grab_job_uniq(self, body: bytes, now: float) -> None:
        self._grab(_job_assign_uniq, now)

    def _on_grab_job_all(self, body: bytes, now: float) -> None:
        self._grab(_job_assign_all, now)

    def _grab(self, assigned: Assigned, now: float) -> None:
        worker = self._as_worker()
        grabbed = self._grab_job(worker, now)
        if grabbed is not None:
            self._reply(assigned(*grabbed))
        else:
            self._grab_nothing(worker, assigned)

    def _grab_nothing(self, worker: Worker, assigned: Assigned) -> None:
        if worker.waits:
            self._grabbing = assigned  # its job is being read: resume() will try again
        else:
            self._reply(_NO_JOB)

    # -- reports: a packet without data counts as one with empty data ----------------------------------------------

    def _on_work_complete(self, body: bytes, now: float) -> None:
        handle, _, data = body.partition(b"\0")
        if not self._complete(self.worker or self._as_worker(), handle, data):
            self._reported(False)

    def _on_work_fail(self, body: bytes, now: float) -> None:
        # Perl's worker ends the handle with a NUL, abraxas puts a text behind one.
        handle = body.partition(b"\0")[0]
        known = self.queue.fail(self._as_worker(), handle, now)
        # Many workers send WORK_FAIL after WORK_EXCEPTION; those of Perl and abraxas would die of the ERROR.
        self._reported(known or handle == self._excepted)

    def _on_work_exception(self, body: bytes, now: float) -> None:
        handle, _, data = body.partition(b"\0")
        known = self.queue.fail(self._as_worker(), handle, now, p.WORK_EXCEPTION, data)
        if known:
            self._excepted = handle
        self._reported(known, b"An exception was received for a job that does not exist")

    def _on_work_data(self, body: bytes, now: float) -> None:
        handle, _, data = body.partition(b"\0")
        known = self.queue.progress(self._as_worker(), handle, p.WORK_DATA, data)
        self._reported(known, b"Job does not exist on server")

    def _on_work_warning(self, body: bytes, now: float) -> None:
        handle, _, data = body.partition(b"\0")
        known = self.queue.progress(self._as_worker(), handle, p.WORK_WARNING, data)
        self._reported(known, b"Job does not exist on server")

    def _on_work_status(self, body: bytes, now: float) -> None:
        handle, numerator, denominator = p.arguments(body, 3)
        worker = self._as_worker()
        self.queue.set_status(worker, handle, b"%d" % leading_number(numerator), b"%d" % leading_number(denominator))
        self._reported(self.queue.progress(worker, handle, p.WORK_STATUS, numerator + b"\0" + denominator))

    def _reported(self, known: bool, otherwise: bytes = b"Job given in work result not found") -> None:
        if not known:
            self._error(b"JOB_NOT_FOUND", otherwise)


def _on_submit(priority: int, *, background: bool) -> Handler:
    """What one of the six SUBMIT_JOB packets does."""

    def submit(session: Session, body: bytes, now: float) -> None:
        try:
            function, unique, payload = body.split(b"\0", 2)
        except ValueError:
            raise ProtocolError("SUBMIT_JOB needs function, unique and data") from None
        if 0 < len(function) <= _MAX_FUNCTION and len(unique) <= _MAX_UNIQUE:
            session._unanswered += 1
            session._submit(session, function, priority, unique, payload, background, now)
        else:
            session._acceptable(function, unique)

    return submit


def _created(handle_format: bytes, first: int, count: int) -> bytes:
    """JOB_CREATED of jobs with neighbouring ids: those with handles of one length in one go."""
    answers, end = [], first + count
    while first < end:
        handle = handle_format % first
        longer = min(end, 10 ** len(b"%d" % first))
        answer = _CREATED[len(handle)].replace(b"%", b"%%") + handle_format
        answers.append(answer * (longer - first) % tuple(range(first, longer)))
        first = longer
    return b"".join(answers)


def _job_assign(handle: bytes, job: Job, payload: bytes) -> bytes:
    return p.response(p.JOB_ASSIGN, handle, job.function.name, payload)


def _job_assign_uniq(handle: bytes, job: Job, payload: bytes) -> bytes:
    return p.response(p.JOB_ASSIGN_UNIQ, handle, job.function.name, job.unique, payload)


def _job_assign_all(handle: bytes, job: Job, payload: bytes) -> bytes:
    if not job.reducer:
        return _job_assign_uniq(handle, job, payload)
    return p.response(p.JOB_ASSIGN_ALL, handle, job.function.name, job.unique, job.reducer, payload)


def _not_expected(session: Session, body: bytes, now: float) -> None:
    session._error(b"INVALID_COMMAND", b"Command not expected")


#: By packet type; the last one is that of MISDIRECTED, -1.
_HANDLERS: list[Handler] = [_not_expected] * (p.LAST_TYPE + 2)
for _kind, _handler in {
    p.TEXT: Session._on_text,
    p.MISDIRECTED: Session._on_misdirected,
    p.CAN_DO: Session._on_can_do,
    p.CAN_DO_TIMEOUT: Session._on_can_do_timeout,
    p.CANT_DO: Session._on_cant_do,
    p.RESET_ABILITIES: Session._on_reset_abilities,
    p.PRE_SLEEP: Session._on_pre_sleep,
    p.GRAB_JOB: Session._on_grab_job,
    p.GRAB_JOB_UNIQ: Session._on_grab_job_uniq,
    p.GRAB_JOB_ALL: Session._on_grab_job_all,
    p.WORK_COMPLETE: Session._on_work_complete,
    p.WORK_FAIL: Session._on_work_fail,
    p.WORK_EXCEPTION: Session._on_work_exception,
    p.WORK_DATA: Session._on_work_data,
    p.WORK_WARNING: Session._on_work_warning,
    p.WORK_STATUS: Session._on_work_status,
    p.SUBMIT_JOB: _on_submit(NORMAL, background=False),
    p.SUBMIT_JOB_HIGH: _on_submit(HIGH, background=False),
    p.SUBMIT_JOB_LOW: _on_submit(LOW, background=False),
    p.SUBMIT_JOB_BG: _on_submit(NORMAL, background=True),
    p.SUBMIT_JOB_HIGH_BG: _on_submit(HIGH, background=True),
    p.SUBMIT_JOB_LOW_BG: _on_submit(LOW, background=True),
    p.SUBMIT_JOB_EPOCH: Session._on_submit_epoch,
    p.SUBMIT_JOB_SCHED: Session._on_submit_sched,
    p.SUBMIT_REDUCE_JOB: Session._on_submit_reduce,
    p.SUBMIT_REDUCE_JOB_BACKGROUND: Session._on_submit_reduce_background,
    p.GET_STATUS: Session._on_get_status,
    p.GET_STATUS_UNIQUE: Session._on_get_status_unique,
    p.ECHO_REQ: Session._on_echo,
    p.OPTION_REQ: Session._on_option,
    p.SET_CLIENT_ID: Session._on_set_client_id,
}.items():
    _HANDLERS[_kind] = _handler
