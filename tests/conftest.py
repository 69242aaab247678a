"""Fixtures with real servers.

`mariadb`, `mysql`, `postgresql`, `redis_server`  shared by the session; every test gets a fresh database
                                    (server.database) or an emptied Redis. Do not change global settings of these, and
                                    do not kill them.
`new_mariadb`, `new_mysql`, `new_postgresql`, `new_redis`  factories of private servers:
                                    new_mariadb(binlog_row_metadata="FULL").
`new_gearmand`                      the same for Debian's gearmand: new_gearmand(queue_type="libsqlite3").
`source`                            runs the test twice: on the shared MariaDB and on the shared MySQL.
`new_source`                        the same for private servers: new_source(binlog_checksum="NONE").
`capturing`                         runs the test once for each way of capturing, see tests/capturing.py. Start the
                                    source with capturing.options.
`native_or_not`                     runs the test (a whole module's, for it is set up once) twice: in Python alone, and
                                    with the optional native package. Other tests do without it.
`one_way_each`                      with the native package on MySQL, without on MariaDB: both ways in the time of one.
`udf_library`                       a plugin folder with the UDF library: new_source(plugin_dir=str(udf_library)).

A missing server fails the test with a sentence; it never skips.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from tests import native
from tests.capturing import BINLOG, OUTBOX, UDF, Capturing
from tests.servers import (
    Gearmand,
    MariaDB,
    Memcached,
    MissingServer,
    MySQL,
    PostgreSQL,
    Redis,
    ServerProcess,
    SqlServer,
    udf,
)
from tests.servers import postgresql as postgresql_server
from tests.servers.process import remove_leftovers
from tests.servers.sql import drop_databases, fresh_database

S = TypeVar("S", bound=ServerProcess)
_numbers = itertools.count(1)


def pytest_sessionstart() -> None:
    native.leave_alone()
    remove_leftovers()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests counted: kills, rows compared, inputs tried. They print it; this shows it where they passed."""
    for report in terminalreporter.getreports("passed"):
        if report.when == "call" and report.capstdout:
            terminalreporter.write_line(f"{report.nodeid.rpartition('/')[2]}: {report.capstdout.strip()}")


def _shared(kind: type[S]) -> Iterator[S]:
    try:
        server = kind().start()
    except MissingServer as missing:
        pytest.fail(f"{missing}; {missing.hint}", pytrace=False)
    yield server
    server.destroy()


def _with_database(server: SqlServer) -> Iterator[SqlServer]:
    fresh_database(server, f"t{next(_numbers)}")
    yield server
    drop_databases(server)


def _factory(kind: type[S]) -> Iterator[Callable[..., S]]:
    with ExitStack() as stack:

        def new(**options: object) -> S:
            """A started server of its own; it ends with the test."""
            try:
                server = kind(**options)
                stack.enter_context(server)
                return server
            except MissingServer as missing:
                pytest.fail(f"{missing}; {missing.hint}", pytrace=False)

        yield new


@pytest.fixture(scope="session")
def _shared_mariadb() -> Iterator[MariaDB]:
    yield from _shared(MariaDB)


@pytest.fixture(scope="session")
def _shared_mysql() -> Iterator[MySQL]:
    yield from _shared(MySQL)


@pytest.fixture(scope="session")
def _shared_postgresql() -> Iterator[PostgreSQL]:
    yield from _shared(PostgreSQL)


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[Redis]:
    yield from _shared(Redis)


@pytest.fixture
def mariadb(_shared_mariadb: MariaDB) -> Iterator[SqlServer]:
    yield from _with_database(_shared_mariadb)


@pytest.fixture
def mysql(_shared_mysql: MySQL) -> Iterator[SqlServer]:
    yield from _with_database(_shared_mysql)


@pytest.fixture
def postgresql(_shared_postgresql: PostgreSQL) -> Iterator[PostgreSQL]:
    postgresql_server.fresh_database(_shared_postgresql, f"t{next(_numbers)}")
    yield _shared_postgresql
    postgresql_server.drop_databases(_shared_postgresql)


@pytest.fixture
def redis_server(_shared_redis: Redis) -> Redis:
    with _shared_redis.client() as client:
        client.flushall()
    return _shared_redis


@pytest.fixture
def new_mariadb() -> Iterator[Callable[..., MariaDB]]:
    yield from _factory(MariaDB)


@pytest.fixture
def new_mysql() -> Iterator[Callable[..., MySQL]]:
    yield from _factory(MySQL)


@pytest.fixture
def new_postgresql() -> Iterator[Callable[..., PostgreSQL]]:
    yield from _factory(PostgreSQL)


@pytest.fixture
def new_redis() -> Iterator[Callable[..., Redis]]:
    yield from _factory(Redis)


@pytest.fixture
def new_memcached() -> Iterator[Callable[..., Memcached]]:
    yield from _factory(Memcached)


@pytest.fixture
def new_gearmand() -> Iterator[Callable[..., Gearmand]]:
    yield from _factory(Gearmand)


@pytest.fixture(params=["mariadb", "mysql"])
def source(request: pytest.FixtureRequest) -> SqlServer:
    server: SqlServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture(params=["mariadb", "mysql"])
def new_source(request: pytest.FixtureRequest) -> Callable[..., SqlServer]:
    factory: Callable[..., SqlServer] = request.getfixturevalue(f"new_{request.param}")
    return factory


@pytest.fixture(scope="session")
def udf_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin folder with the UDF library, for the option plugin_dir."""
    return udf.build(tmp_path_factory.mktemp("plugins"))


@pytest.fixture(params=[BINLOG, OUTBOX, UDF], ids=lambda way: way.name)
def capturing(request: pytest.FixtureRequest) -> Capturing:
    way: Capturing = request.param
    if way is UDF:
        return replace(way, options={"plugin_dir": str(request.getfixturevalue("udf_library"))})
    return way


@pytest.fixture(scope="module", params=[False, True], ids=["python", "native"])
def native_or_not(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from native.in_use(request.param)


@pytest.fixture
def one_way_each(request: pytest.FixtureRequest) -> Iterator[None]:
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    yield from native.in_use("mysql" in parameters.values())
