"""Connections, dumps and events against real servers: positions, GTIDs, TLS, refusals, and what stops capture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from syncbridge.capture.binlog.events import Gtid, Heartbeat, Item, Rotate, Rows, Statement, TransactionEnd
from syncbridge.capture.binlog.reader import BinlogReader
from syncbridge.capture.binlog.stream import BinlogStream
from syncbridge.capture.connection import (
    ConnectionSettings,
    Position,
    binary_logs,
    connect,
    current_position,
    identify,
    start_dump,
)
from syncbridge.capture.gtid import GtidSet, MariaGtidPosition
from syncbridge.capture.schema import SchemaMismatch, TableSchema
from syncbridge.errors import ConfigError, PermanentError, PositionLost, SyncbridgeError, TransientError
from tests.integration.binlog_tools import (
    REPLICA_ID,
    final_rows,
    position_of,
    read_items,
    receive,
    selected_rows,
    settings_of,
    tables_of,
)
from tests.servers import SqlServer, eventually, free_port

pytestmark = pytest.mark.usefixtures("one_way_each")


def nothing_mapped(_db: str, _table: str) -> TableSchema | None:
    return None


def row_count(items: Iterator[Item]) -> int:
    return sum(len(item.rows) for item in items if isinstance(item, Rows))


# Transactions and positions


def test_transactions_come_with_their_ends(source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE other (id INT)")
    start = position_of(source)
    source.execute(
        "BEGIN", "INSERT INTO t VALUES (1, 1), (2, 2)", "INSERT INTO other VALUES (1)",
        "UPDATE t SET v = 3 WHERE id = 1",
        "COMMIT", "CREATE TABLE later (id INT)", "DELETE FROM t WHERE id = 2",
    )  # fmt: skip
    items = list(read_items(source, start, tables_of(source, "t")))
    story = [
        (item.op, item.dicts()) if isinstance(item, Rows) else type(item).__name__
        for item in items
        if isinstance(item, Gtid | Rows | TransactionEnd | Statement)
    ]
    assert story == [
        "Gtid",
        ("c", [{"id": 1, "v": 1}, {"id": 2, "v": 2}]),
        ("u", [({"id": 1, "v": 1}, {"id": 1, "v": 3})]),
        "TransactionEnd",
        "Gtid",
        "Statement",
        "Gtid",
        ("d", [{"id": 2, "v": 2}]),
        "TransactionEnd",
    ]
    statement = next(item for item in items if isinstance(item, Statement))
    assert (statement.sql, statement.db, statement.in_transaction) == (
        "CREATE TABLE later (id INT)", source.database, False,
    )  # fmt: skip
    ends = [item.pos for item in items if isinstance(item, TransactionEnd | Statement)]
    starts = [item.pos for item in items if isinstance(item, Gtid)]
    assert starts == [start.pos, *ends[:-1]]
    assert ends[-1] == position_of(source).pos
    if source.flavor == "mysql":
        assert all(gtid.commit_ts_us for gtid in items if isinstance(gtid, Gtid))


def test_a_dump_from_any_checkpoint_gives_exactly_the_rest(source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    start = position_of(source)
    for number in range(12):
        source.execute(f"INSERT INTO t VALUES ({number})")
        if number % 4 == 3:
            source.execute("FLUSH BINARY LOGS")
    tables = tables_of(source, "t")
    items = list(read_items(source, start, tables))
    checkpoints = [item for item in items if isinstance(item, TransactionEnd)]
    assert len(checkpoints) == 12
    assert len({item.file for item in checkpoints}) == 3
    for number, checkpoint in enumerate(checkpoints):
        rest = read_items(source, Position(checkpoint.file, checkpoint.pos), tables)
        assert final_rows(rest)["t"].keys() == set(range(number + 1, 12))


def test_the_reader_skips_to_a_position_that_the_dump_did_not_start_at(source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    here = position_of(source)
    source.execute("INSERT INTO t VALUES (2)")
    tables = tables_of(source, "t")
    connection = connect(settings_of(source))
    stream = BinlogStream(connection)
    with closing(stream):
        start_dump(connection, identify(connection), Position(here.file, 4), REPLICA_ID, heartbeat_s=0.05)
        reader = BinlogReader(lambda db, table: tables.get((db, table)), skip_to=(here.file, here.pos))
        rows: list[object] = []
        while True:
            stream.receive(10)
            items = list(reader.read(stream))
            rows += [row for item in items if isinstance(item, Rows) for row in item.dicts()]
            if any(isinstance(item, Heartbeat) for item in items):
                break
    assert rows == [{"id": 2}]
    assert (reader.file, reader.pos) == (position_of(source).file, position_of(source).pos)


def test_a_dump_by_gtid_gives_what_is_missing(source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    here = position_of(source)
    assert here.gtid_set
    source.execute("INSERT INTO t VALUES (2)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (3)")
    by_gtid = Position("", 4, here.gtid_set)
    items = list(read_items(source, by_gtid, tables_of(source, "t"), by_gtid=True))
    assert final_rows(items)["t"].keys() == {2, 3}
    executed = GtidSet(here.gtid_set) if source.flavor == "mysql" else MariaGtidPosition(here.gtid_set)
    for item in items:
        if isinstance(item, Gtid):
            assert item.gtid is not None
            executed.add(item.gtid)
    assert str(executed) == position_of(source).gtid_set


def test_tagged_gtids(mysql: SqlServer) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)", "SET gtid_next='AUTOMATIC:first'", "INSERT INTO t VALUES (1)")
    here = position_of(mysql)
    assert ":first:" in here.gtid_set
    mysql.execute("SET gtid_next='AUTOMATIC:first'", "INSERT INTO t VALUES (2)", "SET gtid_next='AUTOMATIC:zz_9'",
                  "INSERT INTO t VALUES (3)")  # fmt: skip
    items = list(read_items(mysql, Position("", 4, here.gtid_set), tables_of(mysql, "t"), by_gtid=True))
    assert final_rows(items)["t"].keys() == {2, 3}
    executed = GtidSet(here.gtid_set)
    for item in items:
        if isinstance(item, Gtid):
            assert item.gtid is not None
            assert item.commit_ts_us
            executed.add(item.gtid)
    assert executed == GtidSet(position_of(mysql).gtid_set)


def test_anonymous_transactions_have_no_gtid(new_mysql: Callable[..., SqlServer]) -> None:
    server = new_mysql(gtid=False)
    start = position_of(server)
    server.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
    server.database = "d"
    items = list(read_items(server, start, tables_of(server, "t")))
    assert [item.gtid for item in items if isinstance(item, Gtid)] == [None, None, None]
    assert row_count(iter(items)) == 1


def test_an_event_of_many_packets_is_put_together(new_source: Callable[..., SqlServer]) -> None:
    server = new_source(max_allowed_packet="64M", innodb_log_file_size=None, innodb_redo_log_capacity=None)
    server.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, b LONGBLOB)")
    server.database = "d"
    start = position_of(server)
    # Around the size at which the event fills whole packets, so that an empty one follows.
    sizes = [35_000_000, 0xFFFFFF - 45, 0xFFFFFF - 43]  # MySQL and MariaDB add 45 and 43 bytes
    for number, size in enumerate(sizes):
        server.execute(f"INSERT INTO t VALUES ({number}, REPEAT('x', {size}))")
    decoded = final_rows(read_items(server, start, tables_of(server, "t")))["t"]
    expected = selected_rows(server, tables_of(server, "t")[server.database, "t"])
    assert decoded.keys() == expected.keys()
    assert all(decoded[key] == expected[key] for key in expected)


def test_replicas_list_us(source: SqlServer) -> None:
    here = position_of(source)
    connection = connect(settings_of(source))
    stream = BinlogStream(connection)
    with closing(stream):
        start_dump(connection, identify(connection), here, 77_001)
        command = "SHOW REPLICAS" if source.flavor == "mysql" else "SHOW SLAVE HOSTS"
        eventually(lambda: 77_001 in {row[0] for row in source.execute(command)})


# What the server refuses


def purge(server: SqlServer, file: str) -> None:
    """Purge up to `file`; MariaDB declines while its engine's checkpoint lags behind."""

    def purged() -> bool:
        server.execute(f"PURGE BINARY LOGS TO '{file}'")
        with closing(connect(settings_of(server))) as connection:
            return [name for name, _ in binary_logs(connection)] == [file]

    eventually(purged)


