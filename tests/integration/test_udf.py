"""The UDF library in real servers: what its functions do, and what a statement pays while no job server answers."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from syncbridge.dispatch import packets as p
from tests.servers import SqlServer, eventually
from tests.servers.black_hole import BlackHole
from tests.servers.gearmand import Gearmand
from tests.servers.job_server import JobServerProcess, Peer
from tests.servers.udf import UDF, install, point_to, run_file


@pytest.fixture
def sql(new_source: Callable[..., SqlServer], udf_library: Path) -> SqlServer:
    server = new_source(plugin_dir=str(udf_library), max_allowed_packet="1G")
    install(server)
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGBLOB)")
    server.database = "shop"
    return server


@pytest.fixture
def jobs() -> Iterator[JobServerProcess]:
    with JobServerProcess() as server:
        yield server


def one(sql: SqlServer, expression: str, *values: object) -> object:
    with sql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {expression}", values)
        found = cursor.fetchone()
    assert found is not None
    return found[0]


def stats(sql: SqlServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(one(sql, "CONVERT(gman_stats() USING utf8mb4)")))
    return found


def trigger(sql: SqlServer) -> None:
    sql.execute(
        "CREATE TRIGGER t_ai AFTER INSERT ON t FOR EACH ROW SET @ret = gman_do_background('syncToRedis', NEW.v)"
    )


@pytest.fixture
def worker(jobs: JobServerProcess) -> Iterator[list[tuple[bytes, bytes, bytes]]]:
    """Answers `length` with the length of the workload, `fail` with a failure; what it was given."""
    seen: list[tuple[bytes, bytes, bytes]] = []
    peer = Peer(jobs.port, timeout=0.2).can_do(b"length", b"fail", b"upper")
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                grabbed = peer.grab()
            except TimeoutError:
                continue
            if grabbed is None:
                time.sleep(0.005)
                continue
            handle, function, unique, workload = grabbed
            seen.append((function, unique, workload))
            if function == b"fail":
                peer.send(p.WORK_FAIL, handle)
            elif function == b"length":
                peer.send(p.WORK_COMPLETE, handle, b"%d" % len(workload))
            else:
                peer.send(p.WORK_DATA, handle, workload[:1].upper())
                peer.send(p.WORK_COMPLETE, handle, workload[1:].upper())

    thread = threading.Thread(target=work)
    thread.start()
    yield seen
    over.set()
    thread.join()
    peer.close()


def test_every_function_means_what_it_meant(
    sql: SqlServer, jobs: JobServerProcess, worker: list[tuple[bytes, bytes, bytes]]
) -> None:
    assert one(sql, "gman_do('length', 'abc')") is None  # no servers yet
    assert b"gman_servers_set" in sql.execute("SELECT gman_do('length', 'abc') IS NULL, gman_last_error()")[0][1]
    point_to(sql, jobs.port)
    sql.execute("SELECT gman_option_set('reply_timeout', 5000)")
    for name in ("gman_do", "gman_do_high", "gman_do_low"):
        assert one(sql, f"{name}('length', 'abc')") == b"3"
    assert one(sql, "gman_do('upper', 'abc', 'a unique')") == b"ABC"
    assert worker[-1] == (b"upper", b"a unique", b"abc")
    assert one(sql, "gman_do('length', NULL)") == b"0"
    assert one(sql, "gman_do('length', 12.50)") == b"5"
    assert one(sql, "gman_do(concat('len', 'gth'), %s)", b"\0\xff'\n") == b"4"
    assert one(sql, "gman_do('fail', 'x')") is None
    sql.execute("INSERT INTO t (v) VALUES ('a'), ('bb'), (NULL), ('ccc')")
    assert one(sql, "gman_sum('length', v) FROM t") == 6
    assert sql.execute("SELECT id % 2, gman_sum('length', v) FROM t GROUP BY 1 ORDER BY 1") == [(0, 5), (1, 1)]
    for call, message in (
        ("gman_do('length')", "two or three arguments"),
        ("gman_do_background(1, 'x')", "First argument must be a string"),
        ("gman_sum('length')", "two arguments"),
    ):
        with pytest.raises(pymysql.MySQLError, match=message):
            one(sql, call)
    run_file(sql, "remove.sql")
    with pytest.raises(pymysql.MySQLError, match="gman_do"):
        one(sql, "gman_do('length', 'abc')")


def test_background_jobs_arrive_byte_for_byte_over_one_connection(sql: SqlServer, jobs: JobServerProcess) -> None:
    point_to(sql, jobs.port)
    trigger(sql)
    values = [b"", b"\0\xff\xfe'\"\\\n", "ü €".encode(), b"x" * 64_000_000, *(b"%d" % n for n in range(1000))]
    with sql.connect() as connection, connection.cursor() as cursor:
        for value in values[:3]:
            cursor.execute("INSERT INTO t (v) VALUES (%s)", (value,))
        at = time.monotonic()
        cursor.execute("INSERT INTO t (v) VALUES (REPEAT('x', 64000000))")  # with the time-outs that nobody changed
        print(f"64 MB took {(time.monotonic() - at) * 1000:.0f} ms")
        cursor.execute("SELECT gman_option_set('reply_timeout', 10000)")
        cursor.executemany("INSERT INTO t (v) VALUES (%s)", [(value,) for value in values[4:]])
    with Peer(jobs.port) as peer:
        peer.can_do(b"syncToRedis")
        for value in values:
            grabbed = peer.grab()
            assert grabbed is not None
            assert grabbed[3] == value
            peer.send(p.WORK_COMPLETE, grabbed[0], b"")
    found = stats(sql)
    print(f"{found['jobs']} jobs over {found['connects']} connection")
    assert found["jobs"] == len(values)
    assert found["connects"] == 1
    for kind, name in ((0, "gman_do_high_background"), (2, "gman_do_low_background")):
        assert str(one(sql, f"{name}('p', 'x', 'u{kind}')")).startswith("b'H:")


def test_a_list_that_cannot_be_is_refused_with_its_reason(sql: SqlServer, jobs: JobServerProcess) -> None:
    point_to(sql, jobs.port)
    listed = (
        ("127.0.0.1:99999", "server 127.0.0.1:99999: a port is 1 to 65535"),
        ("127.0.0.1:0", "server 127.0.0.1:0: a port is 1 to 65535"),
        ("127.0.0.1:1,127.0.0.1:-1", "server 127.0.0.1:-1: a port is 1 to 65535"),
        ("127.0.0.1:no-such-port", "server 127.0.0.1:no-such-port: no such port"),
        (":0", "server :0: no host"),
        ("[::1]4730", "server [::1]4730: not [address]:port"),
        ("no-host.invalid", "server no-host.invalid: no such host"),
        ("unix:", "server unix:: no path"),
        ("unix:/" + "x" * 110, f"server unix:/{'x' * 110}: the path is too long"),
        ("x" * 128, f"server {'x' * 128}: too long"),
        (",".join(["127.0.0.1:1"] * 16 + ["127.0.0.1:2"]), "server 127.0.0.1:2: one too many"),
        (" ", "no server in the list: it is to be such as 'host:4730,other:4730'"),
        (",", "no server in the list: it is to be such as 'host:4730,other:4730'"),
    )
    for servers, reason in listed:
        with sql.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT gman_servers_set(%s), CONVERT(gman_last_error() USING utf8mb4)", (servers,))
            assert cursor.fetchone() == (None, reason)
    assert one(sql, "gman_do_background('f', 'x')")  # the old list is in force
    for servers in ("127.0.0.1", "127.0.0.1:", "[127.0.0.1]:65535", "unix:/x,127.0.0.1:1"):
        assert one(sql, "CONVERT(gman_servers_set(%s) USING utf8mb4)", servers) == servers
    assert [(found["server"], found["address"]) for found in stats(sql)["servers"]] == [
        ("unix:/x", ""), ("127.0.0.1:1", "127.0.0.1"),
    ]  # fmt: skip


def test_sessions_share_connections_and_lose_nothing(sql: SqlServer, jobs: JobServerProcess) -> None:
    point_to(sql, jobs.port)
    trigger(sql)
    sql.execute("SELECT gman_option_set('reply_timeout', 10000)")

    def insert(number: int) -> None:
        with sql.connect() as connection, connection.cursor() as cursor:
            for n in range(200):
                cursor.execute("INSERT INTO t (v) VALUES (%s)", (f"{number}:{n}",))

    threads = [threading.Thread(target=insert, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert jobs.total("syncToRedis") == 1600
    found = stats(sql)
    print(f"8 sessions, {found['jobs']} jobs over {found['connects']} connections")
    assert found["connects"] <= 8
    assert found["failures"] == 0


@pytest.mark.parametrize("new_source", ["mariadb"], indirect=True)
def test_a_connection_that_dies_under_a_job_is_replaced_and_leaves_no_error(sql: SqlServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            """The first connection takes one job and closes at the second, the next one takes it."""
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(p.response(p.JOB_CREATED, b"H:x:1"))
                    connection.recv(4096)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        point_to(sql, listener.getsockname()[1])
        sql.execute("SELECT gman_option_set('reply_timeout', 10000)")
        with sql.connect() as connection, connection.cursor() as cursor:
            for _ in range(2):
                cursor.execute("SELECT gman_do_background('f', 'x'), gman_last_error()")
                assert cursor.fetchone() == (b"H:x:1", None)
        assert (stats(sql)["connects"], stats(sql)["reuses"]) == (2, 1)
        sql.execute("SELECT gman_servers_set('127.0.0.1:1')")  # lets go of the connection
        server.join(10)
        assert not server.is_alive()


CREATED = p.response(p.JOB_CREATED, b"H:x:1")


@pytest.mark.parametrize("new_source", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("gman_do('f', 'x')", CREATED + p.response(p.WORK_FAIL, b"H:x:1")),
        ("gman_do('f', 'x')", p.response(p.ERROR, b"QUEUE_ERROR", b"full")),
        ("gman_sum('f', 'x')", CREATED + p.response(p.WORK_FAIL, b"H:x:1")),
        ("gman_sum('f', 'x')", p.response(p.ERROR, b"QUEUE_ERROR", b"full")),
    ],
    ids=["job failed", "job refused", "sum failed", "sum refused"],
)
def test_whatever_a_server_answers_after_an_outage_it_is_in_use_again(sql: SqlServer, call: str, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    point_to(sql, port)
    sql.execute("SELECT gman_option_set('breaker', 1), gman_option_set('reply_timeout', 10000)")
    assert one(sql, "gman_do_background('f', 'x')") is None
    sql.execute("SELECT gman_option_set('breaker', 600000)")  # what the next call would leave behind
    with socket.create_server(("127.0.0.1", port)) as listener:

        def serve() -> None:
            for said in (answer, CREATED):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(said)
                    connection.recv(4096)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        assert one(sql, call) is None
        assert one(sql, "gman_do_background('f', 'x')") == b"H:x:1"
        sql.execute("SELECT gman_servers_set('-')")  # lets go of the connection
        server.join(10)


@pytest.mark.parametrize("new_source", ["mariadb"], indirect=True)
def test_a_job_larger_than_the_server_takes_keeps_no_other_from_it(sql: SqlServer) -> None:
    with JobServerProcess(max_packet=1 << 20) as small:
        point_to(sql, small.port)
        assert one(sql, "gman_do_background('f', 'x')")
        found = sql.execute(
            "SELECT gman_do_background('f', REPEAT('x', 16 << 20)), CONVERT(gman_last_error() USING utf8mb4)"
        )
        assert found[0][0] is None
        assert "closed under a job of 16777" in str(found[0][1])
        assert one(sql, "gman_do_background('f', 'x')")
        assert small.total("f") == 2


def frozen_for(sql: SqlServer, jobs: JobServerProcess, size: int) -> float:
    """Seconds that a job of `size` bytes costs while the server is frozen."""
    assert one(sql, "gman_do_background('f', 'x')")
    jobs.freeze()
    try:
        with sql.connect() as connection, connection.cursor() as cursor:
            at = time.monotonic()
            cursor.execute(f"SELECT gman_do_background('f', REPEAT('x', {size}))")
            assert cursor.fetchone() == (None,)
            return time.monotonic() - at
    finally:
        jobs.thaw()


@pytest.mark.parametrize("new_source", ["mariadb"], indirect=True)
def test_a_large_job_has_more_time_and_a_small_one_has_not(sql: SqlServer, jobs: JobServerProcess) -> None:
    point_to(sql, jobs.port)
    sql.execute("SELECT gman_option_set('breaker', 1)")
    small, large = frozen_for(sql, jobs, 1000), frozen_for(sql, jobs, 20 << 20)
    print(f"frozen: 1 kB costs {small * 1000:.0f} ms, 20 MiB {large * 1000:.0f} ms")
    assert 0.15 < small < 2 < large < 20


@pytest.mark.parametrize("how", ["stopped", "frozen", "black hole"])
def test_a_dead_server_costs_one_time_out_a_second_and_no_statement(
    sql: SqlServer, jobs: JobServerProcess, how: str
) -> None:
    trigger(sql)
    with BlackHole() as hole:
        point_to(sql, hole.port if how == "black hole" else jobs.port)
        if how != "black hole":
            assert (
                one(sql, "gman_do_background('syncToRedis', 'x')") is not None
            )  # a pooled connection that will be dead
        if how == "stopped":
            jobs.stop()
        elif how == "frozen":
            jobs.freeze()
        before = stats(sql)
        slowest, rows, started = 0.0, 0, time.monotonic()
        with sql.connect() as connection, connection.cursor() as cursor:
            while time.monotonic() - started < 2.5:
                at = time.monotonic()
                cursor.execute("INSERT INTO t (v) VALUES ('x')")
                slowest, rows = max(slowest, time.monotonic() - at), rows + 1
        found = stats(sql)
        timeouts = found["timeouts"] - before["timeouts"]
        error = one(sql, "CONVERT(gman_last_error() USING utf8mb4) FROM (SELECT gman_do_background('a', 'b')) q")
        print(f"{how}: {rows} rows inserted, slowest {slowest * 1000:.0f} ms, {timeouts} time-outs ({error})")
        assert found["failures"] - before["failures"] >= rows
        assert timeouts <= 3
        assert one(sql, "count(*) FROM t") == rows
        assert slowest < 2
        if how == "stopped":
            jobs.start()
        elif how == "frozen":
            jobs.thaw()
        else:
            point_to(sql, jobs.port)
    eventually(lambda: one(sql, "gman_do_background('syncToRedis', 'back')"), timeout=10)


def test_the_next_server_takes_over(sql: SqlServer, jobs: JobServerProcess) -> None:
    with JobServerProcess() as first:
        point_to(sql, first.port, jobs.port)
        assert one(sql, "gman_do_background('f', 'x')")
        assert first.total("f") == 1
        first.kill9()
        for _ in range(10):
            assert one(sql, "gman_do_background('f', 'x')")
        assert jobs.total("f") == 10
        first.start()
        eventually(lambda: one(sql, "gman_do_background('f', 'x')") and first.total("f") > 1, timeout=10)
    point_to(sql, jobs.port)
    sql.execute("SELECT gman_servers_set('127.0.0.1:1', 'elsewhere')")
    assert one(sql, "gman_do_background('elsewhere', 'x')") is None
    assert one(sql, "gman_do_background('f', 'x')")


def test_json_helpers_write_json(sql: SqlServer) -> None:
    sql.execute(
        "CREATE TABLE j (id INT, `a.b` DOUBLE, d DECIMAL(20,5), s TEXT CHARACTER SET utf8mb4, b VARBINARY(9), n INT)"
    )
    sql.execute(r"""INSERT INTO j VALUES (1, 1e-9, -0.50000, 'q"\\ \n\t ü €', x'00ff', NULL)""")
    call = "gman_json_object(j.id, j.`a.b`, d AS price, s, b, n, n AS `more n`)"
    written = one(sql, f"CONVERT({call} USING utf8mb4) FROM j")
    assert json.loads(str(written)) == {
        "id": 1, "a.b": 1e-9, "price": -0.5, "s": 'q"\\ \n\t ü €', "b": "\0\xff", "n": None, "more n": None,
    }  # fmt: skip
    nested = "gman_json_members('more', gman_json_array(1, 'x', gman_json_object(id)))"
    assert one(sql, f"{nested} FROM j") == b'"more":[1,"x",{"id":1}]'
    sql.execute(
        "CREATE TABLE log (j TEXT)",
        "CREATE TRIGGER j_ai AFTER INSERT ON j FOR EACH ROW INSERT INTO log VALUES "
        "(CONVERT(gman_json_object(NEW.id, NEW.`a.b`, NEW.s AS text) USING utf8mb4))",
        "INSERT INTO j (id, `a.b`, s) VALUES (2, 0.1, 'é')",
    )
    assert json.loads(str(one(sql, "j FROM log"))) == {"id": 2, "a.b": 0.1, "text": "é"}
    assert one(sql, "gman_json_values('a', 11.5, NULL)") == b'"a",11.5,null'
    assert one(sql, "gman_json_members('a', 1, 'b', 'x')") == b'"a":1,"b":"x"'
    with pytest.raises(pymysql.MySQLError, match="pairs"):
        one(sql, "gman_json_members('a')")


def test_what_the_documentation_says_of_character_sets_and_nesting(sql: SqlServer, jobs: JobServerProcess) -> None:
    sql.execute(
        "CREATE TABLE c (id INT, g TEXT CHARACTER SET gbk, u TEXT CHARACTER SET utf16, m TEXT CHARACTER SET utf8mb3, "
        "j JSON)",
        """INSERT INTO c VALUES (1, '中文', 'é', 'é', '{"a":1}')""",
    )
    listed = (
        ("CONVERT(g USING utf8mb4) AS g, CONVERT(u USING utf8mb4) AS u, m", {"g": "中文", "u": "é", "m": "é"}),
        ("gman_json_object(id)", {"gman_json_object(id)": {"id": 1}}),
        ("gman_json_object(id) AS o", {"o": '{"id":1}'}),
        ("(gman_json_object(id))", {"(gman_json_object(id))": '{"id":1}'}),
    )
    for arguments, expected in listed:
        found = one(sql, f"CONVERT(gman_json_object({arguments}) USING utf8mb4) FROM c")
        assert json.loads(str(found)) == expected
    quoted = json.loads(str(one(sql, "CONVERT(gman_json_object(g, j) USING utf8mb4) FROM c")))
    assert (quoted["g"], json.loads(quoted["j"])) == ("中文".encode("gbk").decode("latin1"), {"a": 1})
    point_to(sql, jobs.port)
    assert one(sql, "gman_do_background('f', 'x', REPEAT('u', 64))")
    assert one(sql, "gman_do_background('f', 'x', REPEAT('u', 65))") is None


def test_gearmand_and_its_command_line_worker_serve_it_too(
    sql: SqlServer, new_gearmand: Callable[..., Gearmand], tmp_path: Path
) -> None:
    server = new_gearmand()
    point_to(sql, server.port)
    trigger(sql)
    sql.execute("INSERT INTO t (v) VALUES ('one'), ('two'), ('three')")
    done = subprocess.run(
        ["gearman", "-h", "127.0.0.1", "-p", str(server.port), "-w", "-c", "3", "-f", "syncToRedis"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"onetwothree"


def test_the_harness_runs_clean_under_thread_sanitizer_and_valgrind(tmp_path: Path) -> None:
    for name in ("Makefile", "syncbridge_udf.c", "harness.c"):
        (tmp_path / name).write_bytes((UDF / name).read_bytes())
    done = subprocess.run(["make", "-C", tmp_path, "check"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "sessions," in line]
    print(" | ".join(lines))
    assert len(lines) == 2
