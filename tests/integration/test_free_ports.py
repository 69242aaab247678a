"""Private servers' ports: a server that is down for a moment finds its port free when it comes back."""

from __future__ import annotations

import subprocess
import sys

from tests.servers import free_port

COUNT = 300
GIVEN = f"from tests.servers import free_port; print(*(free_port() for _ in range({COUNT})))"


def test_no_port_is_given_twice_whichever_process_asks() -> None:
    ours = [free_port() for _ in range(COUNT)]
    command = [sys.executable, "-c", GIVEN]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    theirs = [int(port) for other in others for port in other.communicate()[0].split()]
    ports = ours + theirs
    assert len(ports) == 4 * COUNT == len(set(ports))