def test_a_purged_position_is_lost(new_source: Callable[..., SqlServer]) -> None:
    server = new_source()
    start = position_of(server)
    server.execute("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    logs = [row[0] for row in server.execute("SHOW BINARY LOGS")]
    purge(server, logs[-1])
    with pytest.raises(PositionLost) as lost:
        list(read_items(server, start, nothing_mapped))
    assert "snapshot" in lost.value.hint
    end = position_of(server)
    with pytest.raises(PositionLost):
        list(read_items(server, replace(end, pos=end.pos + 1000), nothing_mapped))


def test_a_gtid_position_that_was_purged_is_lost(new_source: Callable[..., SqlServer]) -> None:
    server = new_source()
    server.execute("CREATE DATABASE d1")
    old = position_of(server).gtid_set
    server.execute("CREATE DATABASE d2", "FLUSH BINARY LOGS", "CREATE DATABASE d3")
    purge(server, position_of(server).file)
    with pytest.raises(PositionLost):
        list(read_items(server, Position("", 4, old), nothing_mapped, by_gtid=True))


def test_a_second_replica_with_our_server_id_is_named(source: SqlServer) -> None:
    here = position_of(source)
    first, second = connect(settings_of(source)), connect(settings_of(source))
    with closing(BinlogStream(first)) as ours, closing(BinlogStream(second)) as theirs:
        server = identify(first)
        start_dump(first, server, here, 77_002, heartbeat_s=0.05)
        eventually(lambda: receive(ours, 0.1))
        start_dump(second, server, here, 77_002, heartbeat_s=0.05)
        with pytest.raises(TransientError) as thrown_out:
            eventually(lambda: receive(theirs, 0.1) and receive(ours, 1) < 0)
    assert "server_id" in f"{thrown_out.value} {thrown_out.value.hint}"


def test_the_server_going_away_is_transient(new_source: Callable[..., SqlServer]) -> None:
    server = new_source()
    connection = connect(settings_of(server))
    with closing(BinlogStream(connection)) as stream:
        start_dump(connection, identify(connection), position_of(server), REPLICA_ID, heartbeat_s=0.05)
        eventually(lambda: receive(stream, 1))
        server.kill9()
        with pytest.raises(TransientError):
            eventually(lambda: receive(stream, 0.1) < 0)
    with pytest.raises(TransientError):
        connect(settings_of(server))


def test_connection_errors_say_what_to_do(source: SqlServer) -> None:
    secret = "se cret/ß中"
    source.create_user("limited", secret, "SELECT ON *.*")
    settings = settings_of(source, user="limited", password=secret)
    with closing(connect(settings)) as connection, pytest.raises(ConfigError, match="privilege") as missing:
        current_position(connection, identify(connection))
    assert "GRANT" in missing.value.hint
    bad: list[tuple[ConnectionSettings, type[SyncbridgeError]]] = [
        (replace(settings, password=secret + "x"), ConfigError),
        (replace(settings, user="nobody"), ConfigError),
        (replace(settings, host="no-such-host.invalid"), ConfigError),
        (replace(settings, port=free_port()), TransientError),
        (replace(settings, unix_socket="/nonexistent/socket"), SyncbridgeError),
        (replace(settings, ssl_ca="/nonexistent.pem"), ConfigError),
    ]
    for wrong, expected in bad:
        with pytest.raises(expected) as refused:
            connect(wrong)
        text = f"{refused.value} {refused.value.hint}"
        assert refused.value.hint
        assert secret not in text
    assert secret not in repr(settings)
    source.execute("DROP USER limited@'127.0.0.1'")


# TLS and authentication


def test_tls_is_verified(new_source: Callable[..., SqlServer], tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.servers.certificates import make_certificates

    server = new_source(ssl=True)
    server.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, b LONGTEXT)")
    server.database = "d"
    start = position_of(server)
    server.execute("INSERT INTO t SELECT 1, REPEAT('ä', 300000)", "INSERT INTO t VALUES (2, 'x')")
    tables = tables_of(server, "t")
    verified = settings_of(server, ssl_ca=str(server.ssl_ca))
    assert final_rows(read_items(server, start, tables, settings=verified))["t"].keys() == {1, 2}
    with closing(connect(verified)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchone()[1]
    other = make_certificates(tmp_path_factory.mktemp("other"))
    with pytest.raises(ConfigError, match="TLS"):
        connect(replace(verified, ssl_ca=str(other.ca)))
    connect(replace(verified, ssl_ca=str(other.ca), ssl_verify="required")).close()
    with pytest.raises(ConfigError, match="TLS"):
        connect(replace(verified, host="elsewhere.example", unix_socket=str(server.socket)))


@pytest.mark.parametrize("ssl_verify", ["off", "", "required"])
def test_caching_sha2_password(mysql: SqlServer, ssl_verify: str) -> None:
    mysql.create_user("sha2", "pässword", "REPLICATION SLAVE, REPLICATION CLIENT ON *.*", "SELECT ON *.*")
    mysql.execute("FLUSH PRIVILEGES")  # empties the cache: the full exchange is run
    settings = settings_of(mysql, user="sha2", password="pässword", ssl_verify=ssl_verify)
    start = position_of(mysql)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    for _ in range(2):
        assert row_count(read_items(mysql, start, tables_of(mysql, "t"), settings=settings)) == 1
    mysql.execute("DROP USER sha2@'127.0.0.1'")


# What stops capture (P4)


def refuse(server: SqlServer, statements: list[str], match: str, mapped: str = "t") -> PermanentError:
    start = position_of(server)
    server.execute(*statements)
    tables = tables_of(server, mapped)
    assert row_count(read_items(server, start, nothing_mapped)) == 0  # nobody is stopped by what is not mapped
    with pytest.raises(PermanentError, match=match) as refused:
        list(read_items(server, start, tables))
    assert refused.value.hint
    return refused.value


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
def test_a_row_image_that_is_not_full_is_refused(source: SqlServer, image: str) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b TEXT)", "INSERT INTO t VALUES (1, 1, 'x')")
    error = refuse(
        source, [f"SET SESSION binlog_row_image={image}", "UPDATE t SET a = 2 WHERE id = 1"], "binlog_row_image"
    )
    assert "SET GLOBAL binlog_row_image=FULL" in error.hint


def test_partial_json_is_refused(mysql: SqlServer) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, j JSON)", 'INSERT INTO t VALUES (1, \'{"a": 1, "b": "xxxx"}\')')
    error = refuse(
        mysql,
        ["SET SESSION binlog_row_value_options=PARTIAL_JSON", "UPDATE t SET j = JSON_SET(j, '$.a', 2)"],
        "partial JSON",
    )
    assert "binlog_row_value_options" in error.hint


