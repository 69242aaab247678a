"""docs/migration.md walked through: its triggers, its PHP worker, its sync.yaml files and its commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli import in_process
from tests.servers import Gearmand, Redis, SqlServer, eventually, free_port
from tests.servers.process import REPOSITORY
from tests.servers.udf import install, point_to

PAGE = (REPOSITORY / "docs/migration.md").read_text()
STUB = Path(__file__).parent / "redis_stub.php"


def block(kind: str, name: str) -> str:
    """The fenced block whose first line names it."""
    found: list[str] = re.findall(rf"```{kind}\n([^\n]*?{re.escape(name)}\n.*?)```", PAGE, re.DOTALL)
    assert len(found) == 1, f"{name} is written {len(found)} times"
    return found[0]


class Walk:
    """The reader of the page: the page's addresses stand for those of the test's servers."""

    def __init__(self, folder: Path, sql: SqlServer, redis: Redis, gearmand: Gearmand, stack: ExitStack) -> None:
        self.folder, self.sql, self.redis, self.gearmand, self._stack = folder, sql, redis, gearmand, stack
        self.queue = free_port()
        self.config = folder / "sync.yaml"
        self.log = folder / "log"
        self._addresses = {
            "127.0.0.1:4730": f"127.0.0.1:{gearmand.port}",
            "127.0.0.1:4731": f"127.0.0.1:{self.queue}",
            "127.0.0.1:6379": f"127.0.0.1:{redis.port}",
            "'127.0.0.1', 6379": f"'127.0.0.1', {redis.port}",
            "mysql://sync:${MYSQL_PASSWORD}@127.0.0.1:3306": sql.url(),
            "-p 4730": f"-p {gearmand.port}",
            "-p 4731": f"-p {self.queue}",
            "redis-cli": f"redis-cli -p {redis.port}",
        }

    def here(self, text: str) -> str:
        for address, ours in self._addresses.items():
            text = text.replace(address, ours)
        return text

    def write_config(self, name: str) -> None:
        files = f"state: sqlite:///{self.folder}/state.db\nhttp: {{listen: off}}\n"
        queue = f"queue: {{store: 'sqlite:///{self.folder}/queue.db', "
        self.config.write_text(self.here(block("yaml", name)).replace("queue: {", queue) + files)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A service, ended with the walk at the latest."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self._stack.callback(stop, process)
        return process

    def service(self, stage: str) -> subprocess.Popen[bytes]:
        assert f"syncbridge {stage} --config sync.yaml" in PAGE
        return self.start(sys.executable, "-m", "syncbridge", stage, "--config", str(self.config))

    def command(self, text: str) -> subprocess.CompletedProcess[str]:
        assert f"syncbridge {text} --config sync.yaml" in PAGE or f"`syncbridge {text}`" in PAGE, text
        found = re.findall(r"'[^']*'|[^ ]+", text)
        return in_process(*(word.strip("'") for word in found), "--config", str(self.config))

    def shell(self, text: str) -> str:
        assert text in PAGE
        done = subprocess.run(
            ["sh", "-c", self.here(text)], capture_output=True, text=True, timeout=60, check=False, cwd=self.folder
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def php(self, servers: str) -> subprocess.Popen[bytes]:
        assert f"$worker->addServers('{servers}');" in PAGE
        text = block("php", "worker.php").replace("'127.0.0.1:4730'", f"'{servers}'")
        script = self.folder / "worker.php"
        script.write_text(self.here(text))
        return self.start("php", "-d", f"auto_prepend_file={STUB}", str(script))

    def triggers(self) -> None:
        statements = block("sql", "triggers.sql").partition("\n")[2].split(";\n")
        self.sql.execute(*(statement for statement in statements if statement.strip()))

    def total(self, port: str) -> list[int]:
        """The columns of `syncToRedis` that the page speaks of: waiting and running, then workers."""
        for line in self.shell(f"gearadmin -h 127.0.0.1 -p {port} --status").splitlines():
            if line.startswith("syncToRedis\t"):
                columns = line.split("\t")
                return [int(columns[1]), int(columns[3])]
        return [0, 0]

    def same(self, prefix: str) -> bool:
        """Whether Redis holds the rows under these keys."""
        rows = self.sql.execute("SELECT id, status, total FROM shop.orders")
        wanted = {f"{prefix}{number}": [number, status, float(total)] for number, status, total in rows}
        with self.redis.client() as client:
            found = {}
            for key in client.keys(f"{prefix}*"):
                row = json.loads(client.get(key) or "{}")
                found[key.decode()] = [row.get("id"), row.get("status"), float(row.get("total", 0))]
        assert found == wanted, self.log.read_text()[-3000:]
        return True


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    process.wait(20)


@pytest.fixture
def walk(
    new_mariadb: Callable[..., SqlServer],
    new_gearmand: Callable[..., Gearmand],
    redis_server: Redis,
    udf_library: Path,
    tmp_path: Path,
) -> Iterator[Walk]:
    sql = new_mariadb(plugin_dir=str(udf_library))
    install(sql)
    sql.execute("SELECT gman_option_set('reply_timeout', 10000)", "CREATE DATABASE shop")
    sql.database = "shop"
    sql.execute("CREATE TABLE orders (id INT PRIMARY KEY, status VARCHAR(20), total DECIMAL(10,2))")
    sql.execute("INSERT INTO orders VALUES (1000, 'from before', 1)")
    with ExitStack() as stack:
        yield Walk(tmp_path, sql, redis_server, new_gearmand(), stack)


def change(walk: Walk, first: int) -> None:
    """Some new rows, an update and a delete."""
    rows = ",".join(f"({number}, 'new', {number}.90)" for number in range(first, first + 20))
    walk.sql.execute(f"INSERT INTO orders VALUES {rows}")
    walk.sql.execute(f"UPDATE orders SET status = 'paid' WHERE id < {first + 9}")
    walk.sql.execute(f"DELETE FROM orders WHERE id = {first + 3}")


def test_every_step_leaves_a_working_system(walk: Walk) -> None:
    sql = walk.sql
    # Where you are
    walk.triggers()
    point_to(sql, walk.gearmand.port)
    sql.execute("DELETE FROM orders")
    php = walk.php("127.0.0.1:4730")
    change(walk, 0)
    eventually(lambda: walk.same("order:"), timeout=20)

    # Step 1
    walk.write_config("sync.yaml")
    checked = walk.command("check")
    assert "0 errors" in checked.stdout, checked.stdout
    walk.service("server")
    eventually(lambda: walk.total("4731") == [0, 0], timeout=20)
    stop(php)
    change(walk, 100)  # nobody takes them now: they wait in gearmand
    php = walk.php("127.0.0.1:4730,127.0.0.1:4731")
    assert "SELECT gman_servers_set('127.0.0.1:4731');" in PAGE
    point_to(sql, walk.queue)
    change(walk, 200)
    eventually(lambda: walk.same("order:"), timeout=20)
    eventually(lambda: walk.total("4730")[0] == 0 and walk.total("4731") == [0, 1], timeout=20)
    walk.gearmand.stop()
    stop(php)
    php = walk.start("php", "-d", f"auto_prepend_file={STUB}", _only_ours(walk))
    change(walk, 300)
    eventually(lambda: walk.same("order:"), timeout=20)

    # Step 2: it was ours from the beginning, since no other is packaged; tests/integration/test_udf.py has it
    stats = json.loads(sql.value("SELECT CONVERT(gman_stats() USING utf8mb4)"))
    assert stats["failures"] == 0

    # Step 3
    worker = walk.service("worker")
    eventually(lambda: walk.total("4731") == [0, 2], timeout=20)
    change(walk, 400)
    stop(php)
    change(walk, 500)
    eventually(lambda: walk.same("order:"), timeout=20)
    assert "syncToRedis" in walk.command("status").stdout
    sql.execute("REPLACE INTO orders VALUES (1, 'paid', 9.90)")
    told = """explain function:syncToRedis --object '{"id": 1, "status": "paid", "total": 9.90}'"""
    eventually(lambda: walk.command(told).returncode == 0, timeout=20)

    # Step 4
    walk.write_config("sync.yaml, with the table")
    assert "syncbridge triggers install" in walk.command("check").stdout
    assert "3 triggers made" in walk.command("triggers install").stdout
    assert "0 errors" in walk.command("check").stdout
    stop(worker)
    worker = walk.service("worker")
    capture = walk.service("capture")
    change(walk, 600)
    eventually(lambda: walk.same("shop:order:") and walk.same("order:"), timeout=30)
    assert ": 0 differences" in walk.command("verify").stdout
    drops = re.search(r"`((?:DROP TRIGGER \w+; ?)+)`", PAGE)
    assert drops is not None
    sql.execute(*(statement for statement in drops[1].split(";") if statement.strip()))
    settings = walk.config.read_text()
    walk.config.write_text(re.sub(r"  - function: .*?(?=  - table)", "", settings, flags=re.DOTALL))
    stop(worker)
    worker = walk.service("worker")
    walk.shell("redis-cli --scan --pattern 'order:*' | xargs -r redis-cli del")
    change(walk, 700)
    eventually(lambda: walk.same("shop:order:"), timeout=30)
    with walk.redis.client() as client:
        assert client.keys("order:*") == []

    # And back
    stop(capture)
    walk.triggers()
    walk.write_config("sync.yaml")
    stop(worker)
    walk.service("worker")
    assert "`UPDATE orders SET id = id`" in PAGE
    sql.execute("UPDATE orders SET id = id")
    eventually(lambda: walk.same("order:"), timeout=20)


def _only_ours(walk: Walk) -> str:
    """The PHP worker without gearmand's address."""
    script = walk.folder / "worker.php"
    script.write_text(script.read_text().replace(f"127.0.0.1:{walk.gearmand.port},", ""))
    return str(script)
