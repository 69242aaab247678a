"""`syncbridge run` as users run it: a sync.yaml, a process, and what its HTTP port tells."""

from __future__ import annotations

import http.client
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from syncbridge.demo.mirror import TABLES
from syncbridge.demo.process import free_port, spawn, tail
from syncbridge.errors import TransientError

#: Grants that a pipeline's account needs, and no more (README).
GRANTS = (
    "REPLICATION SLAVE, BINLOG MONITOR ON *.*",
    "SELECT ON shop.*",
    "ALL ON syncbridge.*",
)
#: `run` stops within 10 s by itself.
STOP_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What /metrics says now; lag in seconds, None before a heartbeat has come through."""

    lag: float | None = None
    #: Unix time of the newest heartbeat that all lanes have carried.
    proved_at: float = 0.0
    applied: int = 0
    queued: int = 0
    retries: int = 0
    dead_letters: int = 0
    snapshots: int = 0


class Pipeline:
    """One pipeline in a folder: `write_config`, `start`, `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "sync.yaml"
        self.log = folder / "syncbridge.log"
        self.password = secrets.token_hex(16)
        self._http = free_port()
        self._queue = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def write_config(self, mysql_port: int, redis_url: str) -> None:
        settings = {
            "name": "shop",
            "source": {"url": f"mysql://repl:{self.password}@127.0.0.1:{mysql_port}"},
            "queue": {"listen": f"127.0.0.1:{self._queue}", "store": f"sqlite:///{self.folder}/queue.db"},
            "sink": {"url": redis_url},
            "state": f"sqlite:///{self.folder}/state.db",
            "http": {"listen": f"127.0.0.1:{self._http}"},
            "mappings": [mirrored.mapping() for mirrored in TABLES],
        }
        self.config.touch(0o600)
        self.config.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))

    def account(self) -> list[str]:
        """The statements that make the pipeline's account."""
        user = "repl@'127.0.0.1'"
        return [
            f"CREATE USER {user} IDENTIFIED BY '{self.password}'",
            *(f"GRANT {grant} TO {user}" for grant in GRANTS),
        ]

    def start(self) -> None:
        command = [sys.executable, "-m", "syncbridge", "run", "--config", str(self.config)]
        # Its temporary files go where ours go, and it ends with us.
        self._process = spawn(command, self.log, death="TERM", env={**os.environ, "TMPDIR": str(self.folder)})

    def check_running(self) -> None:
        """Raises TransientError with what it said when it has ended."""
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise TransientError(f"syncbridge run ended with {code}:\n{tail(self.log, 20)}")

    def wait_ready(self, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while self._get("/readyz")[0] != 200:
            self.check_running()
            if time.monotonic() > deadline:
                raise TransientError(
                    f"syncbridge run did not get ready: {self._get('/readyz')[1].strip()}\n{tail(self.log, 20)}"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it cleanly. Fine when it does not run."""
        if self._process is None:
            return
        for _ in range(2):  # a second SIGTERM means: now
            if self._process.poll() is None:
                self._process.terminate()
                try:
                    self._process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def figures(self) -> Figures:
        """What /metrics says; nothing but zeros when it does not answer."""
        status, text = self._get("/metrics")
        if status != 200:
            return Figures()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return Figures(
            lag=sums.get("syncbridge_lag_seconds"),
            proved_at=sums.get("syncbridge_heartbeat_proved_timestamp_seconds", 0.0),
            applied=int(sums.get("syncbridge_events_applied_total", 0)),
            queued=int(sums.get("syncbridge_queue_jobs", 0)),
            retries=int(sums.get("syncbridge_retries_pending", 0)),
            dead_letters=int(sums.get("syncbridge_dead_letters", 0)),
            snapshots=int(sums.get("syncbridge_snapshot_running", 0)),
        )

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self._http}/metrics"

    def _get(self, path: str) -> tuple[int, str]:
        """(status, body); status 0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._http, timeout=3)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, "it does not answer on its HTTP port"
        finally:
            connection.close()
