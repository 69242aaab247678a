"""The JSON interface behind `syncbridge queue`: what is in the queue, what may be done with it.

    GET  /                                    which server, which store
    GET  /functions                           each with its jobs, workers and whether it is paused
    GET  /workers                             connections that work, what they run
    GET  /jobs?function=&state=&after=&limit=     state: queued, running, scheduled or dead
    GET  /jobs/<handle>                       one job with its payload, progress or result
    POST /jobs/<handle>/cancel, …/requeue
    POST /functions/<function>/purge?state=, …/pause, …/resume

Bytes are text where they are UTF-8, else {"base64": …}. A refusal is {"error": sentence, "hint": mend}. It asks the
Inspector and decides nothing.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hmac
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from syncbridge import __version__
from syncbridge.dispatch.listeners import Listener
from syncbridge.errors import ConfigError, SyncbridgeError, TransientError

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
STATES = ("queued", "running", "scheduled", "dead")
_MAX_REQUESTS = 100
_KEEP_ALIVE = 20
_CLOSE_TIMEOUT = 1.0


class Inspection(Protocol):
    """What is asked; inspector.py answers. Raises SyncbridgeError; a ConfigError is what the caller should not have
    asked for."""

    async def functions(self) -> Any: ...
    async def workers(self) -> Any: ...
    async def jobs(self, function: bytes, state: str, after: int = 0, limit: int = 100) -> Any: ...
    async def job(self, handle: bytes) -> Any: ...
    async def cancel(self, handle: bytes) -> bool: ...
    async def requeue(self, handle: bytes) -> bool: ...
    async def purge(self, function: bytes, state: str) -> int: ...
    async def pause(self, function: bytes) -> bool: ...
    async def resume(self, function: bytes) -> bool: ...


def application(inspect: Inspection, *, token: str, queue_id: Callable[[], str], promise: str) -> ASGIApp:
    """The app; every request must carry the token."""

    async def about(request: Request) -> Any:
        return {"server": "syncbridge", "version": __version__, "queue_id": queue_id(), "durability": promise}

    async def functions(request: Request) -> Any:
        return {"functions": await inspect.functions()}

    async def workers(request: Request) -> Any:
        return {"workers": await inspect.workers()}

    async def jobs(request: Request) -> Any:
        query = request.query_params
        function = _query_bytes(request, b"function")
        limit = min(_number(query.get("limit"), "limit", DEFAULT_LIMIT), MAX_LIMIT)
        return {"jobs": await inspect.jobs(function, _state(request), _number(query.get("after"), "after", 0), limit)}

    async def job(request: Request) -> Any:
        return _found(await inspect.job(_segment(request, 2)), "there is no such job")

    async def cancel(request: Request) -> Any:
        _found(await inspect.cancel(_segment(request, 2)), "there is no such job to cancel")
        return {"done": 1}

    async def requeue(request: Request) -> Any:
        _found(await inspect.requeue(_segment(request, 2)), "there is no such job, scheduled or dead")
        return {"done": 1}

    async def purge(request: Request) -> Any:
        return {"done": await inspect.purge(_segment(request, 2), _state(request))}

    async def pause(request: Request) -> Any:
        _found(await inspect.pause(_segment(request, 2)), "there are too many functions to know one more")
        return {"done": 1}

    async def resume(request: Request) -> Any:
        _found(await inspect.resume(_segment(request, 2)), "this function is not paused")
        return {"done": 1}

    reads = {"/": about, "/functions": functions, "/workers": workers, "/jobs": jobs, "/jobs/{handle}": job}
    acts = {
        "/jobs/{handle}/cancel": cancel,
        "/jobs/{handle}/requeue": requeue,
        "/functions/{name:path}/purge": purge,
        "/functions/{name:path}/pause": pause,
        "/functions/{name:path}/resume": resume,
    }
    routes = [Route(path, _answered(handler), methods=["GET"]) for path, handler in reads.items()]
    routes += [Route(path, _answered(handler), methods=["POST"]) for path, handler in acts.items()]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refusal})
    return _Guarded(app, token)


class AdminServer:
    """Serves an app on a listener, in the running event loop."""

    def __init__(self, app: ASGIApp, listener: Listener) -> None:
        self._listener = listener
        self._state = ServerState()
        self._config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            limit_concurrency=_MAX_REQUESTS,
            timeout_keep_alive=_KEEP_ALIVE,
        )

    async def start(self) -> None:
        """Raises ConfigError or TransientError."""
        self._config.load()
        await self._listener.open(lambda: H11Protocol(self._config, self._state, {}))

    async def stop(self) -> None:
        self._listener.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_CLOSE_TIMEOUT)


class _Guarded:
    """Lets requests with the token through."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._wanted = b"Bearer " + token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if hmac.compare_digest(given, self._wanted):
            await self._app(scope, receive, send)
        else:
            refused = _json({"error": "a token is needed", "hint": "send Authorization: Bearer <token>"}, 401)
            refused.headers["WWW-Authenticate"] = "Bearer"
            await refused(scope, receive, send)


def _answered(handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    """What a handler returns as JSON, what it raises as a refusal."""

    async def endpoint(request: Request) -> Response:
        try:
            return _json(await handler(request))
        except SyncbridgeError as error:
            status = 409 if isinstance(error, ConfigError) else 503 if isinstance(error, TransientError) else 500
            return _json({"error": str(error), "hint": error.hint}, status)

    return endpoint


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _json({"error": str(error.detail), "hint": ""}, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(plain(value)), status, media_type="application/json")


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _found(value: Any, otherwise: str) -> Any:
    if value is None or value is False:
        raise HTTPException(404, otherwise)
    return value


def _segment(request: Request, number: int) -> bytes:
    """A part of the path, counted from 1, as bytes: names of functions need not be UTF-8."""
    parts = request.scope["raw_path"].partition(b"?")[0].split(b"/")
    return unquote_to_bytes(parts[number])


def _query_bytes(request: Request, name: bytes) -> bytes:
    for part in request.scope["query_string"].split(b"&"):
        key, _, value = part.partition(b"=")
        if key == name:
            return unquote_to_bytes(value.replace(b"+", b" "))
    return b""


def _state(request: Request) -> str:
    state = request.query_params.get("state", "queued")
    if state not in STATES:
        raise HTTPException(400, f"state is one of {', '.join(STATES)}")
    return state


def _number(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise HTTPException(400, f"{name} is a number")
    return int(text)
