"""What `check` thinks of the source server and its account. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from syncbridge.commands.checks.finding import Finding, error, ok, warning
from syncbridge.commands.checks.privileges import Privileges

DAY = 86400
#: How capture names itself when it registers as a replica.
OUR_HOST = "syncbridge"
#: What heartbeat and watermark rows need in our schema on the source.
WRITE_PRIVILEGES = ("CREATE", "SELECT", "INSERT", "UPDATE")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What one server says about itself."""

    address: str
    flavor: str  # "mysql" or "mariadb"
    version_text: str
    server_id: int
    #: Global variables by lower-case name; absent: this server has no such variable.
    variables: dict[str, str] = field(default_factory=dict)
    #: `user`@`host` as GRANT wants it, and what SHOW GRANTS says.
    account: str = ""
    grants: tuple[str, ...] = ()
    #: (server id, host) of the replicas it feeds; empty where the account may not ask.
    replicas: tuple[tuple[int, str], ...] = ()
    #: Databases that binlog_do_db and binlog_ignore_db name.
    binlog_do: tuple[str, ...] = ()
    binlog_ignore: tuple[str, ...] = ()
    #: It replicates from another server.
    is_replica: bool = False

    def on(self, name: str) -> bool:
        return is_on(self.variables, name)


def is_on(variables: Mapping[str, str], name: str) -> bool:
    """Whether a global variable is there, and on."""
    return variables.get(name, "").upper() in ("ON", "1", "YES")


def judge_server(facts: ServerFacts, server_id: int, databases: Sequence[str]) -> list[Finding]:
    """`server_id`: ours; `databases`: those of the mapped tables."""
    findings = [ok("server", f"{_name(facts)} {facts.version_text} at {facts.address} answers")]
    for judge in (_binlog, _rows, _metadata, _retention, _gtid, _order, _durability):
        findings += judge(facts)
    findings += _filters(facts, databases)
    findings += _ids(facts, server_id)
    return findings


def judge_reading_account(facts: ServerFacts) -> Iterator[Finding]:
    """The account of source.url."""
    held = Privileges(facts.grants)
    for privilege, why in (
        ("REPLICATION SLAVE", "read the binlog"),
        ("REPLICATION CLIENT", "ask where the binlog ends"),
    ):
        if held.missing([privilege]):
            yield error(
                privilege.lower().replace(" ", "-"),
                f"{facts.account} may not {why}: it lacks {privilege}",
                f"GRANT {privilege} ON *.* TO {facts.account};",
            )
        else:
            yield ok(privilege.lower().replace(" ", "-"), f"{facts.account} has {privilege}")


def judge_writing_account(facts: ServerFacts, *, needed: bool) -> Iterator[Finding]:
    """The account that writes heartbeat and watermark rows: of source.write_url, else of source.url.

    `needed`: source.write_url promises it. Else capture can do without, but not without GTIDs too.
    """
    can_do_without = facts.flavor == "mariadb" or facts.variables.get("gtid_mode", "").upper() == "ON"
    problem = warning if can_do_without and not needed else error
    otherwise = ": lag will be unknown" if problem is warning else ""
    missing = Privileges(facts.grants).missing(WRITE_PRIVILEGES, "syncbridge")
    if missing:
        yield problem(
            "write-privileges",
            f"{facts.account} lacks {', '.join(missing)} on schema syncbridge, for heartbeat and watermark rows"
            + otherwise,
            f"GRANT {', '.join(WRITE_PRIVILEGES)} ON syncbridge.* TO {facts.account};",
        )
    else:
        yield ok("write-privileges", f"{facts.account} may write the heartbeat and watermark rows of schema syncbridge")
    if facts.on("read_only") or facts.on("super_read_only"):
        yield problem(
            "read-only",
            f"{facts.address} is read-only, so no heartbeat or watermark can be written there{otherwise}",
            "set source.write_url to the primary that this server replicates from",
        )


def _name(facts: ServerFacts) -> str:
    return "MariaDB" if facts.flavor == "mariadb" else "MySQL"


def set_variable(facts: ServerFacts, name: str, value: str) -> str:
    """The statement that changes a dynamic variable and keeps it over a restart."""
    if facts.flavor == "mysql":
        return f"SET PERSIST {name} = {value};"
    return f"SET GLOBAL {name} = {value};  -- and {name} = {value} under [mysqld] in my.cnf"


def _binlog(facts: ServerFacts) -> Iterator[Finding]:
    if not facts.on("log_bin"):
        yield error(
            "log-bin", "the server writes no binlog", "log_bin = binlog  under [mysqld] in my.cnf, then restart"
        )
        return
    yield ok("log-bin", "the server writes a binlog")
    if facts.is_replica and not (facts.on("log_slave_updates") or facts.on("log_replica_updates")):
        yield error(
            "log-replica-updates",
            "this replica does not write into its binlog what it replicates",
            ("log_slave_updates" if facts.flavor == "mariadb" else "log_replica_updates")
            + " = ON  under [mysqld] in my.cnf, then restart",
        )


