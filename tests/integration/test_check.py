"""`check` on real servers: a healthy set-up has no error, and each fault is named with what mends it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncbridge.commands import check, triggers
from syncbridge.commands.checks.finding import ERROR, Finding
from syncbridge.config import Address, Config, Url, parse_config
from syncbridge.config.model import TriggerConfig
from tests.servers import MariaDB, MySQL, Redis, SqlServer, free_port
from tests.servers.udf import install as install_library

Codes = dict[str, Finding]


def config_for(source: SqlServer, sink: Redis, folder: Path, mappings: str, extra: str = "", url: str = "") -> Config:
    return parse_config(
        f"""
source: {{url: "{url or source.url()}"}}
sink: {{url: "{sink.url()}"}}
queue: {{store: "sqlite:///{folder}/queue.db", listen: "127.0.0.1:{free_port()}"}}
http: {{listen: "127.0.0.1:{free_port()}"}}
state: sqlite:///{folder}/state.db
mappings: {mappings}
{extra}
""",
        {},
    )


def errors(findings: list[Finding]) -> Codes:
    """The errors by code; every one of them names a mend."""
    assert all(finding.mend for finding in findings if finding.severity != "ok")
    return {finding.code: finding for finding in findings if finding.severity == ERROR}


def codes(findings: list[Finding], severity: str) -> set[str]:
    return {finding.code for finding in findings if finding.severity == severity}


def mapping(table: str, **options: Any) -> str:
    return "{" + ", ".join(f"{name}: {value!r}" for name, value in {"table": table, **options}.items()) + "}"


def test_a_healthy_pipeline_has_no_error(source: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    source.execute("CREATE TABLE orders (id INT PRIMARY KEY, status VARCHAR(20) NOT NULL)")
    config = config_for(
        source, redis_server, tmp_path, f"[{mapping(f'{source.database}.orders', key='order:{id}', where='id > 1')}]"
    )
    found = check.collect(config)
    assert errors(found) == {}
    assert "binlog-row-metadata" in codes(found, "warning")  # the servers' default is less than FULL
    assert {"server", "log-bin", "binlog-format", "server-id-clash", "table", "sink", "scripts", "state"} <= codes(
        found, "ok"
    )
    assert not (tmp_path / "state.db").exists()  # check changes nothing


def test_settings_that_capture_cannot_live_with(
    new_source: Callable[..., SqlServer], redis_server: Redis, tmp_path: Path
) -> None:
    server = new_source(
        binlog_format="STATEMENT", binlog_row_image="MINIMAL", sync_binlog=0, binlog_expire_logs_seconds=3600
    )
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    found = check.collect(config_for(server, redis_server, tmp_path, "[{table: shop.orders}]"))
    assert {"binlog-format", "binlog-row-image"} == set(errors(found))
    assert {"sync-binlog", "binlog-retention"} <= codes(found, "warning")
    # The mends are statements that work.
    for code in ("binlog-format", "binlog-row-image"):
        server.execute(errors(found)[code].mend.partition(";")[0])
    assert errors(check.collect(config_for(server, redis_server, tmp_path, "[{table: shop.orders}]"))) == {}


def test_mysql_settings(new_mysql: Callable[..., MySQL], redis_server: Redis, tmp_path: Path) -> None:
    server = new_mysql(binlog_row_value_options="PARTIAL_JSON", binlog_order_commits=False, gtid=False)
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    found = check.collect(config_for(server, redis_server, tmp_path, "[{table: shop.orders}]"))
    assert {"binlog-row-value-options", "binlog-order-commits"} == set(errors(found))
    assert "gtid" in codes(found, "warning")


def test_no_binlog_filters_and_read_only(
    new_mariadb: Callable[..., MariaDB], redis_server: Redis, tmp_path: Path
) -> None:
    without = new_mariadb(log_bin=None)
    without.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    assert "log-bin" in errors(check.collect(config_for(without, redis_server, tmp_path, "[{table: shop.orders}]")))
    filtered = new_mariadb(binlog_do_db="crm", read_only=True)
    filtered.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    found = check.collect(config_for(filtered, redis_server, tmp_path, "[{table: shop.orders}]"))
    assert "binlog-filter" in errors(found)
    (read_only,) = (one for one in found if one.code == "read-only")
    assert read_only.severity == "warning"
    assert "write_url" in read_only.mend


def test_our_server_id_is_the_sources_own(source: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    source.execute("CREATE TABLE orders (id INT PRIMARY KEY)")
    config = config_for(source, redis_server, tmp_path, f"[{mapping(f'{source.database}.orders')}]")
    taken = config.model_copy(
        update={"source": config.source.model_copy(update={"server_id": source.value("SELECT @@server_id")})}
    )
    assert "server-id-clash" in errors(check.collect(taken))


def test_missing_privileges_and_their_mends(source: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    source.execute("CREATE TABLE orders (id INT PRIMARY KEY)", "DROP USER IF EXISTS limited@'127.0.0.1'")
    source.create_user("limited", "pw", f"SELECT ON {source.database}.*")
    mappings = f"[{mapping(f'{source.database}.orders')}]"
    config = config_for(source, redis_server, tmp_path, mappings, url=source.url("limited", "pw"))
    try:
        found = errors(check.collect(config))
        assert set(found) == {"replication-slave", "replication-client"}
        (unwritable,) = (one for one in check.collect(config) if one.code == "write-privileges")
        assert unwritable.severity == "warning"
        source.execute(unwritable.mend, *(finding.mend for finding in found.values()))
        assert not [one for one in check.collect(config) if one.code == "write-privileges" and one.severity != "ok"]
        assert errors(check.collect(config)) == {}
        source.execute(f"REVOKE SELECT ON {source.database}.* FROM limited@'127.0.0.1'")
        assert "table-missing" in errors(check.collect(config))
    finally:
        source.execute("DROP USER limited@'127.0.0.1'")


def test_privileges_may_come_through_a_role(source: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    source.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY)",
        "CREATE ROLE mirror",
        "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO mirror",
        "GRANT CREATE, SELECT, INSERT, UPDATE ON syncbridge.* TO mirror",
        "CREATE USER roled@'127.0.0.1' IDENTIFIED BY 'pw'",
        "GRANT mirror TO roled@'127.0.0.1'",
        "SET DEFAULT ROLE mirror FOR roled@'127.0.0.1'"
        if source.flavor == "mariadb"
        else "SET DEFAULT ROLE mirror TO roled@'127.0.0.1'",
    )
    config = config_for(
        source, redis_server, tmp_path, f"[{mapping(f'{source.database}.orders')}]", url=source.url("roled", "pw")
    )
    try:
        assert errors(check.collect(config)) == {}
    finally:
        source.execute("DROP USER roled@'127.0.0.1'", "DROP ROLE mirror")


def test_tables_that_cannot_be_mirrored(source: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    db = source.database
    source.execute(
        "CREATE TABLE no_key (a INT)",
        "CREATE TABLE by_unique (a INT NOT NULL UNIQUE, b INT)",
        "CREATE TABLE old (id INT PRIMARY KEY) ENGINE=MyISAM",
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE child (id INT PRIMARY KEY, parent_id INT, CONSTRAINT to_parent FOREIGN KEY (parent_id)"
        " REFERENCES parent (id) ON DELETE CASCADE)",
        "CREATE VIEW seen AS SELECT 1 AS id",
    )
    tables = ", ".join(mapping(f"{db}.{name}") for name in ("no_key", "old", "child", "seen", "nowhere"))
    tables += ", " + mapping(f"{db}.by_unique", unique=["a"], key="u:{a}")
    found = check.collect(config_for(source, redis_server, tmp_path, f"[{tables}]"))
    expected = {"no-primary-key", "engine", "not-a-table", "table-missing"}
    if source.flavor == "mariadb":  # MySQL logs what a cascade changes since 9.6
        expected.add("cascade")
    assert set(errors(found)) == expected
    source.execute(errors(found)["engine"].mend)
    source.execute(errors(found)["no-primary-key"].mend.partition(";")[0])
    if source.flavor == "mariadb":
        source.execute(errors(found)["cascade"].mend.partition(";")[0])
    found = check.collect(config_for(source, redis_server, tmp_path, f"[{tables}]"))
    assert set(errors(found)) == {"not-a-table", "table-missing"}


def test_mappings_that_do_not_fit_their_table(source: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    db = source.database
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, email VARCHAR(100) NOT NULL UNIQUE, city VARCHAR(20), _x INT)",
        "CREATE TABLE n (a INT UNIQUE, b INT NOT NULL)",
    )

    def errors_of(table: str, **options: Any) -> Codes:
        return errors(
            check.collect(config_for(source, redis_server, tmp_path, f"[{mapping(f'{db}.{table}', **options)}]"))
        )

    hide = {"columns": {"exclude": ["_x"]}}
    assert errors_of("t", key="e:{email}", **hide) == {}
    assert set(errors_of("t", key="c:{city}", **hide)) == {"key-not-unique"}
    assert set(errors_of("t", key="c:{city}:{id}", **hide)) == set()
    assert set(errors_of("t", key="c:{email}{id}", **hide)) == {"key-ambiguous"}
    assert "no column nope" in errors_of("t", key="c:{nope}", **hide)["mapping"].sentence
    assert "no column nope" in errors_of("t", where="nope > 1", **hide)["mapping"].sentence
    assert "no column nope" in errors_of("t", columns={"include": ["nope"]})["mapping"].sentence
    assert "_x" in errors_of("t")["mapping"].sentence
    assert set(errors_of("t", ttl="{city}", **hide)) == {"ttl"}
    assert "may be NULL" in errors_of("n", unique=["a"])["unique"].sentence
    assert "is not unique" in errors_of("n", unique=["b"])["unique"].sentence


def test_wildcards_that_meet(source: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    mappings = f"[{mapping(f'{source.database}.*')}, {mapping(f'{source.database}.t', key='t:{id}')}]"
    assert set(errors(check.collect(config_for(source, redis_server, tmp_path, mappings)))) == {"same-keys"}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"maxmemory": "100mb", "maxmemory_policy": "allkeys-lru"}, "eviction"),
        ({"maxmemory": "100mb", "maxmemory_policy": "volatile-ttl"}, "eviction"),
        ({"cluster_enabled": True}, "sink-cluster"),
        ({"replicaof": "127.0.0.1 1"}, "sink-role"),
    ],
)
def test_a_redis_that_would_break_the_mirror(
    new_redis: Callable[..., Redis], mariadb: SqlServer, tmp_path: Path, options: dict[str, Any], code: str
) -> None:
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    if "cluster_enabled" in options:  # by itself it takes a port that outgoing connections have, too
        options |= {"cluster_port": free_port()}
    sink = new_redis(**options)
    found = check.collect(config_for(mariadb, sink, tmp_path, f"[{mapping(f'{mariadb.database}.t')}]"))
    assert set(errors(found)) == {code}


def test_redis_persistence(new_redis: Callable[..., Redis], mariadb: SqlServer, tmp_path: Path) -> None:
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    for options, severity in (({}, "warning"), ({"appendonly": True}, "ok"), ({"save": "60 1"}, "ok")):
        sink = new_redis(**options)
        found = check.collect(config_for(mariadb, sink, tmp_path, f"[{mapping(f'{mariadb.database}.t')}]"))
        assert "persistence" in codes(found, severity)


def test_a_user_without_scripts(new_redis: Callable[..., Redis], mariadb: SqlServer, tmp_path: Path) -> None:
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    sink = new_redis()
    with sink.client() as client:
        client.execute_command("ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-@scripting")
    config = config_for(mariadb, sink, tmp_path, f"[{mapping(f'{mariadb.database}.t')}]")
    url = Url.parse(sink.url(user="weak", password="pw"))
    weak = config.model_copy(update={"sink": config.sink.model_copy(update={"url": url})})
    assert set(errors(check.collect(weak))) == {"scripts"}


def test_paths_and_ports_of_this_host(mariadb: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    config = config_for(mariadb, redis_server, tmp_path, f"[{mapping(f'{mariadb.database}.t')}]")
    queue = config.queue.model_copy(
        update={"store": f"sqlite:///{tmp_path}", "listen": (Address("127.0.0.1", mariadb.port),)}
    )
    http = config.http.model_copy(update={"listen": Address("0.0.0.0", free_port())})
    broken = config.model_copy(update={"state": "sqlite:////proc/nowhere/s.db", "queue": queue, "http": http})
    found = check.collect(broken)
    assert {"queue-store", "queue-listen"} <= set(errors(found))
    assert "http-listen" in codes(found, "warning")


def test_what_triggers_do_not_tell_of(source: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    """No trigger fires for rows that a foreign key changes, on no server, whatever its binlog holds."""
    source.execute(
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE child (id INT PRIMARY KEY, parent_id INT, FOREIGN KEY (parent_id) REFERENCES parent (id)"
        " ON DELETE CASCADE)",
        "CREATE VIEW seen AS SELECT 1 AS id",
        "INSERT INTO parent VALUES (1)",
        "INSERT INTO child VALUES (1, 1)",
        "CREATE TABLE told (id INT)",
        "CREATE TRIGGER theirs AFTER DELETE ON child FOR EACH ROW INSERT INTO told VALUES (OLD.id)",
        "DELETE FROM parent",
    )
    assert source.value("SELECT COUNT(*) FROM child") == source.value("SELECT COUNT(*) FROM told") == 0
    tables = ", ".join(mapping(f"{source.database}.{name}") for name in ("child", "seen"))
    config = config_for(source, redis_server, tmp_path, f"[{tables}]")
    config = config.model_copy(update={"source": config.source.model_copy(update={"capture": "trigger"})})
    found = errors(check.collect(config))
    assert {"cascade", "not-a-table"} <= set(found)
    for code in ("cascade", "not-a-table"):
        assert "trigger" in found[code].sentence
        assert "binlog" not in found[code].sentence


def test_trigger_capture_over_the_udf(
    new_source: Callable[..., SqlServer], udf_library: Path, redis_server: Redis, tmp_path: Path
) -> None:
    server = new_source(
        plugin_dir=str(udf_library),
        innodb_autoinc_lock_mode=0,
        transaction_isolation="SERIALIZABLE",
        autocommit=False,
        log_bin_trust_function_creators=False,
    )
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    server.create_user("sync", "pw", "SELECT, TRIGGER ON shop.*", "ALL ON syncbridge.*", "PROCESS ON *.*")
    config = config_for(server, redis_server, tmp_path, "[{table: shop.orders}]", url=server.url("sync", "pw"))
    source = config.source.model_copy(update={"capture": "trigger", "trigger": TriggerConfig(transport="udf")})
    config = config.model_copy(update={"source": source})
    found = check.collect(config)
    assert set(errors(found)) == {"triggers", "udf-functions"}
    wrong = {"isolation", "autocommit", "autoinc-lock-mode", "trigger-creators", "udf-privileges"}
    assert wrong <= codes(found, "warning")
    if server.flavor == "mariadb":
        server.execute("SET GLOBAL innodb_lock_wait_timeout = 0")
        assert "lock-wait-timeout" in codes(check.collect(config), "warning")
        server.execute("SET GLOBAL innodb_lock_wait_timeout = 50")
    # The mends are statements that work, where they need no restart.
    for one in found:
        if one.code in ("isolation", "autocommit", "trigger-creators"):
            server.execute(re.split(r"[;,] ", one.mend)[0])
    install_library(server)
    with server.connect() as connection:
        done = triggers.install(connection, config.name, triggers._wanted(connection, config))
    assert len(done.missing) == 3
    found = check.collect(config)
    assert errors(found) == {}
    assert not codes(found, "warning") & (wrong - {"autoinc-lock-mode"})
    assert {"udf-functions", "triggers"} <= codes(found, "ok")
    # A table that is no longer mapped, and triggers of the transport that was chosen before.
    server.execute("CREATE TABLE shop.items (id INT PRIMARY KEY)")
    mappings = config_for(server, redis_server, tmp_path, "[{table: shop.items}]").mappings
    moved = config.model_copy(update={"mappings": mappings})
    found = check.collect(moved)
    assert "shop.items" in errors(found)["triggers"].sentence
    (stale,) = (one for one in found if one.code == "triggers-stale")
    assert "shop.orders" in stale.sentence
