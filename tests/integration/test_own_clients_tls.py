"""Capture's submitter and the sink's worker client over TLS and a Unix socket, and a pipeline that needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncbridge.config import TlsConfig
from syncbridge.dispatch.listeners import client_context
from syncbridge.dispatch.submitter import GearmanLanes
from syncbridge.dispatch.target import Target
from syncbridge.dispatch.worker_client import LaneWorker
from syncbridge.errors import TransientError
from tests.integration.test_job_server_clients import drain, poll_until
from tests.integration.test_listeners import TlsService
from tests.pipeline import Pipeline, wait_same
from tests.servers import Redis, SqlServer
from tests.servers.certificates import Certificates, make_certificates

LANES, JOBS = 4, 3000


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def service(certificates: Certificates) -> Iterator[TlsService]:
    with TlsService(certificates, "--tls-ca", certificates.ca) as server:
        yield server


@pytest.fixture(params=["tls", "unix"])
def target(request: pytest.FixtureRequest, service: TlsService, certificates: Certificates) -> Target:
    if request.param == "unix":
        return Target("", 0, str(service.folder / "ready.sock"))
    settings = TlsConfig(cert=certificates.cert, key=certificates.key, client_ca=certificates.ca)
    return Target("127.0.0.1", service.port, tls=client_context(settings))


async def test_jobs_go_in_and_out(target: Target) -> None:
    lanes = GearmanLanes("shop", [Target("127.0.0.1", 1), target])  # the first one is not there
    assert len(lanes.connect()) == 32
    workloads = [b"%d " % n + b"x" * (n % 40_000) for n in range(JOBS)]

    def submit() -> None:
        for number, workload in enumerate(workloads):
            lanes.submit(number % LANES, workload)
        poll_until(lanes, lambda: lanes.accepted == JOBS)

    await asyncio.to_thread(submit)
    assert lanes.pending() == JOBS
    worker = LaneWorker("shop", LANES, [target])
    await worker.connect()
    found = await drain(worker, JOBS)
    for lane in range(LANES):
        assert [job.workload for job in found if job.lane == lane] == workloads[lane::LANES]
    await worker.close()
    lanes.close()


async def test_a_server_that_cannot_prove_itself_is_not_talked_to(service: TlsService, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    settings = TlsConfig(cert=other.cert, key=other.key, client_ca=other.ca)
    strange = Target("127.0.0.1", service.port, tls=client_context(settings))
    with pytest.raises(TransientError, match="certificate verify failed"):
        GearmanLanes("shop", [strange]).connect()
    with pytest.raises(TransientError, match="certificate verify failed"):
        await LaneWorker("shop", LANES, [strange]).connect()


def test_a_pipeline_whose_queue_speaks_tls_only(
    new_mariadb: Callable[..., SqlServer], redis_server: Redis, tmp_path: Path, certificates: Certificates
) -> None:
    server = new_mariadb()
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    server.execute("INSERT INTO shop.orders VALUES (1)")
    tls = {"cert": str(certificates.cert), "key": str(certificates.key), "client_ca": str(certificates.ca)}
    pipeline = Pipeline(
        tmp_path, server, redis_server, [{"table": "shop.orders", "key": "order:{id}"}], queue={"tls": tls}
    )
    with pipeline.running():
        server.execute("INSERT INTO shop.orders VALUES (2), (3)")
        assert wait_same(pipeline, "shop.orders", "order:") == 3
        private = tmp_path / "queue-shop.sock"
        assert private.is_socket()
        assert private.stat().st_mode & 0o777 == 0o600
        status = pipeline.command("status", "--json")
        assert status.returncode == 0, status.stderr
        assert '"job server"' not in status.stdout  # it is reachable
        assert "0 errors" in pipeline.command("check").stdout
    assert not private.exists()