def _rows(facts: ServerFacts) -> Iterator[Finding]:
    for name, wanted, why in (
        ("binlog_format", "ROW", "statements do not say which rows they change"),
        ("binlog_row_image", "FULL", "other images leave columns out"),
    ):
        value = facts.variables.get(name, wanted)
        code = name.replace("_", "-")
        if value.upper() != wanted:
            yield error(
                code, f"{name} is {value}, but capture needs {wanted}: {why}", set_variable(facts, name, wanted)
            )
        else:
            yield ok(code, f"{name} is {wanted}")
    options = facts.variables.get("binlog_row_value_options", "")
    if "PARTIAL_JSON" in options.upper():
        yield error(
            "binlog-row-value-options",
            "binlog_row_value_options is PARTIAL_JSON: the binlog then holds differences of JSON columns, not rows",
            set_variable(facts, "binlog_row_value_options", "''"),
        )


def _metadata(facts: ServerFacts) -> Iterator[Finding]:
    value = facts.variables.get("binlog_row_metadata", "")
    if value.upper() == "FULL":
        yield ok("binlog-row-metadata", "binlog_row_metadata is FULL: the binlog names its columns")
    else:
        yield warning(
            "binlog-row-metadata",
            f"binlog_row_metadata is {value or 'not known to this server'}: column names come from the schema history"
            " that capture keeps; with FULL the binlog itself names them",
            set_variable(facts, "binlog_row_metadata", "FULL"),
        )


def _retention(facts: ServerFacts) -> Iterator[Finding]:
    seconds = float(facts.variables.get("binlog_expire_logs_seconds", 0) or 0)
    days = float(facts.variables.get("expire_logs_days", 0) or 0)
    kept = seconds or days * DAY
    if kept and kept < DAY:
        yield warning(
            "binlog-retention",
            f"binlogs are purged after {kept / 3600:.1f} h: a longer stop of the pipeline means that every table is"
            " read again",
            set_variable(facts, "binlog_expire_logs_seconds", str(7 * DAY)),
        )
    else:
        yield ok("binlog-retention", f"binlogs are kept for {kept / DAY:.1f} days" if kept else "binlogs are kept")


def _gtid(facts: ServerFacts) -> Iterator[Finding]:
    if facts.flavor == "mariadb" or facts.variables.get("gtid_mode", "").upper() == "ON":
        yield ok("gtid", "GTIDs name every transaction")
    else:
        yield warning(
            "gtid",
            f"gtid_mode is {facts.variables.get('gtid_mode', 'OFF')}: after a failover to another server every table"
            " is read again",
            "SET PERSIST enforce_gtid_consistency = ON;  then SET PERSIST gtid_mode = OFF_PERMISSIVE;, ON_PERMISSIVE;"
            " and ON; one after another",
        )


def _order(facts: ServerFacts) -> Iterator[Finding]:
    if "binlog_order_commits" in facts.variables and not facts.on("binlog_order_commits"):
        yield error(
            "binlog-order-commits",
            "binlog_order_commits is OFF: rows become visible in another order than the binlog has, and a snapshot"
            " would miss changes",
            set_variable(facts, "binlog_order_commits", "ON"),
        )


def _durability(facts: ServerFacts) -> Iterator[Finding]:
    for name in ("sync_binlog", "innodb_flush_log_at_trx_commit"):
        value = facts.variables.get(name, "1")
        if value != "1":
            yield warning(
                name.replace("_", "-"),
                f"{name} is {value}: after a crash of the source's machine Redis may show changes that the source"
                " forgot, until every table is read again",
                set_variable(facts, name, "1"),
            )


def _filters(facts: ServerFacts, databases: Sequence[str]) -> Iterator[Finding]:
    for db in dict.fromkeys(databases):
        if (facts.binlog_do and db not in facts.binlog_do) or db in facts.binlog_ignore:
            yield error(
                "binlog-filter",
                f"the binlog leaves database {db} out (binlog_do_db, binlog_ignore_db)",
                "remove binlog_do_db and binlog_ignore_db from my.cnf, then restart",
            )


def _ids(facts: ServerFacts, server_id: int) -> Iterator[Finding]:
    if facts.server_id == 0:
        yield error("server-id", "the source has server_id 0 and feeds no replica", "SET GLOBAL server_id = 1;")
    mend = "set source.server_id to a number that neither the source nor any replica of it has"
    same = [host for number, host in facts.replicas if number == server_id]
    if server_id == facts.server_id:
        yield error("server-id-clash", f"our server_id {server_id} is the source's own", mend)
    elif any(host != OUR_HOST for host in same):
        yield error(
            "server-id-clash",
            f"replica {same[0] or '(no name)'} has our server_id {server_id}: they would throw each other out",
            mend,
        )
    elif same:
        yield ok("server-id-clash", f"a syncbridge with our server_id {server_id} is connected: this pipeline runs")
    else:
        yield ok("server-id-clash", f"our server_id {server_id} is free")
