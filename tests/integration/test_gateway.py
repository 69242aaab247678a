"""Jobs over HTTP, through the real process; and the same requests to Debian's gearmand."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from syncbridge.config import Address
from syncbridge.dispatch import gateway as gateway_module
from syncbridge.dispatch import packets as p
from syncbridge.dispatch.listeners import TcpListener
from syncbridge.dispatch.server import JobServer
from syncbridge.dispatch.store.memory import MemoryStore
from tests.servers import Gearmand, eventually, free_port
from tests.servers.certificates import make_certificates
from tests.servers.job_server import Peer
from tests.servers.service import HttpService

TIMEOUT = 60


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def service() -> Iterator[HttpService]:
    with HttpService("--max-packet", "1MiB") as server:
        yield server


@pytest.fixture
def worker(service: HttpService) -> Iterator[Peer]:
    with Peer(service.port, TIMEOUT) as peer:
        yield peer


def post(port: int, path: str, body: bytes = b"", method: str = "POST", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        return ask(connection, path, body, method, **headers)
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection, path: str, body: bytes = b"", method: str = "POST", **headers: str
) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, named)
    answer = connection.getresponse()
    return Answer(answer.status, dict(answer.headers), answer.read())


@contextmanager
def asked(port: int, path: str, body: bytes, **headers: str) -> Iterator[Future[Answer]]:
    """The request under way."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lambda: post(port, path, body, **headers))


def grab(worker: Peer) -> tuple[bytes, bytes, bytes, bytes]:
    """The next job, as soon as there is one: (handle, function, unique, payload)."""
    while (job := worker.grab()) is None:
        worker.send(p.PRE_SLEEP)
        assert worker.receive()[0] == p.NOOP
    return job


def test_the_body_is_the_workload_and_the_answer_its_result(service: HttpService, worker: Peer) -> None:
    worker.can_do(b"up \xc3\xa9")
    with asked(service.http, "/up%20%C3%A9", b"one\0two", X_Gearman_Unique="u1") as request:
        handle, function, unique, payload = grab(worker)
        assert (function, unique, payload) == (b"up \xc3\xa9", b"u1", b"one\0two")
        worker.send(p.WORK_STATUS, handle, b"1", b"2")
        worker.send(p.WORK_WARNING, handle, b"careful")
        worker.send(p.WORK_DATA, handle, b"ONE\0")
        worker.send(p.WORK_COMPLETE, handle, b"TWO")
        answer = request.result(TIMEOUT)
    assert (answer.status, answer.body) == (200, b"ONE\0TWO")
    assert answer.headers["X-Gearman-Job-Handle"] == handle.decode()
    assert answer.headers["X-Gearman-Command"] == "WORK_COMPLETE"


def test_a_background_job_is_answered_once_it_is_durable(service: HttpService, worker: Peer) -> None:
    answers = [
        post(service.http, "/later", body, X_Gearman_Background="TRUE", X_Gearman_Priority=priority)
        for body, priority in ((b"1", "low"), (b"2", "normal"), (b"3", "high"))
    ]
    assert [(a.status, a.headers["X-Gearman-Command"], a.body) for a in answers] == [(200, "JOB_CREATED", b"")] * 3
    service.kill9()
    service.start()
    with Peer(service.port, TIMEOUT) as peer:
        peer.can_do(b"later")
        jobs = [grab(peer) for _ in range(3)]
        for job in jobs:
            peer.send(p.WORK_COMPLETE, job[0], b"")
        peer.sync()
    assert [job[3] for job in jobs] == [b"3", b"2", b"1"]
    assert {job[0].decode() for job in jobs} == {a.headers["X-Gearman-Job-Handle"] for a in answers}


@pytest.mark.parametrize(
    ("kind", "command", "body"),
    [(p.WORK_FAIL, "WORK_FAIL", b""), (p.WORK_EXCEPTION, "WORK_EXCEPTION", b"no ink")],
)
def test_a_job_that_fails_is_a_server_error(
    service: HttpService, worker: Peer, kind: int, command: str, body: bytes
) -> None:
    worker.can_do(b"print")
    with asked(service.http, "/print", b"x") as request:
        job = grab(worker)
        worker.send(kind, job[0], *([body] if body else []))
        answer = request.result(TIMEOUT)
    assert (answer.status, answer.headers["X-Gearman-Command"], answer.body) == (500, command, body)


