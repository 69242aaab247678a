"""`syncbridge server` from start to stop: what SIGTERM and SIGHUP do, policies of functions, what /metrics tells."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from syncbridge.dispatch import packets as p
from tests.integration.test_gateway import asked, grab
from tests.servers import eventually, free_port
from tests.servers.job_server import Peer
from tests.servers.service import HttpService, Service

TIMEOUT = 60


def ended(server: Service) -> int:
    assert server.process is not None
    return server.process.wait(TIMEOUT)


def stopping(server: Service) -> None:
    """SIGTERM has been heard."""
    os.kill(server.pid, signal.SIGTERM)
    eventually(lambda: "stopping" in server.log_tail())


# SIGTERM


def test_a_running_job_ends_before_the_server_does() -> None:
    with HttpService("--timeout-shutdown", "60s") as server, Peer(server.port, TIMEOUT) as worker:
        worker.can_do(b"slow", b"later")
        with Peer(server.port, TIMEOUT) as client, asked(server.http, "/slow", b"over http") as request:
            client.send(p.SUBMIT_JOB, b"slow", b"", b"over gearman").expect(p.JOB_CREATED)
            jobs = [grab(worker), grab(worker)]
            client.submit(b"later", b"kept")
            stopping(server)
            assert worker.grab() is None  # nothing new is handed out
            with pytest.raises(OSError):
                Peer(server.port)
            for handle, _, _, payload in jobs:
                worker.send(p.WORK_COMPLETE, handle, payload.upper())
            assert client.expect(p.WORK_COMPLETE, 2)[1] == b"OVER GEARMAN"
            assert request.result(TIMEOUT).body == b"OVER HTTP"
        assert ended(server) == 0
        server.start()
        with Peer(server.port, TIMEOUT) as again:
            again.can_do(b"slow", b"later")
            assert grab(again)[3] == b"kept"
            assert again.grab() is None


def test_who_does_not_end_in_time_is_left_and_the_job_is_there_again() -> None:
    with Service("--timeout-shutdown", "300ms") as server, Peer(server.port, TIMEOUT) as worker:
        worker.can_do(b"slow")
        worker.submit(b"slow", b"work")
        grab(worker)
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert ended(server) == 0
        assert time.monotonic() - began >= 0.3
        server.start()
        assert server.process is not None
        with Peer(server.port, TIMEOUT) as again:
            assert grab(again.can_do(b"slow"))[3] == b"work"


def test_a_second_signal_does_not_wait() -> None:
    with Service("--timeout-shutdown", "1h") as server, Peer(server.port, TIMEOUT) as worker:
        worker.can_do(b"slow")
        worker.submit(b"slow", b"work")
        grab(worker)
        stopping(server)
        assert server.running
        os.kill(server.pid, signal.SIGTERM)
        assert ended(server) == 0


def test_with_nothing_to_do_it_stops_at_once() -> None:
    with Service("--timeout-shutdown", "1h") as server, Peer(server.port, TIMEOUT) as idle:
        idle.can_do(b"x").send(p.PRE_SLEEP).sync()
        os.kill(server.pid, signal.SIGINT)
        assert ended(server) == 0


# Policies


class Configured(Service):
    """Reads its policies from a file."""

    def __init__(self, **functions: object) -> None:
        super().__init__()
        self.config = self.folder / "sync.yaml"
        self.set_functions(functions)

    def set_functions(self, functions: dict[str, object]) -> None:
        self.config.write_text(
            yaml.safe_dump(
                {
                    "source": {"url": "mysql://h"},
                    "sink": {"url": "redis://h"},
                    "mappings": [{"table": "a.b"}],
                    "http": {"listen": "off"},
                    "queue": {"functions": functions},
                }
            )
        )

    def command(self) -> list[str]:
        return [*super().command(), "--config", str(self.config)]


def test_policies_hold_and_sighup_takes_up_others() -> None:
    with Configured(**{"mail.*": {"max_queued": 2}}) as server, Peer(server.port, TIMEOUT) as client:
        client.submit(b"mail.a")
        client.submit(b"mail.a")
        full = client.ask(p.SUBMIT_JOB_BG, b"mail.a", b"", b"")
        assert full[0] == p.ERROR
        assert full[1].startswith(b"QUEUE_ERROR")
        server.set_functions({"mail.*": {"max_queued": 4}, "x": {"attempts": "many"}})
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: "queue.functions.x.attempts: 'many' is not possible" in server.log_tail())
        assert client.ask(p.SUBMIT_JOB_BG, b"mail.a", b"", b"")[0] == p.ERROR  # as before
        server.set_functions({"mail.*": {"max_queued": 4, "running": 1}})
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: "policies are taken up" in server.log_tail())
        client.submit(b"mail.a")
        client.can_do(b"mail.a")
        handle = grab(client)[0]
        assert client.grab() is None  # one runs, no more may
        client.send(p.WORK_COMPLETE, handle, b"")
        assert client.grab() is not None


# /metrics


def test_what_metrics_tell(tmp_path: Path) -> None:
    port = free_port()
    with Service("--metrics", f"127.0.0.1:{port}") as server, Peer(server.port, TIMEOUT) as peer:
        for kind in (p.SUBMIT_JOB_HIGH_BG, p.SUBMIT_JOB_BG, p.SUBMIT_JOB_BG, p.SUBMIT_JOB_LOW_BG):
            peer.submit(b"scrape", b"work", kind=kind)
        peer.can_do(b"scrape")
        peer.send(p.WORK_COMPLETE, grab(peer)[0], b"")
        peer.send(p.WORK_FAIL, grab(peer)[0])
        grab(peer)

        def values() -> dict[str, float]:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT) as answer:
                families = text_string_to_metric_families(answer.read().decode())
            return {
                sample.name.removeprefix("syncbridge_queue_") + sample.labels.get("priority", ""): sample.value
                for family in families
                for sample in family.samples
                if sample.labels.get("function", "scrape") == "scrape"
            }

        expected = {
            "jobs": 2, "workers": 1, "waitinghigh": 0, "waitingnormal": 0, "waitinglow": 1, "runninghigh": 0,
            "runningnormal": 1, "runninglow": 0, "submitted_totalhigh": 1, "submitted_totalnormal": 2,
            "submitted_totallow": 1, "completed_totalhigh": 1, "failed_totalnormal": 1, "oldest_secondshigh": 0,
            "connections": 1, "bytes": 8, "paused": 0, "scheduled": 0,
        }  # fmt: skip

        def told() -> dict[str, float]:
            found = values()
            assert {name: found.get(name) for name in expected} == expected
            return found

        found = eventually(told, timeout=20)
        assert found["oldest_secondsnormal"] > found["oldest_secondslow"] > 0
        assert found["commit_seconds_count"] >= 4
        assert found["commit_seconds_sum"] > found["sync_seconds_sum"] > 0
        print(f"{len(found)} series of one function")


def test_the_service_lets_go_of_everything_at_start_failure(tmp_path: Path) -> None:
    """A port of the gateway that is taken: one sentence, exit code 1, and the store is free again."""
    with Service() as other:
        arguments = ["server", "--listen", "127.0.0.1:0", "--http", f"127.0.0.1:{other.port}"]
        store = f"sqlite:///{tmp_path}/queue.db"
        for _ in range(2):
            done = subprocess.run(
                [*other.command()[:3], *arguments, "--store", store],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            assert done.returncode == 1
            assert f"cannot listen on 127.0.0.1:{other.port}: another process does" in done.stderr
            assert "Traceback" not in done.stderr
