"""Where the job server listens: Unix sockets, TLS with client certificates, and what it refuses to do."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncbridge import pipeline
from syncbridge.dispatch import packets as p
from tests.cli import in_process, syncbridge
from tests.servers import eventually, free_port
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.service import Service

TIMEOUT = 60
TOKEN = "0123456789abcdef"
ECHO = p.request(p.ECHO_REQ, b"hello")
ANSWER = p.response(p.ECHO_RES, b"hello")


class TlsService(Service):
    """Speaks TLS only, so its Unix socket says whether it is ready."""

    def __init__(self, certificates: Certificates, *arguments: object) -> None:
        tls = ("--tls-cert", certificates.cert, "--tls-key", certificates.key)
        super().__init__("--listen", "unix:ready.sock", *tls, *arguments)

    def ready(self) -> bool:
        return said_by_socket(self.folder / "ready.sock", ECHO) == ANSWER


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of another authority."""
    return make_certificates(tmp_path_factory.mktemp("strangers"))


@pytest.fixture(scope="module")
def service(certificates: Certificates) -> Iterator[TlsService]:
    with TlsService(certificates, "--tls-ca", certificates.ca) as server:
        yield server


def said_by_socket(path: Path, question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(path))
        except OSError:
            return b""
        connection.sendall(question)
        return connection.recv(1000)


def said_over_tls(port: int, authority: Certificates, own: Certificates | None) -> bytes:
    """What it answers to an ECHO_REQ; empty when it closes."""
    context = ssl.create_default_context(cafile=authority.ca)
    if own is not None:
        context.load_cert_chain(own.cert, own.key)
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
    ):
        try:
            connection.sendall(ECHO)
            return connection.recv(1000)
        except (ssl.SSLError, ConnectionError):
            return b""


# TLS


def test_a_client_with_a_certificate_is_served(service: TlsService, certificates: Certificates) -> None:
    assert said_over_tls(service.port, certificates, certificates) == ANSWER


def test_a_client_without_one_or_with_a_strange_one_is_not(
    service: TlsService, certificates: Certificates, strangers: Certificates
) -> None:
    assert said_over_tls(service.port, certificates, None) == b""
    assert said_over_tls(service.port, certificates, strangers) == b""