def test_a_connection_is_kept_and_takes_requests_ahead(service: HttpService) -> None:
    request = b"POST /kept HTTP/1.1\r\nHost: x\r\nX-Gearman-Background: true\r\nContent-Length: 1\r\n\r\n%d"
    with socket.create_connection(("127.0.0.1", service.http), TIMEOUT) as connection:
        connection.sendall(b"".join(request % number for number in range(9)))
        heard = b""
        while heard.count(b"JOB_CREATED") < 9:
            data = connection.recv(1 << 16)
            assert data, heard
            heard += data
    assert heard.count(b"200") == 9
    assert len({line for line in heard.splitlines() if b"Handle" in line}) == 9


def test_equal_workloads_are_one_job_unless_the_unique_is_empty(service: HttpService) -> None:
    def handles(**headers: str) -> int:
        answers = [post(service.http, "/same", b"x", X_Gearman_Background="true", **headers) for _ in range(3)]
        return len({answer.headers["X-Gearman-Job-Handle"] for answer in answers})

    assert handles() == 1
    assert handles(X_Gearman_Unique="") == 3
    assert handles(X_Gearman_Unique="a") == 1


def test_a_client_that_leaves_takes_its_job_along(service: HttpService, worker: Peer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.http, timeout=TIMEOUT)
    connection.request("POST", "/left", b"nobody waits")
    eventually(lambda: b"left\t1\t0\t0" in status(worker))
    connection.close()
    eventually(lambda: b"left\t0\t0\t0" in status(worker))
    worker.can_do(b"left")
    assert worker.grab() is None


def status(peer: Peer) -> bytes:
    return peer.text("status", end=".\n").encode()


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "code"),
    [
        ("GET", "/up", b"", {}, 405),
        ("HEAD", "/up", b"", {}, 405),
        ("DELETE", "/up", b"", {}, 405),
        ("GET", "/", b"", {}, 404),
        ("HEAD", "/", b"", {}, 404),
        ("POST", "/", b"x", {}, 404),
        ("POST", "/" + "f" * 513, b"x", {}, 400),
        ("POST", "/a%00b", b"x", {}, 400),
        ("POST", "/up?x=1", b"x", {}, 400),
        ("POST", "/up", b"x", {"X_Gearman_Unique": "u" * 65}, 400),
        ("POST", "/up", b"x", {"X_Gearman_Priority": "urgent"}, 400),
        ("POST", "/up", b"x" * ((1 << 20) + 1), {}, 413),
        ("POST", "/up", b"x", {"Origin": "http://evil.example"}, 403),
    ],
)
def test_what_is_no_job_is_refused(
    service: HttpService, method: str, path: str, body: bytes, headers: dict[str, str], code: int
) -> None:
    answer = post(service.http, path, body, method, **headers)
    assert answer.status == code
    assert (answer.body == b"") == (method == "HEAD")
    assert "X-Gearman-Job-Handle" not in answer.headers
    if code == 405:
        assert answer.headers["Allow"] == "POST, PUT"


@pytest.mark.parametrize(
    "sent",
    [
        b"\0REQ\0\0\0\x10\0\0\0\0",
        b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"X" * 100_000,
    ],
)
def test_what_is_no_http_is_closed(service: HttpService, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.http), TIMEOUT) as connection:
        heard = b""
        try:
            connection.sendall(sent)
            while data := connection.recv(1 << 16):
                heard += data
        except ConnectionResetError:
            pass
    assert heard == b"" or heard.split(b" ", 2)[1][:1] == b"4"
    assert post(service.http, "/alive", X_Gearman_Background="true").status == 200


def test_chunks_and_100_continue(service: HttpService, worker: Peer) -> None:
    with socket.create_connection(("127.0.0.1", service.http), TIMEOUT) as connection:
        head = b"POST /chunks HTTP/1.1\r\nHost: x\r\nX-Gearman-Background: true\r\nTransfer-Encoding: chunked\r\n"
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    worker.can_do(b"chunks")
    job = grab(worker)
    assert job[3] == b"abcde"
    worker.send(p.WORK_COMPLETE, job[0], b"").sync()


