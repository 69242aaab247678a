"""`syncbridge udf` on real servers: the library goes in, is upgraded under running writers, and comes out again."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest
from typer.testing import CliRunner, Result

from syncbridge.commands import app as application
from syncbridge.commands.gearman_udf import source
from syncbridge.commands.gearman_udf.install import IN_PLACE, INSTALLED, UPGRADED, install
from syncbridge.commands.gearman_udf.server import UdfFacts, udf_facts
from syncbridge.errors import ConfigError, PermanentError
from tests.servers import SqlServer, eventually

LISTS = "SELECT gman_servers_set('127.0.0.1:1,127.0.0.1:2'), gman_servers_set('127.0.0.1:3', 'f')"


@pytest.fixture(scope="module")
def library(udf_library: Path) -> Path:
    return udf_library / source.LIBRARY


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that calls itself version 1."""
    folder = tmp_path_factory.mktemp("older")
    text = (source.folder() / "syncbridge_udf.c").read_text()
    number = f"#define LIBRARY_VERSION {source.version()}"
    assert number in text
    (folder / "syncbridge_udf.c").write_text(text.replace(number, "#define LIBRARY_VERSION 1"))
    subprocess.run(["make", "-s", "-C", folder, "-f", source.folder() / "Makefile", source.LIBRARY], check=True)
    return folder / source.LIBRARY


