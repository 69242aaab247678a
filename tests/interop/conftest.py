"""Servers for other people's clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers import MissingServer, ServerProcess
from tests.servers.gearmand import Gearmand
from tests.servers.job_server import JobServerProcess

_SERVERS: dict[str, Callable[[], ServerProcess]] = {"syncbridge": JobServerProcess, "gearmand": Gearmand}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "gearman_server" in metafunc.fixturenames:
        names = list(_SERVERS)
        if metafunc.function.__name__ in getattr(metafunc.cls, "only_ours", ()):
            names.remove("gearmand")
        metafunc.parametrize("gearman_server", names, indirect=True)


@pytest.fixture
def gearman_server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server of its own for every test: ours, and gearmand, which shows that the test itself asks the right thing."""
    try:
        with _SERVERS[request.param]() as server:
            yield server
    except MissingServer as missing:
        pytest.fail(f"{missing}; {missing.hint}", pytrace=False)