def test_a_token_is_needed_where_one_is_set(tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("secret") / "token"
    secret.write_text("0123456789abcdef\n")
    with HttpService("--http-token-file", secret) as server:
        background = {"X_Gearman_Background": "true"}
        for given in ({}, {"Authorization": "Bearer 0123456789abcdeF"}, {"Authorization": "0123456789abcdef"}):
            answer = post(server.http, "/up", b"x", **background, **given)
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        given = {"Authorization": "Bearer 0123456789abcdef", "Origin": "http://our.example"}
        assert post(server.http, "/up", b"x", **background, **given).status == 200


async def test_who_does_not_come_to_the_point_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "IDLE_TIMEOUT", 0.3)
    monkeypatch.setattr(gateway_module, "REQUEST_TIMEOUT", 0.6)
    server = JobServer("127.0.0.1", 0, MemoryStore())
    await server.start()
    listener = TcpListener(Address("127.0.0.1", 0))
    gateway = gateway_module.Gateway(server, listener)
    await gateway.start()
    for sent in (b"", b"POST /up HTTP/1.1\r\nHost", b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.address.port)
        writer.write(sent)
        async with asyncio.timeout(TIMEOUT):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert (gateway.partial, len(gateway.connections)) == (0, 0)
    await gateway.stop()
    await server.stop()


def test_the_gateway_speaks_tls_where_the_server_does(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    tls = ("--tls-cert", certificates.cert, "--tls-key", certificates.key, "--tls-ca", certificates.ca)
    with HttpService(*tls, "--listen", "unix:ready.sock", ready=False) as server:
        eventually(lambda: "taking jobs over HTTP" in server.log_tail())
        context = ssl.create_default_context(cafile=certificates.ca)
        context.load_cert_chain(certificates.cert, certificates.key)
        connection = http.client.HTTPSConnection("127.0.0.1", server.http, timeout=TIMEOUT, context=context)
        answers = [ask(connection, "/up", b"x" * 100_000, X_Gearman_Background="true") for _ in range(2)]
        assert [answer.headers["X-Gearman-Command"] for answer in answers] == ["JOB_CREATED"] * 2
        connection.close()
        with pytest.raises((OSError, http.client.HTTPException)):
            post(server.http, "/up", b"x")  # in plain text
        stranger = ssl.create_default_context(cafile=certificates.ca)
        connection = http.client.HTTPSConnection("127.0.0.1", server.http, timeout=TIMEOUT, context=stranger)
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(connection, "/up", b"x")
        connection.close()


# The same as gearmand


def test_one_request_of_each_kind_is_answered_as_by_gearmand(
    service: HttpService, new_gearmand: Callable[..., Gearmand]
) -> None:
    port = free_port()
    gearmand = new_gearmand(protocol="http", http_port=port)
    heard = []
    for submit, work in ((port, gearmand.port), (service.http, service.port)):
        with Peer(work, TIMEOUT) as worker:
            worker.can_do(b"both")
            answers = []
            for headers in ({}, {"X_Gearman_Unique": "u"}, {"X_Gearman_Priority": "high"}):
                with asked(submit, "/both", b"work", **headers) as request:
                    handle, *job = grab(worker)
                    worker.send(p.WORK_COMPLETE, handle, b"done")
                    answer = request.result(TIMEOUT)
                assert answer.headers["X-Gearman-Job-Handle"] == handle.decode()
                answers.append((job, told(answer)))
            answers.append(([], told(post(submit, "/both", b"b", X_Gearman_Background="true"))))
            answers.append((list(grab(worker)[1:]), None))
            with asked(submit, "/both", b"fail") as request:
                handle, *job = grab(worker)
                worker.send(p.WORK_FAIL, handle)
                answers.append((job, told(request.result(TIMEOUT))[1:]))  # gearmand says 200 to it
            answers.append(([], (post(submit, "/", b"x").status, "", b"")))
        heard.append(answers)
    print(f"{len(heard[0])} answers compared")
    assert heard[0] == heard[1]


def told(answer: Answer) -> tuple[int, str, bytes]:
    return answer.status, answer.headers["X-Gearman-Command"], answer.body
