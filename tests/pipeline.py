"""`syncbridge run` as users run it: a sync.yaml, a process, and an oracle that shares no code with the product.

The oracle compares what the server's own text protocol prints with what Redis holds, byte for byte.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import yaml

from tests.cli import in_process
from tests.servers import Redis, SqlServer, eventually, free_port


class Pipeline:
    """One pipeline in a folder of its own."""

    def __init__(self, folder: Path, source: SqlServer, redis: Redis, mappings: Sequence[dict[str, Any]], **more: Any):
        self.folder = folder
        self.source = source
        self.redis = redis
        self.http = free_port()
        self.queue_port = free_port()
        self.config_path = folder / "sync.yaml"
        self.log_path = folder / "syncbridge.log"
        self.settings: dict[str, Any] = {
            "name": "shop",
            "source": {"url": source.url(), "heartbeat": "200ms"},
            "queue": {"listen": f"127.0.0.1:{self.queue_port}", "store": f"sqlite:///{folder}/queue.db"},
            "sink": {"url": redis.url(), "workers": 1},  # a start less; two where lanes move between them is the point
            "state": f"sqlite:///{folder}/state.db",
            "http": {"listen": f"127.0.0.1:{self.http}"},
            "mappings": list(mappings),
        }
        for name, value in more.items():
            self.settings[name] = {**self.settings.get(name, {}), **value} if isinstance(value, dict) else value
        self.write_config()
        self.process: subprocess.Popen[bytes] | None = None

    def write_config(self) -> None:
        self.config_path.write_text(yaml.safe_dump(self.settings))

    # -- processes -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "syncbridge", "run", "--config", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children() if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20)
        psutil.wait_procs(children, timeout=10)
        return code

    @contextmanager
    def running(self) -> Iterator[Pipeline]:
        self.start()
        try:
            self.wait_ready()
            yield self
        except BaseException:
            print(self.log())
            raise
        finally:
            self.stop()

    def stages(self, kind: str) -> list[psutil.Process]:
        """The running processes of a stage."""
        assert self.process is not None
        found = []
        for child in psutil.Process(self.process.pid).children():
            try:
                if kind in child.cmdline():
                    found.append(child)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another syncbridge command on the same sync.yaml, in this process."""
        return in_process(*arguments, "--config", self.config_path)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")[-20_000:] if self.log_path.exists() else ""

    @contextmanager
    def stage(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """One stage alone; it ends well unless it was killed."""
        with self.log_path.open("ab") as log:
            command = [sys.executable, "-m", "syncbridge", name, "--config", str(self.config_path)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            code = process.wait(20)
        assert code in (0, -signal.SIGKILL), self.log()

    # -- what it says --------------------------------------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, str]:
        from urllib.error import HTTPError

        try:
            with urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, timeout: float = 30) -> None:
        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"syncbridge run ended with {self.process.returncode}:\n{self.log()}")
            return self.get("/readyz")[0] == 200

        eventually(ready, timeout=timeout, message=lambda: f"not ready: {self.get('/readyz')}\n{self.log()}")

    def metric(self, name: str, **labels: str) -> float | None:
        """The sum of a metric's samples that carry these labels."""
        values = []
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(("#", " ")) or not line.startswith(name):
                continue
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
                values.append(float(value))
        return sum(values) if values else None


# -- the oracle --------------------------------------------------------------------------------------------------------


def select_rows(source: SqlServer, sql: str) -> list[dict[str, bytes]]:
    """Rows as the text protocol prints them to a utf8mb4 session in UTC; NULLs left out."""
    connection = source.connect(conv={}, use_unicode=False, charset="utf8mb4", init_command="SET time_zone='+00:00'")
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            names = [column[0] for column in cursor.description]
            return [
                {name: value for name, value in zip(names, row, strict=True) if value is not None}
                for row in cursor.fetchall()
            ]
    finally:
        connection.close()


def mirrored_hashes(redis: Redis, pattern: str) -> dict[str, dict[str, bytes]]:
    """Every hash whose key matches, without syncbridge's own fields."""
    with redis.client() as client:
        keys = sorted(client.scan_iter(pattern, count=5000))
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(key)
        return {
            key.decode(): {field.decode(): value for field, value in fields.items() if not field.startswith(b"_")}
            for key, fields in zip(keys, pipe.execute(), strict=True)
        }


def differences(source: SqlServer, redis: Redis, table: str, prefix: str, key: str = "id") -> list[str]:
    """Where `<prefix><key>` hashes differ from the table, in words."""
    rows = {f"{prefix}{row[key].decode()}": row for row in select_rows(source, f"SELECT * FROM {table}")}
    hashes = mirrored_hashes(redis, f"{prefix}*")
    found = [f"missing {name}" for name in rows.keys() - hashes.keys()]
    found += [f"extra {name}" for name in hashes.keys() - rows.keys()]
    found += [
        f"{name}: {rows[name]} in the source, {hashes[name]} in Redis"
        for name in rows.keys() & hashes.keys()
        if rows[name] != hashes[name]
    ]
    return found


def wait_same(pipeline: Pipeline, table: str, prefix: str, *, timeout: float = 60, key: str = "id") -> int:
    """Waits until Redis shows the table; answers the number of rows."""

    def same() -> bool:
        found = differences(pipeline.source, pipeline.redis, table, prefix, key)
        assert not found, f"{len(found)} differences, for example: {found[:3]}"
        return True

    try:
        eventually(same, timeout=timeout, interval=0.1, message=f"{table} is mirrored")
    except AssertionError:
        print(pipeline.log())
        raise
    return int(pipeline.source.value(f"SELECT COUNT(*) FROM {table}"))
