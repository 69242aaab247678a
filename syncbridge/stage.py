"""One stage as a child process: started, watched, started again with backoff, stopped. What it does is its affair."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

#: Pauses before a crashed stage is started again, and how long it must live to be trusted again (seconds).
FIRST_PAUSE, LONGEST_PAUSE, TRUSTED_AFTER = 0.2, 30.0, 30.0


def next_pause(pause: float, lived: float) -> float:
    """How long to wait before the next start of a stage that lived for `lived` seconds. Pure."""
    return FIRST_PAUSE if lived >= TRUSTED_AFTER else min(2 * pause, LONGEST_PAUSE)


class Stage:
    """`syncbridge <arguments>` as a child. `on_exit(name, code)` hears of every exit that nobody asked for."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: dict[str, str], on_exit: Callable[[str, int], None]
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "syncbridge", *arguments]
        self._environment = environment
        self._on_exit = on_exit
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.running else None

    def start(self) -> None:
        """Start it and keep it running until stop()."""
        self._stopping = False
        self._task = asyncio.create_task(self._keep_running())

    async def _keep_running(self) -> None:
        pause = FIRST_PAUSE / 2
        while not self._stopping:
            began = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the supervisor's to hear: it stops the stages in order
            )
            code = await self._process.wait()
            if self._stopping:
                return
            pause = next_pause(pause, time.monotonic() - began)
            self._on_exit(self.name, code)
            log.warning("%s ended with %s; starting it again in %.1f s", self.name, describe_exit(code), pause)
            await asyncio.sleep(pause * (0.8 + 0.4 * random.random()))  # noqa: S311 - jitter

    async def stop(self, seconds: float) -> None:
        """SIGTERM, then SIGKILL when it has not ended after `seconds`. Nothing happens when it does not run."""
        self._stopping = True
        if self.running:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wait()
        if self.running:
            log.warning("%s did not stop within %.0f s: killing it; nothing is lost", self.name, seconds)
            self.signal(signal.SIGKILL)
            await self._wait()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _wait(self) -> None:
        assert self._process is not None
        await self._process.wait()

    def signal(self, number: int) -> None:
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def describe_exit(code: int) -> str:
    """`exit code 1`, `signal SIGKILL`."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
