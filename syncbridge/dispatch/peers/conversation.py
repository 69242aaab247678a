"""A client's side of one connection: which answer belongs to which request, and which report to which job. No socket.

Answers come in the order of the requests. Reports name their job; two foreground submits that the server joined have
one handle, and every report then comes once for each of them, in a row.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.packets import Packet
from syncbridge.dispatch.peers.errors import AcceptanceUnknown, JobRefused, ResultUnknown
from syncbridge.dispatch.peers.server import Server
from syncbridge.dispatch.peers.task import JobHandle, Task
from syncbridge.errors import PermanentError, ProtocolError, SyncbridgeError

_ENDINGS: Final = frozenset((p.WORK_COMPLETE, p.WORK_FAIL, p.WORK_EXCEPTION))
_REPORTS: Final = _ENDINGS | {p.WORK_DATA, p.WORK_WARNING, p.WORK_STATUS}


class Request:
    """Waits for one answer. `kind`: the packet that answers it; `task`: the foreground job it submits."""

    __slots__ = ("answer", "kind", "task")

    def __init__(self, kind: int, answer: asyncio.Future[bytes], task: Task | None) -> None:
        self.kind = kind
        self.answer = answer
        self.task = task


class Conversation:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._requests: deque[Request] = deque()
        self._tasks: dict[bytes, deque[Task]] = {}
        #: Reports of jobs whose JOB_CREATED is still on its way: they may overtake it.
        self._early: list[Packet] = []
        #: Foreground submits without an answer.
        self._submitting = 0

    @property
    def waiting(self) -> bool:
        """Somebody waits for something."""
        return bool(self._requests or self._tasks)

    @property
    def unanswered(self) -> bool:
        return bool(self._requests)

    def expect(self, kind: int, answer: asyncio.Future[bytes], task: Task | None = None) -> None:
        """A request was sent. `answer` gets the body of its answer, or the error that it is."""
        self._requests.append(Request(kind, answer, task))
        if task is not None:
            self._submitting += 1

    def receive(self, packets: list[Packet]) -> None:
        """Raises ProtocolError when an answer fits no request."""
        for kind, body in packets:
            if kind in _REPORTS:
                self._report(kind, body)
            elif kind != p.NOOP:
                self._answer(kind, body)

    def end(self, error: Exception) -> None:
        """The connection is lost: so is everything that was waited for."""
        requests, self._requests = self._requests, deque()
        for request in requests:
            if not request.answer.done():
                request.answer.set_exception(
                    AcceptanceUnknown(f"connection to the job server {self._server} is lost: {error}")
                )
        tasks, self._tasks = self._tasks, {}
        for same in tasks.values():
            for task in same:
                task.lost(ResultUnknown(f"connection to the job server {self._server} is lost: {error}"))

    def _answer(self, kind: int, body: bytes) -> None:
        if not self._requests:
            raise ProtocolError(f"{p.NAMES.get(kind, 'text')} without a request: {body[:200]!r}")
        request = self._requests[0]
        if kind not in (request.kind, p.ERROR):
            raise ProtocolError(f"{p.NAMES.get(kind, 'text')} where {p.NAMES[request.kind]} was due")
        self._requests.popleft()
        task, answer = request.task, request.answer
        if task is not None:
            self._submitting -= 1
            if kind != p.ERROR:
                self._accepted(task, body)
        if answer.done():
            return
        if kind == p.ERROR:
            answer.set_exception(_refusal(body))
        else:
            answer.set_result(body)

    def _accepted(self, task: Task, handle: bytes) -> None:
        task.handle = JobHandle(handle, self._server)
        self._tasks.setdefault(handle, deque()).append(task)
        if self._early:
            early, self._early = self._early, []
            for kind, body in early:
                self._report(kind, body)

    def _report(self, kind: int, body: bytes) -> None:
        handle, _, rest = body.partition(b"\0")
        same = self._tasks.get(handle)
        if same is None:
            if self._submitting:
                self._early.append((kind, body))
            else:
                self._early.clear()
            return
        task = same.popleft()
        if kind not in _ENDINGS:
            same.append(task)
        elif not same:
            del self._tasks[handle]
        task.report(kind, rest)


def _refusal(body: bytes) -> SyncbridgeError:
    code, _, text = (part.decode(errors="replace") for part in body.partition(b"\0"))
    if code == "QUEUE_ERROR":
        return JobRefused(f"job server does not take the job: {text}")
    return PermanentError(f"job server refused the request with {code}: {text}")
