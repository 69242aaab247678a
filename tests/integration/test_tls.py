"""A source that insists on TLS, as sync.yaml names it: the certificate is checked, and a wrong one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.pipeline import Pipeline, wait_same
from tests.servers import Redis, SqlServer
from tests.servers.certificates import make_certificates


def test_the_whole_pipeline_over_tls(new_source: Callable[..., SqlServer], redis_server: Redis, tmp_path: Path) -> None:
    server = new_source(ssl=True, require_secure_transport=True)
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY, v MEDIUMTEXT)")
    server.execute("INSERT INTO shop.orders VALUES (1, 'before')")
    mapping = {"table": "shop.orders", "key": "order:{id}"}
    pipeline = Pipeline(tmp_path, server, redis_server, [mapping])
    pipeline.settings["source"]["ssl_ca"] = str(server.ssl_ca)
    pipeline.write_config()
    with pipeline.running():
        server.execute("INSERT INTO shop.orders VALUES (2, REPEAT('x', 300000)), (3, 'after')")
        assert wait_same(pipeline, "shop.orders", "order:") == 3


def test_a_certificate_that_does_not_fit_is_refused_in_one_sentence(
    new_mariadb: Callable[..., SqlServer], redis_server: Redis, tmp_path: Path
) -> None:
    server = new_mariadb(ssl=True)
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    (tmp_path / "other").mkdir()
    other = make_certificates(tmp_path / "other")
    mapping = {"table": "shop.orders", "key": "order:{id}"}
    pipeline = Pipeline(tmp_path, server, redis_server, [mapping])
    pipeline.settings["source"]["ssl_ca"] = str(other.ca)
    pipeline.write_config()
    pipeline.start()
    assert pipeline.process is not None
    assert pipeline.process.wait(30) == 2
    assert "TLS failed" in pipeline.log()
    assert "Traceback" not in pipeline.log()
