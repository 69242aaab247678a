"""Private servers' ports: a server that is down for a moment finds its port free when it comes back."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from subprocess import PIPE

from tests.servers import free_port

COUNT = 300
#: A process's ports are its own until it ends.
GIVEN = f"from tests.servers import free_port; print(*(free_port() for _ in range({COUNT})), flush=True); input()"


def test_no_port_is_given_twice_whichever_process_asks() -> None:
    ports = [free_port() for _ in range(COUNT)]
    with ExitStack() as others:
        for _ in range(3):
            other = others.enter_context(
                subprocess.Popen([sys.executable, "-c", GIVEN], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
            )
            others.callback(other.kill)
            assert other.stdout is not None
            ports += map(int, other.stdout.readline().split())
    assert len(ports) == 4 * COUNT == len(set(ports))
