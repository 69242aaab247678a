"""The same packet scripts to Debian's gearmand and to our server: the same answers, but for the differences listed.

A script whose answers differ where none is listed fails; so does one that no longer differs as listed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.interop.dialogue import Dialogue
from tests.interop.differences import DIFFERENCES
from tests.interop.packet_scripts import SCRIPTS
from tests.servers import Gearmand
from tests.servers.job_server import JobServerProcess
from tests.servers.process import REPOSITORY

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
def test_same_answers_as_gearmand(name: str, new_gearmand: Callable[..., Gearmand]) -> None:
    gearmand = new_gearmand()
    with JobServerProcess() as server, ThreadPoolExecutor(2) as pool:
        theirs, ours = pool.map(lambda port: transcript(port, SCRIPTS[name]), (gearmand.port, server.port))
    found = difference(theirs, ours)
    expected = [line.strip() for line in EXPECTED.get(name, "").strip().splitlines()]
    assert found == expected, "\n".join([f"== {name}", *found])


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
