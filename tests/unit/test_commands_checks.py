"""check's decisions: facts in, findings out, no server near."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncbridge.capture.schema import Column, TableSchema
from syncbridge.commands.checks.finding import ERROR, OK, Finding
from syncbridge.commands.checks.locks import judge_locks
from syncbridge.commands.checks.privileges import Privileges
from syncbridge.commands.checks.sink import SinkFacts, judge_sink
from syncbridge.commands.checks.source import ServerFacts, judge_reading_account, judge_server, judge_writing_account
from syncbridge.commands.checks.tables import ForeignKey, TableFacts, judge_tables
from syncbridge.commands.checks.triggers import judge_trigger_server
from syncbridge.commands.checks.udf import judge_udf
from syncbridge.commands.gearman_udf import source
from syncbridge.commands.gearman_udf.install import BY_HAND, install
from syncbridge.commands.gearman_udf.server import UdfFacts
from syncbridge.config import Config, parse_config
from syncbridge.config.model import TriggerConfig

HEALTHY = ServerFacts(
    address="db:3306",
    flavor="mysql",
    version_text="8.4.0",
    server_id=1,
    account="`repl`@`%`",
    variables={
        "log_bin": "ON", "binlog_format": "ROW", "binlog_row_image": "FULL", "binlog_row_metadata": "FULL",
        "binlog_row_value_options": "", "binlog_expire_logs_seconds": "2592000", "gtid_mode": "ON",
        "binlog_order_commits": "ON", "sync_binlog": "1", "innodb_flush_log_at_trx_commit": "1", "read_only": "OFF",
    },
)  # fmt: skip


def server(**variables: str) -> ServerFacts:
    return replace(HEALTHY, variables={**HEALTHY.variables, **variables})


def worst(findings: list[Finding]) -> dict[str, str]:
    """Code -> severity of everything that is not fine; every such finding has a mend."""
    assert all(finding.mend for finding in findings if finding.severity != OK)
    return {finding.code: finding.severity for finding in findings if finding.severity != OK}


def judged(facts: ServerFacts, server_id: int = 4001) -> dict[str, str]:
    return worst(judge_server(facts, server_id, ["shop"]))


# The source


def test_a_healthy_server_has_nothing_to_mend() -> None:
    assert judged(HEALTHY) == {}


@pytest.mark.parametrize(
    ("variable", "value", "code", "severity"),
    [
        ("log_bin", "OFF", "log-bin", "error"),
        ("binlog_format", "MIXED", "binlog-format", "error"),
        ("binlog_row_image", "NOBLOB", "binlog-row-image", "error"),
        ("binlog_row_value_options", "PARTIAL_JSON", "binlog-row-value-options", "error"),
        ("binlog_row_metadata", "MINIMAL", "binlog-row-metadata", "warning"),
        ("binlog_expire_logs_seconds", "86399", "binlog-retention", "warning"),
        ("gtid_mode", "OFF_PERMISSIVE", "gtid", "warning"),
        ("binlog_order_commits", "OFF", "binlog-order-commits", "error"),
        ("sync_binlog", "100", "sync-binlog", "warning"),
        ("innodb_flush_log_at_trx_commit", "2", "innodb-flush-log-at-trx-commit", "warning"),
    ],
)
def test_each_setting_is_judged_by_itself(variable: str, value: str, code: str, severity: str) -> None:
    assert judged(server(**{variable: value})) == {code: severity}


def test_retention_counts_days_where_there_are_no_seconds() -> None:
    mariadb = replace(HEALTHY, flavor="mariadb")
    half_a_day = {"binlog_expire_logs_seconds": "0", "expire_logs_days": "0.500000"}
    assert "binlog-retention" in judged(replace(mariadb, variables={**HEALTHY.variables, **half_a_day}))
    assert judged(server(binlog_expire_logs_seconds="0")) == {}  # kept for ever


def test_filters_of_the_binlog() -> None:
    assert judged(replace(HEALTHY, binlog_do=("shop", "crm"))) == {}
    assert judged(replace(HEALTHY, binlog_do=("crm",))) == {"binlog-filter": "error"}
    assert judged(replace(HEALTHY, binlog_ignore=("shop",))) == {"binlog-filter": "error"}


def test_a_replica_must_log_what_it_replicates() -> None:
    replica = replace(HEALTHY, is_replica=True)
    assert judged(replica) == {"log-replica-updates": "error"}
    assert judged(replace(replica, variables={**HEALTHY.variables, "log_replica_updates": "ON"})) == {}


def test_server_ids() -> None:
    assert judged(HEALTHY, 1) == {"server-id-clash": "error"}
    assert judged(replace(HEALTHY, replicas=((4001, "replica-7"),))) == {"server-id-clash": "error"}
    assert judged(replace(HEALTHY, replicas=((4001, "syncbridge"), (4002, "replica-7")))) == {}  # that is us
    assert judged(replace(HEALTHY, server_id=0)) == {"server-id": "error"}


# Accounts


@pytest.mark.parametrize(
    ("grants", "missing"),
    [
        (["GRANT USAGE ON *.* TO `repl`@`%`"], {"replication-slave", "replication-client"}),
        (["GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `repl`@`%`"], set()),
        (["GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `repl`@`%` IDENTIFIED BY PASSWORD '*X'"], set()),
        (["GRANT ALL PRIVILEGES ON *.* TO `repl`@`%` WITH GRANT OPTION"], set()),
        (["GRANT ALL PRIVILEGES ON `shop`.* TO `repl`@`%`"], {"replication-slave", "replication-client"}),
        (["GRANT `mirror`@`%` TO `repl`@`%`"], {"replication-slave", "replication-client"}),
    ],
)
def test_reading_accounts(grants: list[str], missing: set[str]) -> None:
    assert set(worst(list(judge_reading_account(replace(HEALTHY, grants=tuple(grants)))))) == missing


@pytest.mark.parametrize(
    ("grant", "missing"),
    [
        ("GRANT CREATE, SELECT, INSERT, UPDATE ON `syncbridge`.* TO x", []),
        ("GRANT CREATE, SELECT, INSERT, UPDATE ON `sync%`.* TO x", []),
        ("GRANT CREATE, SELECT, INSERT, UPDATE ON `sync\\_bridge`.* TO x", ["CREATE", "SELECT", "INSERT", "UPDATE"]),
        ("GRANT SELECT, INSERT, UPDATE ON *.* TO x", ["CREATE"]),
        ("GRANT SELECT (`a`, `b`), INSERT ON `syncbridge`.* TO x", ["CREATE", "SELECT", "UPDATE"]),
        ("GRANT ALL PRIVILEGES ON `syncbridge`.`heartbeat` TO x", ["CREATE", "SELECT", "INSERT", "UPDATE"]),
        ("GRANT SELECT ON `a``b`.* TO x", ["CREATE", "SELECT", "INSERT", "UPDATE"]),
    ],
)
def test_privileges_on_a_database(grant: str, missing: list[str]) -> None:
    assert Privileges([grant]).missing(("CREATE", "SELECT", "INSERT", "UPDATE"), "syncbridge") == missing


def test_a_read_only_server_goes_without_heartbeats() -> None:
    facts = replace(server(read_only="ON", gtid_mode="ON"), grants=("GRANT ALL PRIVILEGES ON *.* TO x",))
    assert worst(list(judge_writing_account(facts, needed=False))) == {"read-only": "warning"}
    assert worst(list(judge_writing_account(facts, needed=True))) == {"read-only": "error"}


def test_an_account_that_may_not_write_needs_gtids() -> None:
    facts = server(gtid_mode="ON")
    assert worst(list(judge_writing_account(facts, needed=False))) == {"write-privileges": "warning"}
    facts = replace(server(gtid_mode="OFF"), flavor="mysql")
    assert worst(list(judge_writing_account(facts, needed=False))) == {"write-privileges": "error"}


# Tables and mappings


def config(*mappings: str) -> Config:
    return parse_config(
        "source: {url: 'mysql://h'}\nsink: {url: 'redis://h'}\nmappings: [" + ", ".join(mappings) + "]", {}
    )


ORDERS = TableFacts(
    db="shop",
    table="orders",
    schema=TableSchema(
        "shop",
        "orders",
        (
            Column.parse("id", "int(11)", nullable=False),
            Column.parse("code", "varchar(9)", nullable=False),
            Column.parse("city", "varchar(9)"),
            Column.parse("until", "datetime"),
        ),
        ("id",),
    ),
    unique=(("id",), ("code",)),
)
MAPPED = "{table: shop.orders, key: 'o:{id}'}"


def tables(facts: TableFacts, mapping: str = MAPPED, flavor: str = "mysql", version: tuple[int, ...] = (8, 0)) -> Any:
    return worst(judge_tables(config(mapping), [facts], flavor, version))


def test_a_good_table() -> None:
    assert tables(ORDERS) == {}


def test_a_table_by_its_own_faults() -> None:
    assert tables(replace(ORDERS, schema=None)) == {"table-missing": "error"}
    assert tables(replace(ORDERS, kind="VIEW")) == {"not-a-table": "error"}
    assert tables(replace(ORDERS, engine="MyISAM")) == {"engine": "error"}
    assert tables(replace(ORDERS, select_error="denied")) == {"select-privilege": "error"}


def test_cascades_are_errors_where_the_binlog_does_not_hold_them() -> None:
    key = ForeignKey(
        name="fk", columns=("city",), parent="shop.cities", parent_columns=("name",),
        on_delete="SET NULL", on_update="RESTRICT",
    )  # fmt: skip
    child = replace(ORDERS, foreign_keys=(key,))
    assert tables(child) == {"cascade": "error"}
    assert tables(child, flavor="mariadb", version=(11, 4)) == {"cascade": "error"}
    assert tables(child, version=(9, 6)) == {}
    assert tables(replace(ORDERS, foreign_keys=(replace(key, on_delete="RESTRICT"),))) == {}


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ("key: 'o:{code}'", {}),
        ("key: 'o:{city}'", {"key-not-unique": "error", "key-nullable": "warning"}),
        ("key: 'o:{city}:{id}', where: 'city IS NOT NULL'", {"key-ambiguous": "warning"}),
        ("key: 'o:{id}:{code}'", {}),
        ("key: 'o:{code}:{id}'", {"key-ambiguous": "warning"}),
        ("key: 'o:{id}{code}'", {"key-ambiguous": "error"}),
        ("key: '{_table}:{_key}'", {}),
        ("key: 'o:{nope}'", {"mapping": "error"}),
        ("key: 'o:{id}', where: 'nope = 1'", {"mapping": "error"}),
        ("key: 'o:{id}', columns: {include: [nope]}", {"mapping": "error"}),
        ("key: 'o:{id}', ttl: '{nope}'", {"mapping": "error"}),
        ("key: 'o:{id}', ttl: '{city}'", {"ttl": "error"}),
        ("key: 'o:{id}', ttl: '{until}'", {}),
        ("key: 'o:{id}', type: string, value: '{nope}'", {"mapping": "error"}),
    ],
)
def test_a_mapping_must_fit_its_table(options: str, codes: dict[str, str]) -> None:
    assert tables(ORDERS, f"{{table: shop.orders, {options}}}") == codes


def test_a_table_without_primary_key_needs_unique_columns() -> None:
    schema = ORDERS.schema
    assert schema is not None
    bare = replace(ORDERS, schema=replace(schema, primary_key=()), unique=(("code",),))
    assert tables(bare, "{table: shop.orders, key: 'o:{code}'}") == {"no-primary-key": "error"}
    assert tables(bare, "{table: shop.orders, key: 'o:{code}', unique: [code]}") == {}
    assert tables(bare, "{table: shop.orders, key: 'o:{code}', unique: [nope]}")["unique"] == "error"
    assert tables(bare, "{table: shop.orders, key: 'o:{code}', unique: [id]}")["unique"] == "error"


def test_mappings_that_meet_in_one_key() -> None:
    items = replace(ORDERS, table="items")
    both = config("{table: 'shop.*'}", "{table: shop.orders, key: 'orders:{id}'}")
    assert worst(judge_tables(both, [ORDERS, items], "mysql", (8, 0))) == {"same-keys": "error"}
    other = config("{table: 'shop.*'}", "{table: 'crm.*'}")
    assert worst(judge_tables(other, [ORDERS, replace(ORDERS, db="crm")], "mysql", (8, 0))) == {"same-keys": "error"}
    apart = config("{table: 'shop.*'}", "{table: shop.orders, key: 'by-code:{code}'}")
    assert worst(judge_tables(apart, [ORDERS, items], "mysql", (8, 0))) == {}


def test_our_own_schema_cannot_be_mapped_and_an_empty_database_is_told() -> None:
    assert worst(judge_tables(config("{table: syncbridge.heartbeat}"), [], "mysql", (8, 0)))["own-schema"] == ERROR
    assert worst(judge_tables(config("{table: 'shop.*'}"), [], "mysql", (8, 0))) == {"no-tables": "warning"}


# Redis


GOOD_REDIS = SinkFacts(
    address="redis://h", info={"redis_version": "7.0.15", "role": "master", "maxmemory": 0, "aof_enabled": 1}
)


def redis(**info: Any) -> dict[str, str]:
    return worst(judge_sink(replace(GOOD_REDIS, info={**GOOD_REDIS.info, **info})))


def test_redis() -> None:
    assert redis() == {}
    assert redis(redis_version="5.0.7") == {"sink-version": "error"}
    assert redis(role="slave") == {"sink-role": "error"}
    assert redis(cluster_enabled=1) == {"sink-cluster": "error"}
    assert redis(maxmemory=100, maxmemory_policy="noeviction") == {}
    assert redis(maxmemory=100, maxmemory_policy="noeviction", used_memory=95) == {"maxmemory": "warning"}
    assert redis(maxmemory=100, maxmemory_policy="allkeys-lru") == {"eviction": "error"}
    assert redis(maxmemory=100, maxmemory_policy="volatile-lru") == {"eviction": "error"}
    assert redis(maxmemory=0, maxmemory_policy="allkeys-lru") == {}
    assert redis(aof_enabled=0) == {"persistence": "warning"}
    assert worst(judge_sink(replace(GOOD_REDIS, info={**GOOD_REDIS.info, "aof_enabled": 0}, save="60 1"))) == {}
    assert worst(judge_sink(replace(GOOD_REDIS, script_error="NOPERM"))) == {"scripts": "error"}


# Trigger capture

UDF_HEALTHY = UdfFacts(
    address="db:3306",
    version_text="8.4.0",
    account="`sync`@`%`",
    grants=("GRANT ALL PRIVILEGES ON *.* TO `sync`@`%`",),
    variables={"plugin_dir": "/nowhere/plugin/", "hostname": "db1", "secure_file_priv": "NULL"},
    local=False,
    libraries=dict.fromkeys(source.functions(), source.LIBRARY),
    loaded=source.version(),
)
TRIGGER_HEALTHY = replace(
    HEALTHY,
    grants=("GRANT ALL PRIVILEGES ON *.* TO `sync`@`%`",),
    variables={
        "transaction_isolation": "REPEATABLE-READ", "autocommit": "ON", "innodb_autoinc_lock_mode": "2",
        "innodb_lock_wait_timeout": "50", "log_bin": "ON",
    },
)  # fmt: skip
OUTBOX, CONFIRMED, TRUSTED = (
    TriggerConfig(),
    TriggerConfig(transport="udf"),
    TriggerConfig(transport="udf", confirm=False),
)


def trigger_server(**variables: str) -> ServerFacts:
    return replace(TRIGGER_HEALTHY, variables={**TRIGGER_HEALTHY.variables, **variables})


@pytest.mark.parametrize(
    ("variable", "value", "code", "configs"),
    [
        ("transaction_isolation", "SERIALIZABLE", "isolation", (OUTBOX, CONFIRMED, TRUSTED)),
        ("autocommit", "OFF", "autocommit", (OUTBOX, CONFIRMED, TRUSTED)),
        ("innodb_autoinc_lock_mode", "0", "autoinc-lock-mode", (OUTBOX, CONFIRMED, TRUSTED)),
        ("innodb_lock_wait_timeout", "0", "lock-wait-timeout", (CONFIRMED,)),
    ],
)
def test_each_lock_setting_is_judged_by_itself(
    variable: str, value: str, code: str, configs: tuple[TriggerConfig, ...]
) -> None:
    for trigger in (OUTBOX, CONFIRMED, TRUSTED):
        assert worst(judge_locks(TRIGGER_HEALTHY, trigger)) == {}
        expected = {code: "warning"} if trigger in configs else {}
        assert worst(judge_locks(trigger_server(**{variable: value}), trigger)) == expected


def test_the_server_of_triggers() -> None:
    assert worst(judge_trigger_server(TRIGGER_HEALTHY, ["shop"])) == {}
    assert worst(judge_trigger_server(trigger_server(wsrep_on="ON"), ["shop"])) == {"several-primaries": "error"}
    read_only = trigger_server(read_only="ON")
    assert worst(judge_trigger_server(read_only, ["shop"])) == {"read-only": "warning"}
    assert worst(judge_trigger_server(read_only, ["shop"], only=False)) == {}
    weak = replace(TRIGGER_HEALTHY, grants=("GRANT SELECT, INSERT, DELETE, TRIGGER ON *.* TO `sync`@`%`",))
    assert set(worst(judge_trigger_server(weak, ["shop"]))) == {"trigger-creators", "process-privilege"}
    trusted = replace(weak, variables={**weak.variables, "log_bin_trust_function_creators": "ON"})
    assert worst(judge_trigger_server(trusted, ["shop"])) == {"process-privilege": "warning"}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, {}),
        ({"loaded": None, "libraries": {}}, {"udf-functions": "error"}),
        ({"loaded": None, "libraries": {}, "grants": ()}, {"udf-functions": "error", "udf-privileges": "warning"}),
        ({"loaded": None, "libraries": None, "grants": ()}, {"udf-functions": "error", "udf-privileges": "warning"}),
        ({"loaded": None, "libraries": {"gman_do": "libgearman_mysql_udf.so"}}, {"udf-functions": "error"}),
        ({"loaded": 1}, {"udf-version": "warning"}),
        ({"libraries": {"gman_do": source.LIBRARY}}, {"udf-functions": "warning"}),
        ({"account": "`skip-grants user`@`skip-grants host`"}, {"udf-functions": "error"}),
        ({"local": True}, {"plugin-dir": "warning"}),
        ({"variables": {"plugin_dir": ""}}, {"plugin-dir": "error"}),
    ],
)
def test_the_udf_library_of_a_server(facts: dict[str, Any], expected: dict[str, str]) -> None:
    assert worst(judge_udf(replace(UDF_HEALTHY, **facts))) == expected


@pytest.mark.parametrize(
    ("mode", "secure_file_priv", "found"),
    [(0o777, "", True), (0o755, "", False), (0o777, "NULL", False), (0o777, "/elsewhere", False), (0o777, "..", True)],
)
def test_a_plugin_dir_that_sql_can_write_to(tmp_path: Path, mode: int, secure_file_priv: str, found: bool) -> None:
    (tmp_path / source.LIBRARY).touch()
    tmp_path.chmod(mode)
    where = str(tmp_path.parent) if secure_file_priv == ".." else secure_file_priv
    variables = {"plugin_dir": str(tmp_path), "datadir": "/", "secure_file_priv": where}
    facts = replace(UDF_HEALTHY, local=True, variables=variables)
    assert worst(judge_udf(facts)) == ({"secure-file-priv": "warning"} if found else {})


@pytest.mark.parametrize("copied", [False, True])
def test_on_another_machine_others_must_install(copied: bool) -> None:
    facts = replace(UDF_HEALTHY, loaded=None, libraries={}, grants=(), variables={
        **UDF_HEALTHY.variables, "log_bin": "ON"
    })  # fmt: skip
    outcome = install(facts, pytest.fail, pytest.fail, "mysql -h db -P 3306 -u root -p", copied=copied)
    assert outcome.state == BY_HAND
    *copying, (account, (command,)) = outcome.steps
    assert command.startswith("mysql --init-command='SET SESSION sql_log_bin = 0' -h db -P 3306 -u root -p < ")
    assert "SUPER" in account
    if copied:
        assert "lacks INSERT and DELETE" in outcome.reason
        assert copying == []
    else:
        assert "another machine, db1" in outcome.reason
        ((who, (copy, make)),) = copying
        assert "db1" in who
        assert copy.startswith("scp -r ")
        assert make == "ssh root@db1 'make -C /tmp/syncbridge_udf install PLUGIN_DIR=/nowhere/plugin'"
