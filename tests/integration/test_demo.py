"""`syncbridge demo` as a newcomer runs it: it mirrors, it compares, and it leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from syncbridge.demo.mirror import TABLES, compare, select
from syncbridge.demo.shop import Shop
from tests.servers import MariaDB, Redis, eventually

#: Processes of a demo: MariaDB, Redis, the supervisor, its job server, two workers, capture; and the one that tidies up
#: after a kill -9.
EVERYBODY = 8

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a demo, not on a terminal, whose temporary files go into the empty folder `tmp_path`."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "syncbridge", "demo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path), **environment},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it prints up to the first line with these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"it ended without {words!r}:\n{''.join(lines)}")


def assert_verdict(output: str) -> None:
    """The last line: everything compared, nothing different."""
    verdict = re.fullmatch(r"([\d,]+) changes, ([\d,]+) rows compared, 0 differences", output.splitlines()[-1])
    assert verdict, output
    changes, rows = (int(number.replace(",", "")) for number in verdict.groups())
    assert changes > 50, output
    assert rows > 300, output
    print(verdict[0])


def assert_nothing_left(processes: list[psutil.Process], folder: Path) -> None:
    eventually(
        lambda: not [process for process in processes if process.is_running()],
        timeout=30,
        message=lambda: f"still running: {[process for process in processes if process.is_running()]}",
    )
    eventually(lambda: not list(folder.iterdir()), timeout=30, message=lambda: f"left: {list(folder.iterdir())}")


def test_it_ends_by_itself_with_every_row_compared(start: Start, tmp_path: Path) -> None:
    demo = start("--seconds", "6")
    output = read_until(demo, "rows changed in")
    processes = psutil.Process(demo.pid).children(recursive=True)
    assert len(processes) >= EVERYBODY, processes
    output += demo.communicate(timeout=120)[0]
    assert demo.returncode == 0, output
    assert_verdict(output)
    assert "events applied" in output
    assert output.count("rows/keys: customers ") >= 3
    assert_nothing_left(processes, tmp_path)


def test_ctrl_c_ends_it_like_the_end_of_its_time(start: Start, tmp_path: Path) -> None:
    demo = start()
    read_until(demo, "rows changed in")
    processes = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(signal.SIGINT)
    output = demo.communicate(timeout=120)[0]
    assert demo.returncode == 0, output
    assert_verdict(output)
    assert_nothing_left(processes, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_before_the_shop_is_open(start: Start, tmp_path: Path, number: int) -> None:
    demo = start()
    read_until(demo, "running: syncbridge run")
    processes = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(number)
    output = demo.communicate(timeout=60)[0]
    assert demo.returncode == 130, output
    assert "Traceback" not in output
    assert_nothing_left(processes, tmp_path)


def test_kill_9_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    demo = start()
    read_until(demo, "running: syncbridge run")
    family = psutil.Process(demo.pid)
    eventually(lambda: len(family.children(recursive=True)) >= EVERYBODY, message=lambda: f"only {family.children()}")
    processes = family.children(recursive=True)
    demo.kill()
    assert_nothing_left(processes, tmp_path)


def test_a_missing_server_is_a_sentence(start: Start, tmp_path: Path) -> None:
    demo = start("--seconds", "1", PATH="/nonexistent")
    output = demo.communicate(timeout=60)[0]
    assert demo.returncode == 2, output
    assert re.match(r"syncbridge: MariaDB is missing: there is no [\w-]+ on PATH", output)
    assert "apt-get install --no-install-recommends mariadb-server-core" in output
    assert not list(tmp_path.iterdir())


def test_the_comparison_finds_every_kind_of_difference(
    new_mariadb: Callable[..., MariaDB], new_redis: Callable[..., Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncbridge.demo.shop.MOST_ORDERS", 100)  # old orders are archived on the way
    server = new_mariadb()
    with (
        closing(server.connect()) as writer,
        closing(server.connect(conv={}, use_unicode=False)) as source,
        new_redis().client() as sink,
    ):
        shop = Shop(writer, seed=1)
        shop.open()
        for _ in range(200):
            shop.step()
        assert shop.changes > 200 + 50
        assert len(compare(source, sink).differences) == compare(source, sink).rows > 200

        names: dict[str, str] = {}
        for mirrored in TABLES:
            for row in select(source, mirrored.select()):
                name, value = mirrored.name(row), mirrored.expected(row)
                names[mirrored.table] = name
                if mirrored.type == "hash":
                    sink.hset(name, mapping={"_v": b"guard", **value})
                else:
                    sink.set(name, json.dumps(value) if isinstance(value, dict) else value)
                if mirrored.ttl:
                    sink.expire(name, 3600)
        sink.set("syncbridge:shop:meta", "ours")
        assert compare(source, sink).differences == []

        sink.hset(names["orders"], "total", "0.00")
        sink.hset(names["order_lines"], "stranger", "1")
        sink.persist(names["sessions"])
        sink.delete(names["products"])
        sink.set("stock:none", "7")
        sink.delete(names["customers"])
        sink.hset(names["customers"], "name", "not a string")
        differences = compare(source, sink).differences
        assert len(differences) == 6, differences
        for name in (*names.values(), "stock:none"):
            assert [text for text in differences if text.startswith(f"{name}: ")], name
