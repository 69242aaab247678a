"""The private servers themselves: everything else stands on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pymysql
import pytest

from tests.servers import MariaDB, Redis, SqlServer, eventually
from tests.servers.process import REPOSITORY


def test_a_committed_row_survives_kill9(new_source: Callable[..., SqlServer]) -> None:
    server = new_source()
    port = server.port
    server.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (7)")
    server.kill9()
    with pytest.raises(pymysql.OperationalError):
        server.connect(connect_timeout=1)
    server.start()
    assert server.port == port
    assert server.value("SELECT id FROM d.t") == 7
    server.restart()
    assert server.value("SELECT id FROM d.t") == 7


def test_options_reach_the_server(new_source: Callable[..., SqlServer]) -> None:
    server = new_source(binlog_checksum="NONE", binlog_row_metadata="FULL", server_id=4242)
    assert server.value("SELECT @@binlog_checksum") == "NONE"
    assert server.value("SELECT @@binlog_row_metadata") == "FULL"
    assert server.value("SELECT @@server_id") == 4242
    assert server.value("SELECT @@sync_binlog") == 1
    assert server.value("SELECT @@innodb_flush_log_at_trx_commit") == 1
    assert server.value("SELECT @@binlog_format") == "ROW"
    name, position = server.binlog_position()
    assert position > 4
    assert server.binlog_file(name).read_bytes()[:4] == b"\xfebin"


def test_tls_with_a_verified_certificate(new_source: Callable[..., SqlServer]) -> None:
    server = new_source(ssl=True)
    with server.connect(ssl_ca=str(server.ssl_ca), ssl_verify_identity=True) as connection:
        cursor = connection.cursor()
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchall()[0][1]


def test_accounts_and_urls(source: SqlServer) -> None:
    source.create_user("reader", "p@ss/word", "SELECT ON *.*")
    assert source.url("reader", "p@ss/word") == f"mysql://reader:p%40ss%2Fword@127.0.0.1:{source.port}"
    with source.connect(user="reader", password="p@ss/word") as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT CURRENT_USER()")
        assert cursor.fetchall() == (("reader@127.0.0.1",),)
    source.execute("DROP USER reader@'127.0.0.1'")


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_gets_a_fresh_database(source: SqlServer, attempt: int) -> None:
    assert source.database
    assert source.execute("SHOW TABLES") == []
    source.execute("CREATE TABLE leftover (id INT PRIMARY KEY)", "CREATE DATABASE elsewhere")


def test_redis_keeps_nothing_or_everything(new_redis: Callable[..., Redis]) -> None:
    volatile, durable = new_redis(), new_redis(appendonly=True, appendfsync="always")
    for server, kept in ((volatile, None), (durable, b"v")):
        with server.client() as client:
            client.set("k", "v")
        server.kill9()
        server.start()
        with server.client() as client:
            assert client.get("k") == kept


def test_no_server_outlives_a_killed_test_process() -> None:
    script = (
        "import time; from tests.servers import MariaDB, PostgreSQL, Redis\n"
        "servers = [MariaDB().start(), PostgreSQL().start(), Redis().start()]\n"
        "print(*(server.pid for server in servers), flush=True); time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert child.stdout is not None
    with child, child.stdout as output:
        pids = [int(word) for word in output.readline().split()]
        assert len(pids) == 3
        os.kill(child.pid, signal.SIGKILL)
        child.wait()

    def ended() -> bool:
        return not any(_runs(pid) for pid in pids)

    eventually(ended, message=f"servers {pids} outlived their test process")


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_server_started_by_a_thread_outlives_that_thread() -> None:
    from threading import Thread

    server = MariaDB()
    thread = Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert server.value("SELECT 1") == 1
    finally:
        server.destroy()
