"""What users get wrong: one sentence, a hint, the right exit code; no secret, no traceback, nothing lost."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli import in_process, syncbridge
from tests.servers import MariaDB, Redis, SqlServer, free_port
from tests.servers.service import Service

SECRET = "s3cret-p4ss"
#: A port that nobody listens on: reserved, below 1024.
NOBODY = 1


@pytest.fixture(scope="module")
def queue() -> Iterator[Service]:
    """A job server: capture looks at the source once it has one."""
    with Service(store="memory:") as server:
        yield server


def write_config(
    folder: Path,
    source: str = f"mysql://u:{SECRET}@127.0.0.1:1",
    sink: str = "redis://127.0.0.1:1",
    more: str = "",
    queue: Service | None = None,
) -> Path:
    port = free_port() if queue is None else queue.port
    path = folder / "sync.yaml"
    path.write_text(
        f"""
source: {{url: "{source}", heartbeat: 100ms}}
sink: {{url: "{sink}"}}
queue: {{listen: "127.0.0.1:{port}", store: "sqlite:///{folder}/queue.db"}}
http: {{listen: off}}
state: sqlite:///{folder}/state.db
mappings: [{{table: shop.orders, key: "order:{{id}}"}}]
{more}
"""
    )
    return path


def refused(code: int, *arguments: object, says: str, started: bool = False) -> str:
    """Run a command that must fail with this code and say this; answers its standard error.

    started: it gets as far as running, so it needs a process of its own.
    """
    done = (syncbridge if started else in_process)(*arguments)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert says in output, output
    assert "Traceback" not in output
    assert "s3cret" not in output
    return done.stderr


READING = ("check", "verify", "explain", "status", "snapshot", "run", "capture", "server", "worker")


@pytest.mark.parametrize("command", READING)
def test_every_command_refuses_an_unknown_key_the_same_way(tmp_path: Path, command: str) -> None:
    config = write_config(tmp_path, more="mapping: []")
    extra = ("shop.orders", "--key", "id=1") if command == "explain" else ()
    errors = refused(2, command, *extra, "--config", config, says="mapping: unknown key")
    assert "hint: did you mean mappings?" in errors
    assert not (tmp_path / "state.db").exists()


def test_a_wrong_type_a_missing_file_and_a_missing_variable(tmp_path: Path) -> None:
    refused(
        2, "run", "--config", write_config(tmp_path, more="retry: {max_attempts: often}"), says="retry.max_attempts"
    )
    refused(2, "run", "--config", tmp_path / "nowhere.yaml", says="syncbridge init")
    config = write_config(tmp_path, source="mysql://u:${SB_NOT_SET}@127.0.0.1:1")
    refused(2, "check", "--config", config, says="SB_NOT_SET is not set")


def test_usage_errors(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    refused(2, "verify", "--bogus", says="No such option")
    refused(2, "explain", "shop.orders", "--config", config, says="--key")
    refused(2, "explain", "shop.other", "--key", "id=1", "--config", config, says="not mapped")
    refused(2, "verify", "--table", "shop.other", "--config", config, says="not mapped")
    refused(2, "snapshot", "--table", "orders", "--config", config, says="write db.table")
    refused(2, "dead-letter", "retry", "--config", config, says="name ids or write --all")
    refused(2, "dead-letter", "show", "7", "--config", config, says="no dead letter 7")


def test_servers_that_are_not_there(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    errors = refused(1, "verify", "--config", config, says="127.0.0.1:1 is not available")
    assert errors.count("\n") == 2  # a sentence and a hint
    done = refused(1, "check", "--config", config, says="source-unreachable")
    assert done == ""
    refused(1, "status", "--config", config, says="job server not reachable")


def test_check_goes_on_past_what_is_away(tmp_path: Path, redis_server: Redis) -> None:
    done = in_process("check", "--json", "--config", write_config(tmp_path, sink=redis_server.url()))
    found = {finding["code"]: finding["severity"] for finding in json.loads(done.stdout)["findings"]}
    assert (found["source-unreachable"], found["sink"]) == ("error", "ok")


def test_a_wrong_password_of_the_source(tmp_path: Path, source: SqlServer, queue: Service) -> None:
    config = write_config(tmp_path, source=source.url("root", SECRET), queue=queue)
    refused(2, "verify", "--config", config, says="Access denied")
    refused(1, "check", "--config", config, says="Access denied")
    refused(2, "capture", "--config", config, says="Access denied", started=True)
    refused(2, "init", "--source", source.url("root", SECRET), "--output", tmp_path / "new.yaml", says="Access denied")


def test_a_wrong_password_of_redis(tmp_path: Path, mariadb: SqlServer, new_redis: Callable[..., Redis]) -> None:
    redis = new_redis(requirepass="right")
    config = write_config(tmp_path, mariadb.url(), f"redis://:{SECRET}@127.0.0.1:{redis.port}/0")
    refused(2, "verify", "--config", config, says="refuses this user")
    refused(1, "check", "--config", config, says="refuses this user")
    refused(2, "worker", "--config", config, says="refuses this user", started=True)


def test_missing_privileges_and_a_table_that_does_not_exist(
    tmp_path: Path, source: SqlServer, redis_server: Redis, queue: Service
) -> None:
    source.execute("DROP USER IF EXISTS weak@'127.0.0.1'")
    source.create_user("weak", SECRET, f"SELECT ON {source.database}.*")
    config = write_config(tmp_path, source.url("weak", SECRET), redis_server.url(), queue=queue)
    try:
        said = in_process("check", "--config", config).stdout
        assert "GRANT REPLICATION SLAVE ON *.* TO `weak`@`127.0.0.1`;" in said
        refused(1, "check", "--config", config, says="table shop.orders does not exist")
        refused(2, "capture", "--config", config, says="GRANT", started=True)
    finally:
        source.execute("DROP USER weak@'127.0.0.1'")


def test_run_ends_with_the_stages_reason(tmp_path: Path, mariadb: SqlServer, redis_server: Redis) -> None:
    config = write_config(tmp_path, mariadb.url(), redis_server.url())
    errors = refused(2, "run", "--config", config, says="shop.orders", started=True)
    assert "does not exist" in errors


def test_a_debug_run_shows_the_traceback(tmp_path: Path) -> None:
    done = syncbridge("verify", "--config", write_config(tmp_path), "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "s3cret" not in done.stderr


def test_something_else_listens_where_the_job_server_should(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    port = int(config.read_text().partition("127.0.0.1:")[2].partition('listen: "127.0.0.1:')[2].partition('"')[0])
    with garbage_server(port):
        refused(1, "status", "--config", config, says="job server not reachable")
        refused(1, "check", "--config", config, says="something that is not syncbridge listens")


@contextmanager
def garbage_server(port: int) -> Iterator[None]:
    """Answers every connection with bytes that mean nothing, without end."""
    stop = threading.Event()
    server = socket.create_server(("127.0.0.1", port))
    server.settimeout(0.1)

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(1)
                try:
                    while not stop.is_set():
                        connection.sendall(b"\xff\x00garbage" * 4096)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        server.close()


def test_an_old_or_foreign_state_file(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    (tmp_path / "state.db").write_text("not a database, but something dear " * 100)
    refused(2, "snapshot", "--config", config, says="not a database")
    assert (tmp_path / "state.db").read_text().startswith("not a database, but something dear")


def test_a_source_without_a_binlog(
    tmp_path: Path, new_mariadb: Callable[..., MariaDB], redis_server: Redis, queue: Service
) -> None:
    server = new_mariadb(log_bin=None)
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    config = write_config(tmp_path, server.url(), redis_server.url(), queue=queue)
    refused(2, "capture", "--config", config, says="binlog", started=True)
