"""A sink worker's way out of the queue: jobs of lanes and mapped functions in, WORK_COMPLETE out (LaneJobs, asyncio).

Grabs are pipelined: up to `prefetch` jobs are in the worker's hands at once, in lane order. Reconnecting is the
caller's: everything raises TransientError once the connection is gone. It knows nothing of what is in a job.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from syncbridge.dispatch import packets as p
from syncbridge.dispatch.packets import Packet
from syncbridge.dispatch.peers.grabbing import Grabbing
from syncbridge.dispatch.peers.link import Link
from syncbridge.dispatch.target import Target, open_first
from syncbridge.errors import ProtocolError, TransientError
from syncbridge.seams import ISOLATED_SUFFIX, LaneJob, lane_function

_GRAB = p.request(p.GRAB_JOB_UNIQ)
_TIMEOUT = 10.0


class LaneWorker:
    """LaneJobs over the Gearman protocol: all lanes of a pipeline, the isolated ones too, and plain `functions`.

    `prefetch`: jobs in hand at most, answered ones not counted. `max_packet`: the server's limit,
    bytes. Targets are tried in order at every connect().
    """

    def __init__(
        self,
        pipeline: str,
        lanes: int,
        targets: Sequence[Target | tuple[str, int]],
        *,
        functions: Sequence[str] = (),
        prefetch: int = 16,
        client_id: str = "",
        max_packet: int = p.MAX_PACKET,
    ) -> None:
        self._functions: dict[bytes, tuple[int, bool, str]] = {
            function.encode(): (-1, False, function) for function in functions
        }
        for lane in range(lanes):
            name = lane_function(pipeline, lane)
            self._functions[name.encode()] = (lane, False, "")
            self._functions[(name + ISOLATED_SUFFIX).encode()] = (lane, True, "")
        self._targets = [Target(*target) for target in targets]
        self._prefetch = prefetch
        self._client_id = client_id
        self._max_packet = max_packet
        self._link: _Link | None = None

    async def connect(self) -> None:
        await self._drop()
        _, link = await open_first(
            self._targets, lambda: _Link(self._functions, self._prefetch, self._max_packet), _TIMEOUT
        )
        self._link = link
        announced = [p.request(p.CAN_DO, function) for function in self._functions]
        if self._client_id:
            announced.insert(0, p.request(p.SET_CLIENT_ID, self._client_id.encode()))
        link.begin(b"".join(announced))

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


class _Link(Link):
    """One connection: which jobs are in hand, and that never more are than the prefetch."""

    def __init__(self, functions: dict[bytes, tuple[int, bool, str]], prefetch: int, max_packet: int) -> None:
        super().__init__(max_packet)
        self._functions = functions
        self._prefetch = prefetch
        self._grabbing = Grabbing(_GRAB)
        self._arrived: list[LaneJob] = []
        self._in_hand: dict[bytes, LaneJob] = {}
        #: close() was called: what still arrives is given back.
        self._leaving = False
        self._wanted = asyncio.Event()

    def begin(self, announcement: bytes) -> None:
        self.write(announcement)
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
        self.write(packet)
        self._grab(1)

    async def give_back(self) -> None:
        """RESET_ABILITIES, then WORK_FAIL for every lane job in hand and every one that a grab still brings.

        A plain function's job would be over after WORK_FAIL on a server that does not know it is mapped: those return
        when the connection ends.
        """
        self._leaving = True
        self.write(p.request(p.RESET_ABILITIES))
        for handle, job in self._in_hand.items():
            if not job.function:
                self.write(p.request(p.WORK_FAIL, handle))
        self._in_hand.clear()
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TIMEOUT):
                while self._grabbing.out and self.error is None:
                    self._wanted.clear()
                    await self._wanted.wait()

    # -- Link ----------------------------------------------------------------------------------------------------

    def received(self, packets: list[Packet]) -> None:
        for kind, body in packets:
            if kind == p.JOB_ASSIGN_UNIQ:
                self._assigned(body)
            elif kind == p.NO_JOB:
                self._grabbing.no_job()
            elif kind == p.NOOP:
                self._grabbing.woken()
                self._grab(1)
        if self._leaving:
            self._wanted.set()
        else:
            self.write(self._grabbing.sleep())

    def broken(self, error: Exception) -> None:
        self._wanted.set()

    # -- grabbing ------------------------------------------------------------------------------------------------

    def _assigned(self, body: bytes) -> None:
        self._grabbing.assigned()
        handle, function, _, workload = p.arguments(body, 4)
        lane, isolated, plain = self._functions[function]
        if self._leaving:
            if not plain:
                self.write(p.request(p.WORK_FAIL, handle))
            return
        job = LaneJob(handle, workload, lane, isolated, plain)
        self._in_hand[handle] = job
        self._arrived.append(job)
        self._grab(2)
        self._wanted.set()

    def _grab(self, count: int) -> None:
        if not self._leaving:
            room = self._prefetch - self._grabbing.out - len(self._in_hand)
            self.write(self._grabbing.ask(count, room))
