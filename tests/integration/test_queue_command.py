"""`syncbridge queue …` and the JSON interface behind it, on a real `syncbridge server`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from syncbridge.commands import app as application
from syncbridge.dispatch import packets as p
from tests.cli import in_process, syncbridge
from tests.integration.test_gateway import grab
from tests.servers import eventually, free_port
from tests.servers.certificates import make_certificates
from tests.servers.job_server import Peer
from tests.servers.service import Service

TIMEOUT = 60
TOKEN = "0123456789abcdef"


class AdminService(Service):
    """Its policies and its admin interface come from a file."""

    def __init__(self, **queue: Any) -> None:
        super().__init__()
        self.admin = free_port()
        self.more_ports = (self.admin,)
        self.config = self.folder / "sync.yaml"
        (self.folder / "token").write_text(TOKEN + "\n")
        functions = {
            "mail": {"keep_result": "1h", "retry_failures": True, "attempts": 2, "backoff": "10m"},
            "fragile": {"attempts": 1},
        }
        admin = {"listen": f"127.0.0.1:{self.admin}", "token": f"file:{self.folder}/token"}
        self.config.write_text(
            yaml.safe_dump(
                {
                    "source": {"url": "mysql://h"},
                    "sink": {"url": "redis://h"},
                    "mappings": [{"table": "a.b"}],
                    "http": {"listen": "off"},
                    "queue": {"functions": functions, "admin": admin, **queue},
                }
            )
        )

    def command(self) -> list[str]:
        return [*super().command(), "--config", str(self.config)]

    def run(self, *arguments: object) -> Result:
        """A command, in this process."""
        given = ["queue", *map(str, arguments), "--config", str(self.config)]
        application.register()
        return CliRunner().invoke(application.app, given, prog_name="syncbridge")

    def __call__(self, *arguments: object, code: int = 0) -> str:
        done = self.run(*arguments)
        assert done.exit_code == code, done.output
        return done.stdout

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture(scope="module")
def service() -> Iterator[AdminService]:
    with AdminService() as server:
        yield server


@pytest.fixture
def peer(service: AdminService) -> Iterator[Peer]:
    with Peer(service.port, TIMEOUT) as connection:
        yield connection


def numbers(service: AdminService, function: str) -> dict[str, Any]:
    return next(found for found in service.json("list")["functions"] if found["name"] == function)


def test_functions_jobs_and_workloads_are_shown(service: AdminService, peer: Peer) -> None:
    low = peer.submit(b"look", b"later", kind=p.SUBMIT_JOB_LOW_BG)
    first = peer.submit(b"look", b"[bold]one\x1b\0\xff", unique=b"u1")
    second = peer.submit(b"look", b"two")
    found = numbers(service, "look")
    assert (found["high"], found["normal"], found["low"], found["running"]) == (0, 2, 1, 0)
    assert "look" in service("list")
    listed = service.json("list", "look")["jobs"]
    assert [job["handle"] for job in listed] == [low.decode(), first.decode(), second.decode()]
    assert [job["priority"] for job in listed] == [2, 1, 1]
    assert service.json("list", "look", "--limit", 1, "--after", listed[0]["id"])["jobs"] == [listed[1]]
    assert first.decode() in service("list", "look")
    shown = service("show", first.decode())
    assert "[bold]one\\x1b\\x00\\xff" in shown
    assert "normal" in shown
    assert service.json("show", first.decode())["payload"] == {"base64": "W2JvbGRdb25lGwD/"}
    assert [job["payload"] for job in service.json("peek", "look", "-n", 5)["jobs"]][::2] == ["later", "two"]
    assert "later" in service("peek", "look")
    assert "no dead jobs of look" in service("list", "look", "--state", "dead")
    peer.can_do(b"look")
    assert grab(peer)[0] == first  # it was only looked at


def test_running_jobs_and_their_workers(service: AdminService, peer: Peer) -> None:
    peer.send(p.SET_CLIENT_ID, b"printer-7").can_do(b"run")
    peer.submit(b"run", b"work")
    handle = grab(peer)[0]
    peer.send(p.WORK_STATUS, handle, b"3", b"10").sync()
    (job,) = service.json("list", "run", "--state", "running")["jobs"]
    assert (job["handle"], job["numerator"], job["denominator"]) == (handle.decode(), "3", "10")
    (worker,) = [w for w in service.json("workers")["workers"] if w["client_id"] == "printer-7"]
    assert (worker["functions"], worker["running"]) == (["run"], [handle.decode()])
    assert "printer-7" in service("workers")
    assert service.json("cancel", handle.decode()) == {"done": 1}
    assert peer.ask(p.WORK_COMPLETE, handle, b"")[0] == p.ERROR  # it is over


def test_results_of_background_jobs(service: AdminService, peer: Peer) -> None:
    peer.can_do(b"mail")
    handle = peer.submit(b"mail", b"to: you").decode()
    assert "has no result yet: it is queued" in service.run("result", handle).stderr
    grab(peer)
    peer.send(p.WORK_COMPLETE, handle.encode(), b"sent\0\xff").sync()

    def told() -> bool:
        done = service.run("result", handle)
        assert done.exit_code == 0
        return done.stdout_bytes == b"sent\0\xff"

    eventually(told)
    assert service.json("result", handle)["result"]["outcome"] == "completed"
    assert "completed" in service("show", handle)
    assert service.run("result", "H:nobody:1").exit_code == 2


def test_dead_and_scheduled_jobs_go_again(service: AdminService, peer: Peer) -> None:
    peer.can_do(b"fragile", b"mail")
    dead = [peer.submit(b"fragile", b"%d" % number).decode() for number in range(3)]
    retried = peer.submit(b"mail", b"again").decode()
    for _ in range(4):
        handle = grab(peer)[0]
        peer.send(p.WORK_FAIL, handle).sync()
    assert [job["handle"] for job in service.json("list", "mail", "--state", "scheduled")["jobs"]] == [retried]
    listed = service.json("dead", "fragile")["jobs"]
    assert [job["handle"] for job in listed] == dead
    assert "failure" in listed[0]["note"]
    assert dead[0] in service("dead")
    assert peer.grab() is None
    assert service.json("requeue", dead[0], retried) == {"done": 2}
    assert {grab(peer)[0].decode(), grab(peer)[0].decode()} == {dead[0], retried}
    assert service.json("requeue", "--all", "fragile") == {"done": 2}
    assert service.json("dead", "fragile")["jobs"] == []
    assert service.run("requeue", dead[0], "--all", "fragile").exit_code == 2
    assert service.run("requeue").exit_code == 2


def test_purging_and_cancelling(service: AdminService, peer: Peer) -> None:
    handles = [peer.submit(b"gone", b"x").decode() for _ in range(1500)]
    kept = peer.submit(b"gone too", b"x").decode()
    assert service.json("cancel", handles[0], handles[1]) == {"done": 2}
    done = service.run("cancel", handles[0], handles[2], "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (2, {"done": 1})
    assert "there is no job" in done.stderr
    assert service.json("purge", "gone") == {"done": 1497}
    assert "0 jobs deleted" in service("purge", "gone")
    assert service.json("list", "gone")["jobs"] == []
    assert [job["handle"] for job in service.json("list", "gone too")["jobs"]] == [kept]


def test_a_lane_is_looked_at_only(service: AdminService, peer: Peer) -> None:
    handle = peer.submit(b"syncbridge.shop.0", b"event").decode()
    assert [job["handle"] for job in service.json("list", "syncbridge.shop.0")["jobs"]] == [handle]
    for arguments in (("purge", "syncbridge.shop.0"), ("cancel", handle)):
        done = service.run(*arguments)
        assert done.exit_code == 2
        assert "syncbridge snapshot" in done.stderr
    assert service.json("show", handle)["payload"] == "event"


def test_a_pause_outlives_a_restart(service: AdminService) -> None:
    with Peer(service.port, TIMEOUT) as peer:
        peer.submit(b"halt", b"x")
        assert service.json("pause", "halt") == {"paused": "halt"}
        assert numbers(service, "halt")["paused"] is True
        assert "paused" in service("list")
        assert peer.can_do(b"halt").grab() is None
    service.kill9()
    service.start()
    with Peer(service.port, TIMEOUT) as peer:
        assert peer.can_do(b"halt").grab() is None
        service("resume", "halt")
        assert grab(peer)[1] == b"halt"
    assert service.run("resume", "halt").exit_code == 2


def test_names_that_are_no_text(service: AdminService, peer: Peer) -> None:
    handle = peer.submit(b"caf\xe9/\xc3\xa9?", b"x").decode()
    name = "caf\udce9/é?"
    assert [job["handle"] for job in service.json("list", name)["jobs"]] == [handle]
    assert "caf\\xe9/é?" in service("list")
    assert service.json("purge", name) == {"done": 1}


def test_the_real_process_by_options_and_environment(service: AdminService, tmp_path: Path) -> None:
    url, token = f"http://127.0.0.1:{service.admin}", str(service.folder / "token")
    by_options = syncbridge("queue", "list", "--json", "--url", url, "--token-file", token)
    environment = {"SYNCBRIDGE_ADMIN_URL": url, "SYNCBRIDGE_ADMIN_TOKEN_FILE": token}
    by_environment = syncbridge("queue", "workers", "--json", environment=environment)
    assert (by_options.returncode, by_environment.returncode) == (0, 0), by_options.stderr + by_environment.stderr
    assert "functions" in json.loads(by_options.stdout)
    assert "workers" in json.loads(by_environment.stdout)


def test_what_goes_wrong_is_a_sentence(service: AdminService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("f" * 32)
    own = service.folder / "token"
    url = f"http://127.0.0.1:{service.admin}"
    monkeypatch.chdir(tmp_path)
    for code, sentence, arguments in (
        (2, "refused the token", ("--url", url, "--token-file", wrong)),
        (2, "needs a token", ("--url", url)),
        (2, "cannot read the token", ("--url", url, "--token-file", tmp_path / "none")),
        (2, "--url: 'tcp://h:1' is not possible", ("--url", "tcp://h:1", "--token-file", own)),
        (2, "it is not said where the job server is", ()),
        (1, "cannot be reached", ("--url", "http://127.0.0.1:1", "--token-file", own)),
        (1, "cannot be reached", ("--url", f"http://127.0.0.1:{service.port}", "--token-file", own)),
    ):
        application.register()
        done = CliRunner().invoke(application.app, ["queue", "list", *map(str, arguments)], prog_name="syncbridge")
        assert (done.exit_code, sentence in done.stderr) == (code, True), done.output
        assert TOKEN not in done.output


def test_the_interface_itself_over_http(service: AdminService) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.admin, timeout=TIMEOUT)
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 200)):
        connection.request("GET", "/", headers=headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        assert answer.status == status
    assert (len(told["queue_id"]), told["durability"]) == (32, "full")
    connection.close()


def test_over_tls_the_token_is_enough(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    tls = {"cert": str(certificates.cert), "key": str(certificates.key), "client_ca": str(certificates.ca)}

    class TlsAdminService(AdminService):
        def ready(self) -> bool:
            return self.run("list").exit_code == 0

    with TlsAdminService(tls=tls) as server:
        assert server.json("list") == {"functions": []}
        url = f"http://127.0.0.1:{server.admin}"
        plain = in_process("queue", "list", "--url", url, "--token-file", server.folder / "token")
        assert plain.returncode == 1
        assert "cannot be reached" in plain.stderr