def test_rows_of_an_xa_transaction_are_refused(source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    refuse(
        source, ["XA START 'x'", "INSERT INTO t VALUES (1)", "XA END 'x'", "XA PREPARE 'x'", "XA ROLLBACK 'x'"], "XA"
    )


def test_xa_on_other_tables_ends_its_transactions(source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE other (id INT PRIMARY KEY)")
    start = position_of(source)
    source.execute("XA START 'x'", "INSERT INTO other VALUES (1)", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'")
    source.execute("INSERT INTO t VALUES (1)")
    items = list(read_items(source, start, tables_of(source, "t")))
    assert row_count(iter(items)) == 1
    assert len([item for item in items if isinstance(item, TransactionEnd)]) == 3


def test_a_change_of_schema_that_was_not_followed_is_noticed(source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT)")
    tables = tables_of(source, "t")
    for number, change in enumerate(("ADD COLUMN b INT", "DROP COLUMN b, MODIFY a BIGINT")):
        start = position_of(source)
        source.execute(f"ALTER TABLE t {change}", f"INSERT INTO t (id) VALUES ({number})")
        with pytest.raises(SchemaMismatch) as mismatch:
            list(read_items(source, start, tables))
        assert (mismatch.value.db, mismatch.value.table) == (source.database, "t")


def test_statements_keep_their_text_and_settings(source: SqlServer) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    start = position_of(source)
    with source.connect(charset="latin1") as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode='ANSI_QUOTES'")
        cursor.execute('CREATE TABLE "é" (id INT)')
    source.execute("SET SESSION binlog_format=STATEMENT", "BEGIN", "INSERT INTO t VALUES (1, 'ü')", "COMMIT")
    statements = [item for item in read_items(source, start, tables_of(source, "t")) if isinstance(item, Statement)]
    assert [(item.sql, item.in_transaction) for item in statements] == [
        ('CREATE TABLE "é" (id INT)', False),
        ("INSERT INTO t VALUES (1, 'ü')", True),
    ]
    assert statements[0].sql_mode & 4  # ANSI_QUOTES


def test_a_rolled_back_mixture_of_engines_is_refused(new_source: Callable[..., SqlServer]) -> None:
    """Where a rollback is logged at all, rows of the mapped table before it must not be applied silently."""
    source = new_source(gtid=False)
    source.execute("CREATE DATABASE d")
    source.database = "d"
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE plain (id INT) ENGINE=MyISAM")
    start = position_of(source)
    source.execute("BEGIN", "INSERT INTO t VALUES (1)", "INSERT INTO plain VALUES (1)", "ROLLBACK")
    source.execute(
        "BEGIN", "INSERT INTO t VALUES (2)", "SAVEPOINT s", "INSERT INTO t VALUES (3)", "ROLLBACK TO s", "COMMIT"
    )
    try:
        decoded = set(final_rows(read_items(source, start, tables_of(source, "t")))["t"])
    except PermanentError as error:
        assert "rolls back" in str(error)  # noqa: PT017 - either outcome is right, a silent wrong row is not
    else:
        assert decoded == {2}


def test_rotation_is_reported(source: SqlServer) -> None:
    start = position_of(source)
    source.execute("FLUSH BINARY LOGS")
    rotations = [item for item in read_items(source, start, nothing_mapped) if isinstance(item, Rotate)]
    assert rotations[0].file == start.file
    assert rotations[-1].file == position_of(source).file


def test_a_large_compressed_transaction_is_unpacked_as_it_is_read(mysql: SqlServer) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(2000))")
    start = position_of(mysql)
    rows = ",".join(f"({number}, REPEAT('{number:05d} ', 300))" for number in range(3000))
    mysql.execute(
        "SET binlog_transaction_compression=ON", f"INSERT INTO t VALUES {rows}", "UPDATE t SET v = LEFT(v, 9)"
    )
    items = list(read_items(mysql, start, tables_of(mysql, "t")))
    assert final_rows(items)["t"] == selected_rows(mysql, tables_of(mysql, "t")[mysql.database, "t"])
    ends = [item.pos for item in items if isinstance(item, TransactionEnd)]
    assert len(ends) == 2
    # What is inside has no position of its own: every item of a payload stands at the payload's end.
    assert {item.pos for item in items if isinstance(item, Rows)} == set(ends)
    assert ends[-1] - start.pos < 1_000_000