@pytest.fixture
def server(new_source: Callable[..., SqlServer], tmp_path: Path) -> SqlServer:
    """Has a plugin_dir of its own, empty, and a table."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    server = new_source(plugin_dir=str(folder))
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)")
    server.database = "shop"
    return server


def syncbridge(*arguments: object) -> Result:
    application.register()
    return CliRunner().invoke(application.app, [str(argument) for argument in arguments], prog_name="syncbridge")


def facts_of(server: SqlServer) -> UdfFacts:
    with server.connect(database=None) as connection:
        return udf_facts(connection, "here")


def put_in(server: SqlServer, library: Path) -> str:
    """Install it; what became of it."""
    return install(facts_of(server), lambda: server.connect(database=None), lambda: library, "mysql").state


def with_trigger(server: SqlServer) -> None:
    server.execute("CREATE TRIGGER t_ai AFTER INSERT ON t FOR EACH ROW SET @r = gman_do_background('f', NEW.v)")


@contextmanager
def writers(server: SqlServer, number: int = 4) -> Iterator[tuple[list[int], list[Exception]]]:
    """Sessions that insert all the time: how many rows each wrote, and what went wrong."""
    done, wrong, over = [0] * number, list[Exception](), threading.Event()

    def write(me: int) -> None:
        with server.connect() as connection, connection.cursor() as cursor:
            while not over.is_set():
                try:
                    cursor.execute("INSERT INTO t (v) VALUES (1)")
                except pymysql.MySQLError as error:
                    wrong.append(error)
                done[me] += 1

    threads = [threading.Thread(target=write, args=(me,)) for me in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield done, wrong
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_the_command_line_installs_says_so_and_removes(server: SqlServer, tmp_path: Path) -> None:
    config = tmp_path / "sync.yaml"
    config.write_text(
        f"source: {{url: '{server.url()}'}}\nsink: {{url: 'redis://127.0.0.1:1'}}\nmappings: [{{table: shop.t}}]"
    )
    before = server.binlog_position()
    for state in (INSTALLED, IN_PLACE):
        done = syncbridge("udf", "install", "-c", config, "--folder", tmp_path / "built", "--json")
        assert done.exit_code == 0, done.stderr
        (outcome,) = json.loads(done.stdout)["servers"]
        assert (outcome["state"], outcome["version"]) == (state, source.version())
    assert server.value("SELECT gman_json_array(1, 'a')") == b'[1,"a"]'
    assert server.binlog_position() == before  # a replica without the library would stop at these statements
    with_trigger(server)
    refused = syncbridge("udf", "remove", "--url", server.url())
    assert refused.exit_code == 1
    assert "shop.t" in refused.stderr
    assert "syncbridge triggers remove" in refused.stderr
    server.execute("DROP TRIGGER t_ai")
    done = syncbridge("udf", "remove", "--url", server.url())
    assert (done.exit_code, "15 functions removed" in done.stdout) == (0, True), done.stderr
    assert server.value("SELECT COUNT(*) FROM mysql.func") == 0
    assert list((tmp_path / "plugins").iterdir()) == []


def test_an_upgrade_fails_no_statement_and_keeps_what_was_set(
    server: SqlServer, library: Path, older: Path, tmp_path: Path
) -> None:
    assert put_in_older(server, older) == 1
    with_trigger(server)
    server.execute(LISTS, "SELECT gman_option_set('breaker', 777)")
    with writers(server) as (done, wrong):
        eventually(lambda: min(done) > 20)
        assert put_in(server, library) == UPGRADED
        reached = [number + 20 for number in done]
        eventually(lambda: all(now > before for now, before in zip(done, reached, strict=True)))
    print(f"{sum(done)} statements while the library was replaced, {len(wrong)} failed")
    assert wrong == []
    now = facts_of(server)
    assert now.loaded == source.version()
    assert [one["server"] for one in now.stats["servers"] if one["function"] == ""] == ["127.0.0.1:1", "127.0.0.1:2"]
    assert [one["server"] for one in now.stats["servers"] if one["function"] == "f"] == ["127.0.0.1:3"]
    assert now.stats["options"]["breaker"] == 777
    assert [path.name for path in (tmp_path / "plugins").iterdir()] == [source.LIBRARY]


def test_an_upgrade_sets_a_name_of_several_addresses_once(server: SqlServer, older: Path, library: Path) -> None:
    put_in_older(server, older)
    facts, names = facts_of(server), [f"127.0.0.1:{port}" for port in range(1, 6)]
    facts.stats["servers"] = [{"function": "f", "server": name} for name in names for _ in range(4)]
    done = install(facts, lambda: server.connect(database=None), lambda: library, "mysql")
    assert done.state == UPGRADED
    assert [one["server"] for one in facts_of(server).stats["servers"]] == names


def put_in_older(server: SqlServer, older: Path) -> int | None:
    """As an administrator of yesterday did; the version that answers."""
    facts_of(server).library.write_bytes(older.read_bytes())
    server.execute(*source.statements("install.sql"))
    return facts_of(server).loaded


def test_what_cannot_be_loaded_leaves_the_older_one_at_work(server: SqlServer, older: Path, tmp_path: Path) -> None:
    put_in_older(server, older)
    with_trigger(server)
    nonsense = tmp_path / "nonsense.so"
    nonsense.write_bytes(b"no library")
    with pytest.raises(ConfigError, match="cannot load"):
        put_in(server, nonsense)
    server.execute("INSERT INTO t (v) VALUES (1)")
    assert facts_of(server).loaded == 1
    with server.connect(autocommit=False) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT * FROM t")  # an open transaction that has used the table
        with pytest.raises(PermanentError, match=r"shop\.t"):
            put_in(server, older)
    assert facts_of(server).loaded == 1


def test_functions_whose_library_was_lost_are_made_again(server: SqlServer, library: Path) -> None:
    assert put_in(server, library) == INSTALLED
    with_trigger(server)
    server.stop()
    facts_of_library = Path(str(server.options["plugin_dir"])) / source.LIBRARY
    facts_of_library.unlink()
    server.start()
    with pytest.raises(pymysql.MySQLError):
        server.execute("INSERT INTO t (v) VALUES (1)")
    facts = facts_of(server)
    assert facts.loaded is None
    assert facts.libraries is not None
    assert facts.libraries.keys() == source.functions()  # the server remembers them, and cannot load them
    assert put_in(server, library) == INSTALLED
    server.execute("INSERT INTO t (v) VALUES (1)")
    server.restart()
    server.execute("INSERT INTO t (v) VALUES (1)")


def test_an_account_without_rights_is_told_who_has_to_run_what(server: SqlServer, tmp_path: Path) -> None:
    server.create_user("app", "pw", "ALL ON shop.*")
    url = server.url("app", "pw")
    done = syncbridge("udf", "install", "--url", url, "--folder", tmp_path)
    assert done.exit_code == 1
    assert "lacks INSERT and DELETE on mysql.func" in done.stdout
    assert "pw" not in done.stdout
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    assert [line.split()[0] for line in lines] == ["make", "mysql"]
    # The very commands, by those who may; the client here needs no password.
    subprocess.run(["sh", "-ec", lines[0]], check=True, capture_output=True)
    client = lines[1].replace("mysql ", "mariadb --no-defaults --ssl=0 ", 1).replace(" -p ", " ")
    subprocess.run(["sh", "-ec", client], check=True, capture_output=True)
    again = syncbridge("udf", "install", "--url", url, "--copied", "--json")
    assert again.exit_code == 0, again.stdout
    assert json.loads(again.stdout)["servers"][0]["state"] == IN_PLACE


def test_build_says_where_the_library_is_and_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = syncbridge("udf", "build", "--folder", tmp_path / "new", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"library": str(tmp_path / "new" / source.LIBRARY), "version": source.version()}
    assert (tmp_path / "new" / source.LIBRARY).is_file()
    monkeypatch.setenv("CC", "no-such-compiler")
    refused = syncbridge("udf", "build", "--folder", tmp_path / "new")
    assert refused.exit_code == 2
    assert "no-such-compiler is not installed" in refused.stderr
    assert "apt-get install gcc" in refused.stderr
    monkeypatch.setenv("CC", "false")
    assert "does not compile" in syncbridge("udf", "build", "--folder", tmp_path / "new").stderr
