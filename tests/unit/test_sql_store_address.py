"""The URL of a queue in an SQL database."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncbridge.dispatch.store.sql.address import Address
from syncbridge.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "backend", "host", "port"),
    [
        ("mysql://me:pw@db/queue", "mysql", "db", 3306),
        ("mariadb://me:pw@db:3307/queue", "mysql", "db", 3307),
        ("postgresql://me:pw@db/queue", "postgresql", "db", 5432),
        ("postgres://me:pw@[::1]:5433/queue", "postgresql", "::1", 5433),
    ],
)
def test_parts(url: str, backend: str, host: str, port: int) -> None:
    address = Address.parse(url)
    assert (address.backend, address.host, address.port) == (backend, host, port)
    assert (address.user, address.password, address.database) == ("me", "pw", "queue")
    assert not address.tls
    assert address.timeout == 5.0


def test_options(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    address = Address.parse(
        f"mysql://a:p%40ss@h/d?ssl_ca={tmp_path}/ca&ssl_cert={tmp_path}/cert&ssl_key={tmp_path}/key&timeout=2.5&socket=/s"
    )
    assert address.password == "p@ss"
    assert address.tls
    assert (address.ssl_ca, address.ssl_cert, address.ssl_key) == tuple(
        f"{tmp_path}/{n}" for n in ("ca", "cert", "key")
    )
    assert (address.timeout, address.socket) == (2.5, "/s")
    assert Address.parse("postgresql://h/d?ssl_verify=false").tls
    assert not Address.parse("postgresql://h/d?ssl_verify=yes").tls
    assert not Address.parse("postgresql://h/d?ssl=off").ssl


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "no database URL"),
        ("mysql://u:s3cret@h:port/d", "no database URL"),
        ("oracle://u:s3cret@h/d", "'oracle' is no database"),
        ("mysql://u:s3cret@h", "names no database"),
        ("mysql://u:s3cret@h/", "names no database"),
        ("mysql://u:s3cret@h/d?charset=utf8", "unknown option 'charset'"),
        ("mysql://u:s3cret@h/d?timeout=1&timeout=2", "unknown option 'timeout'"),
        ("mysql://u:s3cret@h/d?timeout=soon", "timeout=soon is no time"),
        ("mysql://u:s3cret@h/d?timeout=0", "timeout=0 is no time"),
        ("mysql://u:s3cret@h/d?ssl_ca=/no/such/file", "is no file"),
        ("mysql://u:s3cret@h/d?ssl_verify=perhaps", "neither true nor false"),
        ("mysql://u:s3cret@h/d?ssl=false&ssl_verify=false", "another option wants TLS"),
    ],
)
def test_what_makes_no_sense_is_refused_without_the_password(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Address.parse(url)
    assert caught.value.hint
    assert "s3cret" not in str(caught.value) + caught.value.hint


def test_the_password_is_never_printed() -> None:
    address = Address.parse("mysql://me:s3cret@db:3306/queue")
    assert "s3cret" not in f"{address} {address!r}"
    assert str(address) == "mysql://db:3306/queue"
