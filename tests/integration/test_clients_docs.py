"""The programs in docs/clients.md, run as they stand there, with the test's server in place of the default one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_listeners import TlsService
from tests.servers import eventually
from tests.servers.certificates import make_certificates
from tests.servers.job_server import Peer
from tests.servers.process import REPOSITORY
from tests.servers.service import Service

PROGRAMS = {
    name: text
    for text in re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/clients.md").read_text(), re.DOTALL)
    for name in re.findall(r"\A# (\w+\.py)$", text, re.MULTILINE)
}


def start(folder: Path, name: str, **replacements: str) -> subprocess.Popen[str]:
    text = PROGRAMS[name]
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    (folder / name).write_text(text)
    return subprocess.Popen(
        [sys.executable, "-W", "error", name],
        cwd=folder,
        env={"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


@pytest.fixture
def server() -> Iterator[Service]:
    with Service() as started:
        yield started


def test_every_program_is_run_here() -> None:
    assert sorted(PROGRAMS) == ["client.py", "secure.py", "worker.py"]


def test_worker_and_client(server: Service, tmp_path: Path) -> None:
    default, address = "127.0.0.1:4730", f"127.0.0.1:{server.port}"
    worker = start(tmp_path, "worker.py", **{default: address})
    try:
        said = ended(start(tmp_path, "client.py", **{default: address})).splitlines()
        with Peer(server.port) as peer:
            assert " resizer : count resize\n" in peer.text("workers", end=".\n").replace(
                "resize count", "count resize"
            )
            eventually(lambda: "resize\t0\t" in peer.text("status", end=".\n"))
        worker.send_signal(signal.SIGTERM)
        assert "Traceback" not in ended(worker)
    finally:
        worker.kill()
        worker.communicate()
    progress = [f"status {done} 4" for done in range(1, 5)]
    assert said == ["b'6'", *progress, "b'01234'", "failed: JobFailed", "True", "4950"]


def test_tls_and_unix_sockets(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    with TlsService(files, "--tls-ca", files.ca) as server:
        unix = str(server.folder / "ready.sock")
        replacements = {"127.0.0.1:4730": f"127.0.0.1:{server.port}", "/run/syncbridge.sock": unix}
        assert ended(start(tmp_path, "secure.py", **replacements)) == ""