@pytest.mark.parametrize("question", [ECHO, b"status\n", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\0\x05hello"])
def test_plain_text_is_never_answered(service: TlsService, question: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), TIMEOUT) as connection:
        connection.sendall(question)
        heard = b""
        try:
            while data := connection.recv(1000):
                heard += data
        except ConnectionResetError:
            pass
    assert heard[:1] in (b"", b"\x15")  # nothing, or a TLS alert
    assert len(heard) <= 7
    assert b"RES" not in heard


def test_who_does_not_finish_the_handshake_is_closed(service: TlsService) -> None:
    with socket.create_connection(("127.0.0.1", service.port), TIMEOUT) as connection:
        assert connection.recv(1000) == b""


def test_old_tls_is_refused(service: TlsService, certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(certificates.cert, certificates.key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", service.port), TIMEOUT) as raw, pytest.raises(OSError):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_a_renewed_certificate_is_taken_up_without_a_restart(tmp_path: Path, strangers: Certificates) -> None:
    (tmp_path / "old").mkdir()
    current = make_certificates(tmp_path / "old")
    with TlsService(current) as server:
        assert said_over_tls(server.port, current, None) == ANSWER
        current.key.write_bytes(strangers.key.read_bytes())
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: "no pair of certificate and key" in server.log_tail())
        current.cert.write_bytes(strangers.cert.read_bytes())
        os.kill(server.pid, signal.SIGHUP)

        def renewed() -> bool:
            try:
                return said_over_tls(server.port, strangers, None) == ANSWER
            except ssl.SSLError:
                return False

        eventually(renewed)


# Unix sockets


def test_a_socket_is_for_owner_and_group_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "queue.sock"
    with Service("--listen", f"unix:{path}") as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert said_by_socket(path, ECHO) == ANSWER
        assert b"unix" not in said_by_socket(path, b"workers\n")
        server.stop()
        assert not path.exists()


def test_a_socket_left_behind_is_replaced_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "queue.sock"
    with Service("--listen", f"unix:{path}") as server:
        server.kill9()
        assert path.is_socket()
        server.start()
        assert said_by_socket(path, ECHO) == ANSWER
        second = syncbridge("server", "--listen", f"unix:{path}", "--store", "memory:")
        assert second.returncode == 1
        assert f"cannot listen on unix:{path}: another process does" in second.stderr
        assert said_by_socket(path, ECHO) == ANSWER


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    done = syncbridge("server", "--listen", f"unix:{path}", "--store", "memory:")
    assert done.returncode == 2
    assert "is there and no socket" in done.stderr
    assert path.read_text() == "data"


# What the command line refuses


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--listen", "here"), "--listen: 'here' is not possible"),
        (("--store", "queue.db"), "--store: is not possible"),
        (("--durability", "most"), "--durability: 'most' is not possible"),
        (("--timeout-shutdown", "5"), "--timeout-shutdown: '5' is not possible"),
        (("--tls-cert", "cert.pem"), "--tls-key: missing"),
        (("--admin", "127.0.0.1:0"), "--admin-token-file: its default is not possible"),
        (("--admin", "0.0.0.0:0", "--admin-token-file", "TOKEN"), "--admin: '0.0.0.0:0' is not possible"),
        (("--admin", "127.0.0.1:0", "--admin-token-file", "/no/token"), "--admin-token-file: cannot read /no/token"),
        (("--http", "0.0.0.0:0"), "--http: '0.0.0.0:0' is not possible"),
        (("--http", "[::]:0", "--http-token-file", "TOKEN"), "--http: '[::]:0' is not possible"),
        (("--metrics", "x"), "--metrics: 'x' is not possible"),
    ],
)
def test_what_is_not_possible_is_a_sentence_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    given = [str(tmp_path / "token") if argument == "TOKEN" else argument for argument in arguments]
    listen = () if "--listen" in given else ("--listen", "127.0.0.1:0")
    store = () if "--store" in given else ("--store", f"sqlite:///{tmp_path}/queue.db")
    monkeypatch.setattr(pipeline, "run_server", lambda settings: pytest.fail(f"started with {settings}"))
    done = in_process("server", *listen, *store, *given)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--tls-cert", "/no/cert.pem", "--tls-key", "/no/key.pem"), "cannot read /no/cert.pem"),
        (("--listen", "192.0.2.1:4730"), "job server cannot listen on 192.0.2.1:4730"),
    ],
)
def test_what_shows_when_it_starts_is_a_sentence_and_exit_code_2(arguments: tuple[str, ...], sentence: str) -> None:
    listen = () if "--listen" in arguments else ("--listen", "127.0.0.1:0")
    done = syncbridge("server", "--store", "memory:", *listen, *arguments)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_without_options_it_wants_to_know_where_jobs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = in_process("server")
    assert done.returncode == 2
    assert "--store sqlite:///queue.db" in done.stderr


def test_beyond_loopback_without_tls_is_warned_of(tmp_path: Path) -> None:
    with Service(listen="0.0.0.0") as server:
        assert "WARNING" in server.log_tail()
        assert f"listening on 0.0.0.0:{server.port} without TLS" in server.log_tail()
        assert (server.folder / "queue.db").exists()  # three slashes: where it was started
    with Service(store=f"sqlite:///{tmp_path}/queue.db") as server:
        assert "WARNING" not in server.log_tail()
        assert (tmp_path / "queue.db").exists()  # four: absolute


def test_the_queue_section_of_a_file_with_an_option_over_it(tmp_path: Path) -> None:
    config = tmp_path / "sync.yaml"
    config.write_text(
        f"""
source: {{url: "mysql://h"}}
sink: {{url: "redis://h"}}
mappings: [{{table: a.b}}]
http: {{listen: off}}
queue: {{store: "sqlite:///{tmp_path}/file.db", listen: ["127.0.0.1:1", "unix:{tmp_path}/file.sock"]}}
"""
    )
    port = free_port()

    class FromFile(Service):
        def command(self) -> list[str]:
            return [*super().command()[:4], "--config", str(config), "--listen", f"127.0.0.1:{self.port}"]

    with FromFile() as server:
        assert not (tmp_path / "file.sock").exists()
        assert (tmp_path / "file.db").exists()
        assert server.port != port
