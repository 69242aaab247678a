"""A sink worker's way out of the queue: lane jobs in, WORK_COMPLETE out (LaneJobs, asyncio).

Grabs are pipelined: up to `prefetch` jobs are in the worker's hands at once, in lane order. Reconnecting is the
caller's: everything raises TransientError once the connection is gone. It knows nothing of what is in a job.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import cast

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.packets import PacketReader
from syncbridge.dispatch.target import Target
from syncbridge.errors import ProtocolError, TransientError
from syncbridge.seams import ISOLATED_SUFFIX, LaneJob, lane_function

_GRAB = p.request(p.GRAB_JOB_UNIQ)
_PRE_SLEEP = p.request(p.PRE_SLEEP)
_TIMEOUT = 10.0


class LaneWorker:
    """LaneJobs over the Gearman protocol: all lanes of a pipeline, the isolated ones too.

    `prefetch`: jobs in hand at most, answered ones not counted. `max_packet`: the server's limit,
    bytes. Targets are tried in order at every connect().
    """

    def __init__(
        self,
        pipeline: str,
        lanes: int,
        targets: Sequence[Target | tuple[str, int]],
        *,
        prefetch: int = 16,
        client_id: str = "",
        max_packet: int = p.MAX_PACKET,
    ) -> None:
        self._functions: dict[bytes, tuple[int, bool]] = {}
        for lane in range(lanes):
            name = lane_function(pipeline, lane)
            self._functions[name.encode()] = (lane, False)
            self._functions[(name + ISOLATED_SUFFIX).encode()] = (lane, True)
        self._targets = [Target(*target) for target in targets]
        self._prefetch = prefetch
        self._client_id = client_id
        self._max_packet = max_packet
        self._link: _Link | None = None

    async def connect(self) -> None:
        await self._drop()
        failure: Exception | None = None
        for target in self._targets:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    link = await target.open(lambda: _Link(self._functions, self._prefetch, self._max_packet))
            except OSError as error:  # TimeoutError is one
                failure = error
                continue
            self._link = link
            announced = [p.request(p.CAN_DO, function) for function in self._functions]
            if self._client_id:
                announced.insert(0, p.request(p.SET_CLIENT_ID, self._client_id.encode()))
            link.begin(b"".join(announced))
            return
        listed = ", ".join(map(str, self._targets))
        raise TransientError(
            f"job server {listed} cannot be reached: {failure}",
            hint="is `syncbridge server` running, and queue.url right?",
        )

    async def grab(self) -> list[LaneJob]:
        """All jobs that have arrived, in lane order; waits for the first."""
        return await self._connected().jobs()

    async def complete(self, job: LaneJob) -> None:
        self._connected().report(job, p.request(p.WORK_COMPLETE, job.handle, b""))

    async def requeue(self, job: LaneJob) -> None:
        self._connected().report(job, p.request(p.WORK_FAIL, job.handle))

    async def close(self) -> None:
        """Give back what is in hand or on its way, so that no delivery stays without an answer, and close."""
        if self._link is not None:
            await self._link.give_back()
        await self._drop()

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _connected(self) -> _Link:
        if self._link is None:
            raise TransientError("not connected to the job server")
        return self._link


class _Link(asyncio.Protocol):
    """One connection: how many grabs are out, which jobs are in hand, whether the server thinks we sleep.

    A burst starts with one grab and grows by one with every job, up to the prefetch: an idle lane costs two packets
    per job, a busy one keeps the pipe full. NO_JOB stops grabbing; when no grab is out any more, PRE_SLEEP.
    """

    def __init__(self, functions: dict[bytes, tuple[int, bool]], prefetch: int, max_packet: int) -> None:
        self.error: Exception | None = None
        self._functions = functions
        self._prefetch = prefetch
        self._reader = PacketReader(magic=p.RES, max_packet=max_packet + p.ANSWER_EXTRA)
        self._arrived: list[LaneJob] = []
        self._in_hand: dict[bytes, LaneJob] = {}
        self._grabs = 0
        #: A NO_JOB came: no more grabs before a NOOP.
        self._dry = False
        #: close() was called: what still arrives is given back.
        self._leaving = False
        self._output: list[bytes] = []
        self._wanted = asyncio.Event()
        self._closed = asyncio.get_running_loop().create_future()

    def begin(self, announcement: bytes) -> None:
        self._write(announcement)
        self._grab(1)

    async def jobs(self) -> list[LaneJob]:
        while not self._arrived:
            if self.error is not None:
                raise TransientError(f"connection to the job server is lost: {self.error}")
            self._wanted.clear()
            await self._wanted.wait()
        arrived, self._arrived = self._arrived, []
        return arrived

    def report(self, job: LaneJob, packet: bytes) -> None:
        if self.error is not None:
            raise TransientError(f"connection to the job server is lost: {self.error}")
        if self._in_hand.pop(job.handle, None) is None:
            raise ProtocolError("job was reported twice, or came from an earlier connection")
        self._write(packet)
        self._grab(1)

    async def give_back(self) -> None:
        """RESET_ABILITIES, then WORK_FAIL for every job in hand and every one that a grab still brings."""
        self._leaving = True
        self._write(p.request(p.RESET_ABILITIES))
        for handle in self._in_hand:
            self._write(p.request(p.WORK_FAIL, handle))
        self._in_hand.clear()
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TIMEOUT):
                while self._grabs and self.error is None:
                    self._wanted.clear()
                    await self._wanted.wait()

    async def close(self) -> None:
        self._flush()
        self._transport.close()
        await asyncio.wait([self._closed], timeout=_TIMEOUT)

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for kind, body in self._reader.receive(data):
            if kind == p.JOB_ASSIGN_UNIQ:
                self._assigned(body)
            elif kind == p.NO_JOB:
                self._grabs -= 1
                self._dry = True
            elif kind == p.NOOP:
                self._dry = False
                self._grab(1)
        if self._leaving:
            self._wanted.set()
        elif self._dry and not self._grabs:
            self._write(_PRE_SLEEP)
        if self._reader.error is not None:
            self._fail(self._reader.error)
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionResetError("closed by the server"))
        self._closed.set_result(None)

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self._wanted.set()

    # -- grabbing ------------------------------------------------------------------------------------------------

    def _assigned(self, body: bytes) -> None:
        self._grabs -= 1
        handle, function, _, workload = p.arguments(body, 4)
        if self._leaving:
            self._write(p.request(p.WORK_FAIL, handle))
            return
        lane, isolated = self._functions[function]
        job = LaneJob(handle, workload, lane, isolated)
        self._in_hand[handle] = job
        self._arrived.append(job)
        self._grab(2)
        self._wanted.set()

    def _grab(self, count: int) -> None:
        if self._dry or self._leaving:
            return
        count = min(count, self._prefetch - self._grabs - len(self._in_hand))
        if count > 0:
            self._grabs += count
            self._write(_GRAB * count)

    def _write(self, data: bytes) -> None:
        if not self._output:
            asyncio.get_running_loop().call_soon(self._flush)
        self._output.append(data)

    def _flush(self) -> None:
        if self._output and not self._transport.is_closing():
            self._transport.write(b"".join(self._output))
        self._output.clear()
