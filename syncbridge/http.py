"""/metrics, /healthz and /readyz over HTTP (DESIGN P6). Serves what it is given; decides nothing.

healthz: the process answers. readyz: every stage runs and heartbeats come through; 503 with the reason if not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from syncbridge.config import Address
from syncbridge.errors import ConfigError


def application(registry: CollectorRegistry, not_ready: Callable[[], str]) -> Starlette:
    """The app. `not_ready()` answers why the pipeline is not ready, or "" when it is."""

    async def metrics(_request: Request) -> Response:
        body = await asyncio.to_thread(generate_latest, registry)
        return Response(body, headers={"content-type": CONTENT_TYPE_LATEST})

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        reason = await asyncio.to_thread(not_ready)
        return PlainTextResponse(f"{reason or 'ready'}\n", status_code=503 if reason else 200)

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)])


class HttpServer:
    """Serves an app from a thread of its own. `start()` returns when it listens; `stop()` may be called twice."""

    def __init__(self, listen: Address, app: Starlette) -> None:
        self._listen = listen
        config = uvicorn.Config(app, host=listen.host, port=listen.port, log_level="critical", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._failed = False

    def _run(self) -> None:
        try:
            asyncio.run(self._server._serve())  # serve() would take the process's signal handlers
        except (SystemExit, OSError):
            self._failed = True

    def start(self) -> None:
        """Raises ConfigError when the address cannot be listened on."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.01)
        if self._failed or not self._server.started:
            raise ConfigError(
                f"http.listen: cannot listen on {self._listen}",
                hint="choose a free port, or write http: {listen: off}",
            )

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2.0)
