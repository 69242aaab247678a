"""Servers for other people's clients: ours as its users start it, and Debian's gearmand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Gearmand, MissingServer, ServerProcess
from tests.servers.service import Service

pytest.register_assert_rewrite("tests.interop.features")

SERVERS: dict[str, type[ServerProcess]] = {"syncbridge": Service, "gearmand": Gearmand}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of a client runs against both, but for those that gearmand is known not to pass."""
    if "gearman_server" in metafunc.fixturenames:
        names = list(SERVERS)
        if metafunc.function.__name__ in getattr(metafunc.cls, "only_ours", ()):
            names.remove("gearmand")
        metafunc.parametrize("gearman_server", names, indirect=True)


@pytest.fixture(scope="session")
def _servers() -> Iterator[dict[str, ServerProcess]]:
    """Those started so far."""
    started: dict[str, ServerProcess] = {}
    yield started
    for server in started.values():
        server.destroy()


@pytest.fixture
def gearman_server(request: pytest.FixtureRequest, _servers: dict[str, ServerProcess]) -> ServerProcess:
    """Ours, and gearmand, which shows that the test itself asks the right thing. Shared: do not stop it."""
    if request.param not in _servers:
        try:
            _servers[request.param] = SERVERS[request.param]().start()
        except MissingServer as missing:
            pytest.fail(f"{missing}; {missing.hint}", pytrace=False)
    return _servers[request.param]
