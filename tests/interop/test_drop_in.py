"""All clients together on one server of ours: everybody works for everybody, and kill -9 loses no job of anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.peers import LIMIT, Library, Peers, status
from tests.interop.test_abraxas import ABRAXAS
from tests.interop.test_aiogear import AIOGEAR
from tests.interop.test_gearman_tools import TOOLS
from tests.interop.test_gearmanode import GEARMANODE
from tests.interop.test_node_gearman import NODE_GEARMAN
from tests.interop.test_perl import PERL
from tests.interop.test_php import PHP
from tests.interop.test_pygearman import PYGEARMAN
from tests.interop.test_python3_gearman import PYTHON3_GEARMAN
from tests.servers import eventually
from tests.servers.service import Service

#: Each works for the one before it, the first for the last.
RING = (TOOLS, PHP, PYTHON3_GEARMAN, PERL, ABRAXAS, PYGEARMAN, GEARMANODE, AIOGEAR, NODE_GEARMAN)


@pytest.fixture
def server() -> Iterator[Service]:
    with Service() as started:
        yield started


@pytest.fixture
def new_peers(server: Service, tmp_path: Path) -> Iterator[Callable[[Library], Peers]]:
    with ExitStack() as stack:

        def new(library: Library) -> Peers:
            library.check()
            folder = tmp_path / library.name.replace(":", "")
            folder.mkdir()
            peers = Peers(library, server.port, folder)
            stack.callback(peers.end)
            return peers

        yield new


def test_everybody_works_for_everybody(new_peers: Callable[[Library], Peers]) -> None:
    ring = [new_peers(library) for library in RING]
    clients = []
    for number, peers in enumerate(ring):
        text = f"{peers.library.name} asks".encode()
        clients.append((peers, peers.start_foreground("reverse", text), text[::-1].decode()))
        ring[(number + 1) % len(ring)].worker("reverse", of=peers)
    for peers, client, answer in clients:
        assert client.ended() == [answer], peers.library.name


def test_nobody_loses_a_job_when_the_server_is_killed(server: Service, new_peers: Callable[[Library], Peers]) -> None:
    ring = [new_peers(library) for library in RING]
    for peers in ring:
        for priority in ("low", "normal", "high"):
            peers.background("note", f"{priority} of {peers.library.name}", priority)
    server.kill9()
    server.start()
    assert sum(total for total, _, _ in status(server.port).values()) == 3 * len(RING)
    for number, peers in enumerate(ring):
        worker = ring[(number + 1) % len(ring)].worker("note", of=peers)
        end = "\0" if peers.library is NODE_GEARMAN else ""  # which it puts behind each background workload
        worker.printed(*(f"{priority} of {peers.library.name}{end}" for priority in ("high", "normal", "low")))
    eventually(lambda: {total for total, _, _ in status(server.port).values()} == {0}, LIMIT)
