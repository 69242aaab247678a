"""The same packet scripts to Debian's gearmand and to our server: the same answers, but for the differences listed.

A script whose answers differ where none is listed fails; so does one that no longer differs as listed.
"""

from __future__ import annotations

import difflib
import re
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from syncbridge.errors import TransientError
from tests.interop.dialogue import Dialogue
from tests.interop.differences import DIFFERENCES
from tests.interop.packet_scripts import SCRIPTS
from tests.servers import Gearmand
from tests.servers.job_server import JobServerProcess
from tests.servers.process import REPOSITORY, ServerProcess

# One process with a job server for each script: a process for each would take longer than all dialogues.
_PROGRAM = """
import asyncio, signal, sys
sys.path.insert(0, sys.argv[1])
from syncbridge.dispatch.server import JobServer, new_event_loop
from syncbridge.dispatch.store.opening import open_store

servers = []

async def another(reader, writer):
    if await reader.readline():
        servers.append(server := JobServer("127.0.0.1", 0, open_store(f"sqlite:///{len(servers)}.db")))
        await server.start()
        writer.write(b"%d\\n" % server.port)
    writer.close()

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await asyncio.start_server(another, "127.0.0.1", int(sys.argv[2])):
        await stop.wait()
    for server in servers:
        await server.stop()

asyncio.set_event_loop(loop := new_event_loop())
loop.run_until_complete(main())
"""


class JobServers(ServerProcess):
    """Job servers, each with a store of its own, as many as are asked for: a line to its port yields another port."""

    name: ClassVar[str] = "job-servers"

    def command(self) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, str(REPOSITORY), str(self.port)]

    def ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def new_port(self) -> int:
        """Of a job server that nobody has spoken to."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(b"\n")
            with connection.makefile() as answer:
                return int(answer.readline())


@pytest.fixture(scope="module")
def job_servers() -> Iterator[JobServers]:
    with JobServers() as servers:
        yield servers


EXPECTED = {script: lines for difference in DIFFERENCES for script, lines in difference.scripts.items()}


def transcript(port: int, script: str) -> list[str]:
    with Dialogue(port) as dialogue:
        return dialogue.run(script)


def difference(theirs: list[str], ours: list[str]) -> list[str]:
    """`- line` of gearmand's transcript, `+ line` of ours, in order, where they differ."""
    found = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        if tag != "equal":
            found += [f"- {line.strip()}" for line in theirs[a:b]] + [f"+ {line.strip()}" for line in ours[c:d]]
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_same_answers_as_gearmand(name: str, new_gearmand: Callable[..., Gearmand], job_servers: JobServers) -> None:
    ports = new_gearmand().port, job_servers.new_port()
    with ThreadPoolExecutor(2) as pool:
        theirs, ours = pool.map(lambda port: transcript(port, SCRIPTS[name]), ports)
    found = difference(theirs, ours)
    expected = [line.strip() for line in EXPECTED.get(name, "").strip().splitlines()]
    assert found == expected, "\n".join([f"== {name}", *found])


def test_a_handle_beyond_the_limit_is_not_answered_by_gearmand_and_may_close(
    new_gearmand: Callable[..., Gearmand], job_servers: JobServers
) -> None:
    """Whether it closes depends on which of gearmand's threads is faster: no case for a script."""
    script = f"c > GET_STATUS {'l' * 100}"
    assert not [line for line in transcript(new_gearmand().port, script) if "STATUS_RES" in line]
    ours = transcript(job_servers.new_port(), script)
    assert ours[-1].strip() == f"c < STATUS_RES {'l' * 100}|0|0|0|0"


# -- after a kill -9, gearmand with its SQLite queue ------------------------------------------------------------------

