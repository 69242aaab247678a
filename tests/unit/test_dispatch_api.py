"""The admin interface: what it asks the inspector, what it answers, and that nothing goes without the token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import pytest

from syncbridge.dispatch.api import application, plain
from syncbridge.errors import ConfigError, TransientError

TOKEN = "0123456789abcdef"


class State(StrEnum):
    DEAD = "dead"


@dataclass
class Job:
    handle: bytes
    payload: bytes
    state: State = State.DEAD


class FakeInspector:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Any = True

    def __getattr__(self, name: str) -> Any:
        async def method(*arguments: Any) -> Any:
            self.asked.append((name, *arguments))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return method


async def ask(
    inspector: FakeInspector, method: str, target: str, token: str | None = f"Bearer {TOKEN}"
) -> tuple[int, Any, dict[bytes, bytes]]:
    """(status, JSON, headers) of one request to the app."""
    app = application(inspector, token=TOKEN, queue_id=lambda: "5" * 32, promise="full")
    path, _, query = target.partition("?")
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    from urllib.parse import unquote

    scope = {
        "type": "http", "method": method, "path": unquote(path), "raw_path": path.encode(), "root_path": "",
        "query_string": query.encode(), "headers": [(b"authorization", token.encode())] if token else [],
        "http_version": "1.1", "scheme": "http", "client": None, "server": None,
    }  # fmt: skip
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    headers = dict(sent[0]["headers"])
    return sent[0]["status"], orjson.loads(body) if b"json" in headers[b"content-type"] else body, headers


@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
@pytest.mark.parametrize("target", ["/", "/jobs", "/nowhere"])
async def test_nothing_goes_without_the_token(token: str | None, target: str) -> None:
    inspector = FakeInspector()
    status, answer, headers = await ask(inspector, "GET", target, token)
    assert (status, answer["error"], headers[b"www-authenticate"]) == (401, "a token is needed", b"Bearer")
    assert inspector.asked == []


async def test_it_says_what_it_is() -> None:
    status, answer, _ = await ask(FakeInspector(), "GET", "/")
    assert (status, answer["queue_id"], answer["durability"]) == (200, "5" * 32, "full")


@pytest.mark.parametrize(
    ("method", "target", "asked"),
    [
        ("GET", "/functions", ("functions",)),
        ("GET", "/workers", ("workers",)),
        ("GET", "/jobs", ("jobs", b"", "queued", 0, 100)),
        ("GET", "/jobs?function=a%FF+%2B&state=dead&after=7&limit=5000", ("jobs", b"a\xff +", "dead", 7, 1000)),
        ("GET", "/jobs/H:host:12", ("job", b"H:host:12")),
        ("POST", "/jobs/H:host:12/cancel", ("cancel", b"H:host:12")),
        ("POST", "/jobs/H:host:12/requeue", ("requeue", b"H:host:12")),
        ("POST", "/functions/a%2Fb%FF/purge?state=dead", ("purge", b"a/b\xff", "dead")),
        ("POST", "/functions/mail.send/pause", ("pause", b"mail.send")),
        ("POST", "/functions/mail.send/resume", ("resume", b"mail.send")),
    ],
)
async def test_what_the_inspector_is_asked(method: str, target: str, asked: tuple[Any, ...]) -> None:
    inspector = FakeInspector()
    status, _, _ = await ask(inspector, method, target)
    assert (status, inspector.asked) == (200, [asked])


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/jobs?state=lost", 400),
        ("GET", "/jobs?limit=-1", 400),
        ("GET", "/jobs?after=x", 400),
        ("GET", "/nowhere", 404),
        ("POST", "/jobs", 405),
        ("GET", "/jobs/H:h:1/cancel", 405),
    ],
)
async def test_what_it_does_not_understand(method: str, target: str, status: int) -> None:
    inspector = FakeInspector()
    found, answer, _ = await ask(inspector, method, target)
    assert (found, inspector.asked) == (status, [])
    assert answer["error"]


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (None, 404, "there is no such job"),
        (ConfigError("lanes are not purged", hint="syncbridge snapshot"), 409, "lanes are not purged"),
        (TransientError("the store is away"), 503, "the store is away"),
    ],
)
async def test_refusals_are_sentences(answer: Any, status: int, error: str) -> None:
    inspector = FakeInspector()
    inspector.answer = answer
    found, said, _ = await ask(inspector, "GET", "/jobs/H:h:1")
    assert (found, said["error"]) == (status, error)


def test_values_as_json() -> None:
    assert plain([Job(b"H:h:1", b"\xff")]) == [{"handle": "H:h:1", "payload": {"base64": "/w=="}, "state": "dead"}]
    assert plain({b"f": (1, 2.5, None, True)}) == {"f": [1, 2.5, None, True]}