BEFORE = "\n".join(
    [
        *(f"c > SUBMIT_JOB_BG f||empty {number}" for number in range(5)),
        *(f"c > SUBMIT_JOB_BG f|-|dash {number}" for number in range(4)),
        "c > SUBMIT_REDUCE_JOB_BACKGROUND r|u|reducer|0|x",
    ]
)
AFTER = """
    c : status
    w > CAN_DO r
    w > GRAB_JOB_ALL
"""


def killed_and_back(server: Gearmand | JobServerProcess, before: str, after: str) -> tuple[list[bytes], list[str]]:
    """(handles given before the kill -9, transcript of the script after the restart)."""
    with Dialogue(server.port) as dialogue:
        dialogue.run(before)
        handles = dialogue.handles
    server.kill9()
    server.start()
    return handles, transcript(server.port, after)


def test_a_crash_takes_nothing_of_ours(new_gearmand: Callable[..., Gearmand]) -> None:
    theirs = killed_and_back(new_gearmand(queue_type="libsqlite3"), BEFORE, AFTER)[1]
    with JobServerProcess() as server:
        handles, ours = killed_and_back(server, BEFORE, AFTER)
        (again,) = killed_and_back(server, "c > SUBMIT_JOB_BG g||x", AFTER)[0]
    assert len(handles) == 10
    assert again not in handles
    assert r"c < 'f\t9\t0\t0\n'" in [line.strip() for line in ours]
    assert r"c < 'f\t9\t0\t0\n'" not in [line.strip() for line in theirs], "gearmand no longer loses jobs"
    assert ours[-1].strip() == "w < JOB_ASSIGN_ALL $1|r|u|reducer|x"
    assert theirs[-1].strip() == "w < JOB_ASSIGN_UNIQ $1|r|u|x", "gearmand keeps reducers"
    print("after a kill -9, of 9 jobs without unique:", *(line.strip() for line in theirs if "'f" in line), "(theirs)")


def test_a_handle_comes_again_with_gearmand_and_not_with_us(new_gearmand: Callable[..., Gearmand]) -> None:
    whole = "c > SUBMIT_JOB_BG f|u|x\nw > CAN_DO f\nw > GRAB_JOB\nw > WORK_COMPLETE $1|r"
    gearmand = new_gearmand(queue_type="libsqlite3")
    theirs = [killed_and_back(gearmand, whole, "")[0][0] for _ in range(2)]
    with JobServerProcess() as server:
        ours = [killed_and_back(server, whole, "")[0][0] for _ in range(2)]
    assert theirs[0] == theirs[1]
    assert ours[0] != ours[1]


def test_an_empty_workload_stops_gearmand_and_not_us(new_gearmand: Callable[..., Gearmand]) -> None:
    empty = "c > SUBMIT_JOB_BG f|u|"
    with pytest.raises(TransientError, match="at start"):
        killed_and_back(new_gearmand(queue_type="libsqlite3"), empty, "")
    with JobServerProcess() as server:
        ours = killed_and_back(server, empty, "w > CAN_DO f\nw > GRAB_JOB_UNIQ")[1]
    assert ours[-1].strip() == "w < JOB_ASSIGN_UNIQ $1|f|u|"


def test_differences_are_of_scripts_and_in_the_documentation() -> None:
    assert set(EXPECTED) <= set(SCRIPTS)
    assert sum(len(difference.scripts) for difference in DIFFERENCES) == len(EXPECTED), "a script listed twice"
    text = (REPOSITORY / "docs" / "protocol.md").read_text()
    table = text.partition("## Where it differs from gearmand")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| ([^|]+?) \|", table, re.M)[2:]
    listed = [difference.gearmand for difference in DIFFERENCES]
    assert set(listed) <= set(documented), set(listed) - set(documented)
    steps = sum(len(script.strip().splitlines()) for script in SCRIPTS.values())
    print(f"{len(SCRIPTS)} scripts, {steps} steps: {len(SCRIPTS) - len(EXPECTED)} answered alike, ", end="")
    print(f"{len(EXPECTED)} differ in {len(listed)} listed ways")
