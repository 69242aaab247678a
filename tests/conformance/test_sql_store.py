"""What is particular to the stores in MySQL, MariaDB and PostgreSQL; what all stores do is in test_job_store.py."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import (
    READY,
    SCHEDULED,
    UNREADABLE,
    Changes,
    JobKey,
    Move,
    Promise,
    Result,
    StoredBacklog,
)
from syncbridge.dispatch.store.sql import SqlStore
from syncbridge.dispatch.store.sql.tables import PIECE
from syncbridge.errors import ConfigError, TransientError
from tests.servers import MariaDB, MySQL, PostgreSQL, SqlServer, eventually
from tests.servers.wire import Wire

Server = SqlServer | PostgreSQL
NOW = 1_700_000_000_000_000
HERE = JobKey(b"f", 1, 4)


@pytest.fixture(params=["mariadb", "mysql", "postgresql"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def opened() -> Iterator[Callable[..., SqlStore]]:
    """Opens stores, and closes them after the test."""
    with ExitStack() as stack:

        def open_store(url: str, **arguments: Any) -> SqlStore:
            store = SqlStore(url, **arguments)
            stack.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with Wire(server.port) as wire:
        yield wire


def url(server: Server, port: int = 0, **options: object) -> str:
    found = server.url(database=server.database).replace(f":{server.port}/", f":{port or server.port}/")
    return found + "?" + "&".join(f"{name}={value}" for name, value in options.items())


def record(number: int, payload: bytes = b"data", **other: object) -> JobRecord:
    base = JobRecord(number, b"f", 1, b"", None, NOW, 0, payload, len(payload))
    return base._replace(**other)  # type: ignore[arg-type]


def ids(store: SqlStore, function: bytes = b"f") -> list[int]:
    return [job.id for job in store.window(function, 1, after=0, through=10**15, limit=100_000, inline=10)]


def end_connections(server: Server) -> int:
    """As an administrator, or a router that forgets, would. How many there were."""
    if isinstance(server, PostgreSQL):
        return len(
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = '{server.database}' AND pid <> pg_backend_pid()"
            )
        )
    found = server.execute(
        f"SELECT id FROM information_schema.processlist WHERE db = '{server.database}' AND command = 'Sleep'"
    )
    server.execute("SELECT 1", *(f"KILL {number}" for (number,) in found))
    return len(found)


# -- one server at a time --------------------------------------------------------------------------------------------


def test_a_second_server_is_refused_as_long_as_the_first_lives(server: Server, opened: Callable[..., SqlStore]) -> None:
    first = opened(url(server))
    with pytest.raises(TransientError, match="is in use by another process") as caught:
        opened(url(server))
    assert "stop the other" in caught.value.hint
    first.commit(Changes(adds=[record(1)]))
    first.close()
    assert ids(opened(url(server))) == [1]


def test_a_server_that_lost_the_store_to_another_commits_no_more(
    server: Server, wire: Wire, opened: Callable[..., SqlStore]
) -> None:
    first = opened(url(server, wire.port))
    first.commit(Changes(adds=[record(1)]))
    wire.down = True
    wire.cut()
    second = eventually(lambda: _try_to_open(opened, url(server)))
    second.commit(Changes(adds=[record(2)]))
    wire.down = False
    with pytest.raises(TransientError, match="in use by another process"):
        first.commit(Changes(adds=[record(3)]))
    second.close()
    for _ in range(2):
        with pytest.raises(TransientError, match="taken over by another server") as caught:
            first.commit(Changes(adds=[record(3)], removes={1: HERE}))
    assert caught.value.hint
    assert ids(opened(url(server))) == [1, 2]


def _try_to_open(opened: Callable[..., SqlStore], where: str) -> SqlStore | None:
    try:
        return opened(where)
    except TransientError:
        return None


def test_a_commit_on_a_connection_whose_lock_is_gone_writes_nothing(
    server: Server, opened: Callable[..., SqlStore]
) -> None:
    """The owner in the meta row decides, even where both believe that they have the lock."""
    store = opened(url(server))
    store.commit(Changes(adds=[record(1)]))
    server.execute("UPDATE syncbridge_queue_meta SET owner = 'another'")
    with pytest.raises(TransientError, match="taken over by another server"):
        store.commit(Changes(adds=[record(2)], removes={1: HERE}))
    assert server.execute("SELECT id FROM syncbridge_queue_job") in ([(1,)], ((1,),))


def test_another_queue_in_its_place_is_noticed(server: Server, opened: Callable[..., SqlStore]) -> None:
    store = opened(url(server))
    server.execute("UPDATE syncbridge_queue_meta SET queue_id = 'restored'")
    end_connections(server)
    with pytest.raises(TransientError, match="is another queue now"):
        store.commit(Changes(adds=[record(1)]))


def test_a_queue_that_was_set_back_gets_another_id(server: Server, opened: Callable[..., SqlStore]) -> None:
    """Restored from a backup while we run, or its server crashed and promises less than FULL."""
    store = opened(url(server))
    former = store.queue_id
    for number in (1, 2, 3):
        store.commit(Changes(adds=[record(number)]))
    server.execute(
        "DELETE FROM syncbridge_queue_job WHERE id > 1",
        "UPDATE syncbridge_queue_backlog SET jobs = 1, bytes = 4",
        "UPDATE syncbridge_queue_meta SET commits = commits - 2",
    )
    end_connections(server)
    store.commit(Changes(adds=[record(4)], removes={3: HERE}))
    assert ids(store) == [1, 4]
    assert store.backlogs() == [StoredBacklog(b"f", 1, 2, 8, 4)]
    later = store.queue_id
    assert len(later) == 32
    assert later != former
    end_connections(server)
    store.commit(Changes(removes={1: HERE}))
    store.close()
    assert opened(url(server)).queue_id == later


# -- connections that break ------------------------------------------------------------------------------------------


def test_lost_connections_are_replaced_without_a_word(server: Server, opened: Callable[..., SqlStore]) -> None:
    store = opened(url(server))
    for number in (1, 2, 3):
        store.commit(Changes(adds=[record(number)]))
        assert ids(store) == list(range(1, number + 1))
        assert end_connections(server) == 2
    store.commit(Changes(removes={2: HERE}))
    assert store.backlogs() == [StoredBacklog(b"f", 1, 2, 8, 3)]


BEFORE = [record(n) for n in (1, 2, 3, 4)]
CHANGES = Changes(
    adds=[record(n) for n in range(5, 300)] + [record(300, b"x" * 1000, function=b"g")],
    moves={2: Move(HERE, b"h", 3, SCHEDULED, NOW)},
    attempts={3: (HERE, 7)},
    removes={1: HERE, 5: HERE},
    results=[Result(1, b"f", b"", 13, b"1", b"1", b"done", NOW, NOW + 1)],
    settings={b"s": b"v"},
    reserve=1000,
)


def holds_changes(store: SqlStore) -> None:
    assert sorted(store.backlogs()) == [
        StoredBacklog(b"f", 1, 296, 4 * 296, 299),
        StoredBacklog(b"g", 1, 1, 1000, 300),
        StoredBacklog(b"h", 1, 1, 4, 2, SCHEDULED),
    ]
    assert ids(store) == [3, 4, *range(6, 300)]
    assert store.result(1) == CHANGES.results[0]


@pytest.mark.parametrize("mark", [b"COMMIT", b"syncbridge_queue_job", b"syncbridge_queue_backlog"])
@pytest.mark.parametrize("happens", [False, True], ids=["request lost", "answer lost"])
def test_a_commit_cut_in_the_middle_happens_once(
    server: Server, wire: Wire, opened: Callable[..., SqlStore], mark: bytes, happens: bool
) -> None:
    store = opened(url(server, wire.port, ssl="false"))
    store.commit(Changes(adds=BEFORE))
    (wire.cut_after if happens else wire.cut_before)(mark)
    store.commit(CHANGES)
    assert wire.cuts == 1
    holds_changes(store)
    store.close()
    holds_changes(opened(url(server)))


@pytest.mark.parametrize("happens", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("reading", [False, True], ids=["commit next", "read next"])
def test_what_a_failed_commit_added_is_gone_however_it_ended(
    server: Server, wire: Wire, opened: Callable[..., SqlStore], happens: bool, reading: bool
) -> None:
    """The core refused those jobs. What was to move or leave, the core asks for again, from where it was before."""
    store = opened(url(server, wire.port, ssl="false"))
    store.commit(Changes(adds=BEFORE))
    wire.down_after_cut = True
    (wire.cut_after if happens else wire.cut_before)(b"COMMIT")
    with pytest.raises(TransientError):
        store.commit(CHANGES)
    with pytest.raises(TransientError):
        ids(store)
    with pytest.raises(TransientError):
        store.commit(CHANGES)
    wire.down = False
    if reading:
        assert set(ids(store)) <= {1, 2, 3, 4}
    store.commit(
        Changes(
            adds=[record(7), record(301)],
            moves={2: Move(HERE, b"elsewhere", 4, READY)},
            removes=CHANGES.removes,
            attempts=CHANGES.attempts,
        )
    )
    for _ in range(2):
        assert ids(store) == [3, 4, 7, 301]
        assert sorted(store.backlogs()) == [
            StoredBacklog(b"elsewhere", 1, 1, 4, 2),
            StoredBacklog(b"f", 1, 4, 16, 301),
        ]
        store.close()
        store = opened(url(server))


@pytest.mark.parametrize("kind", ["mariadb", "mysql", "postgresql"])
def test_a_frozen_server_costs_seconds_not_the_thread(
    request: pytest.FixtureRequest, opened: Callable[..., SqlStore], kind: str
) -> None:
    server: MariaDB | MySQL | PostgreSQL = request.getfixturevalue(f"new_{kind}")()
    server.execute("CREATE DATABASE queue")
    server.database = "queue"
    store = opened(url(server, timeout=2))
    store.commit(Changes(adds=[record(1), record(2)]))
    assert ids(store) == [1, 2]
    server.freeze()
    for act in (lambda: store.commit(Changes(adds=[record(3)])), lambda: ids(store), lambda: store.find(1)):
        started = time.monotonic()
        with pytest.raises(TransientError):
            act()
        assert time.monotonic() - started < 10, f"{kind} froze us too"
    server.thaw()
    eventually(lambda: _succeeds(lambda: store.commit(Changes(adds=[record(4)], removes={1: HERE}))))
    assert ids(store) == [2, 4]
    assert store.backlogs() == [StoredBacklog(b"f", 1, 2, 8, 4)]


def _succeeds(act: Callable[[], object]) -> bool:
    try:
        act()
    except TransientError:
        return False
    return True


def test_a_statement_that_waits_for_a_lock_gives_up(server: Server, opened: Callable[..., SqlStore]) -> None:
    store = opened(url(server, timeout=1))
    store.commit(Changes(adds=[record(1)]))
    with server.connect(autocommit=False) as other:
        other.cursor().execute("SELECT * FROM syncbridge_queue_meta FOR UPDATE")
        started = time.monotonic()
        with pytest.raises(TransientError):
            store.commit(Changes(adds=[record(2)]))
        assert time.monotonic() - started < 10
        other.rollback()
    store.commit(Changes(adds=[record(3)]))
    assert ids(store) == [1, 3]


# -- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mariadb", "mysql"])
def test_no_payload_is_too_large_for_a_packet(
    request: pytest.FixtureRequest, opened: Callable[..., SqlStore], kind: str
) -> None:
    server = request.getfixturevalue(f"new_{kind}")(max_allowed_packet=1 << 20)
    server.execute("CREATE DATABASE queue")
    server.database = "queue"
    store = opened(url(server))
    sizes = [PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 20_000_001]
    jobs = [record(n, random.randbytes(size)) for n, size in enumerate(sizes, 1)]
    results = [Result(job.id, b"f", b"", 13, b"", b"", job.payload or b"", NOW, NOW + job.id) for job in jobs]
    store.commit(Changes(adds=jobs, results=results))
    store.commit(Changes(results=results))
    store.close()
    store = opened(url(server))
    assert [store.payload(b"f", 1, job.id) == job.payload for job in jobs] == [True] * 5
    assert [store.result(one.id) == one for one in results] == [True] * 5
    assert store.window(b"f", 1, after=0, through=9, limit=9, inline=6 * PIECE)[:4] == jobs[:4]
    store.commit(
        Changes(
            moves={4: Move(JobKey(b"f", 1, sizes[3]), b"g", 1)},
            removes={job.id: JobKey(b"f", 1, job.size) for job in jobs if job.id != 4},
            expire_results=NOW + 4,
        )
    )
    assert store.payload(b"g", 1, 4) == jobs[3].payload
    assert [store.result(one.id) for one in results[:4]] == [None] * 4
    assert {number for (number,) in server.execute("SELECT id FROM syncbridge_queue_piece")} == {4, -5}


def test_a_payload_that_lacks_a_piece_is_unreadable(server: Server, opened: Callable[..., SqlStore]) -> None:
    store = opened(url(server))
    store.commit(Changes(adds=[record(1, bytes(3 * PIECE)), record(2)]))
    server.execute("DELETE FROM syncbridge_queue_piece WHERE id = 1 AND part = 1")
    assert store.payload(b"f", 1, 1) is None
    assert [job.size for job in store.window(b"f", 1, after=0, through=9, limit=9, inline=1 << 30)] == [UNREADABLE, 4]


def test_a_server_that_takes_only_tiny_packets_is_refused(
    new_mariadb: Callable[..., MariaDB], opened: Callable[..., SqlStore]
) -> None:
    server = new_mariadb(max_allowed_packet=100_000)
    server.execute("CREATE DATABASE queue")
    server.database = "queue"
    with pytest.raises(ConfigError, match="max_allowed_packet") as caught:
        opened(url(server))
    assert "SET GLOBAL max_allowed_packet" in caught.value.hint


def test_many_places_and_functions_in_one_commit(server: Server, opened: Callable[..., SqlStore]) -> None:
    store = opened(url(server))
    jobs = [record(n, function=b"f%d" % n, priority=n % 3) for n in range(1, 301)]
    store.commit(Changes(adds=jobs))
    places = {job.id: JobKey(job.function, job.priority, job.size) for job in jobs}
    assert sorted(store.backlogs()) == sorted(StoredBacklog(job.function, job.priority, 1, 4, job.id) for job in jobs)
    moves = {n: Move(places[n], b"g", n, SCHEDULED, NOW + n) for n in range(1, 151)}
    store.commit(Changes(moves=moves, removes={n: places[n] for n in range(151, 301)}))
    assert [(job.id, job.due, job.attempts) for job in store.by_due(SCHEDULED, after=(0, 0), limit=1000)] == [
        (n, NOW + n, n) for n in range(1, 151)
    ]
    assert sum(backlog.jobs for backlog in store.backlogs()) == 150
    store.commit(Changes(moves={n: Move(JobKey(b"g", n % 3, 4, SCHEDULED), b"g", n) for n in range(1, 151)}))
    assert [backlog[:3] for backlog in sorted(store.backlogs())] == [(b"g", priority, 50) for priority in range(3)]
    store.close()
    store = opened(url(server))
    assert server.value("SELECT count(*) FROM syncbridge_queue_function") == 1
    store.commit(Changes(adds=[record(1000, function=b"new")]))
    assert [job.id for job in store.window(b"new", 1, after=0, through=2000, limit=9, inline=9)] == [1000]


def test_names_that_only_finished_jobs_used_are_forgotten(server: Server, opened: Callable[..., SqlStore]) -> None:
    store = opened(url(server))
    store._writer._crowded = 20
    store.commit(Changes(adds=[record(1, function=b"stays")]))
    last = JobKey(b"", 0, 0)
    for number in range(2, 102):
        name = b"f%d" % (number % 60)
        removes = {number - 1: last} if last.function else {}
        store.commit(Changes(adds=[record(number, function=name)], removes=removes))
        last = JobKey(name, 1, 4)
        if number % 30 == 2:
            store._writer._crowded = 20
    assert server.value("SELECT count(*) FROM syncbridge_queue_function") < 60
    assert sorted(store.backlogs()) == [StoredBacklog(b"f41", 1, 1, 4, 101), StoredBacklog(b"stays", 1, 1, 4, 1)]
    assert (ids(store, b"f41"), ids(store, b"stays"), ids(store, b"f40")) == ([101], [1], [])


# -- what it promises ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "promise"),
    [
        ({}, Promise.FULL),
        ({"innodb_flush_log_at_trx_commit": 2}, Promise.BATCH),
        ({"innodb_flush_log_at_trx_commit": 0}, Promise.BATCH),
        ({"sync_binlog": 0}, Promise.BATCH),
        ({"sync_binlog": 0, "log_bin": None}, Promise.FULL),
    ],
)
def test_mariadb_promises_what_its_server_is_set_up_for(
    new_mariadb: Callable[..., MariaDB], opened: Callable[..., SqlStore], options: dict[str, object], promise: Promise
) -> None:
    server = new_mariadb(**options)
    server.execute("CREATE DATABASE queue")
    server.database = "queue"
    assert opened(url(server)).promise is promise


def test_postgresql_commits_as_it_is_told(postgresql: PostgreSQL, opened: Callable[..., SqlStore]) -> None:
    postgresql.execute(f"ALTER DATABASE {postgresql.database} SET synchronous_commit = off")
    store = opened(url(postgresql))
    assert store.promise is Promise.FULL
    store.close()
    assert opened(url(postgresql), durability=Promise.BATCH).promise is Promise.BATCH


def test_postgresql_without_fsync_promises_less(
    new_postgresql: Callable[..., PostgreSQL], opened: Callable[..., SqlStore]
) -> None:
    assert opened(url(new_postgresql(fsync=False))).promise is Promise.BATCH


# -- getting in ------------------------------------------------------------------------------------------------------


def test_what_keeps_us_out_is_said_in_a_sentence(server: Server, opened: Callable[..., SqlStore]) -> None:
    def refused(where: str, kind: type[Exception]) -> str:
        with pytest.raises(kind) as caught:
            opened(where)
        assert "\n" not in str(caught.value)
        assert getattr(caught.value, "hint", "")
        assert "s3cret" not in str(caught.value)
        return str(caught.value)

    refused(server.url("nobody", "s3cret", server.database), ConfigError)
    assert "nowhere" in refused(server.url(database="nowhere"), ConfigError)
    with Wire(server.port) as wire:
        wire.down = True
        refused(url(server, wire.port), TransientError)
    refused(url(server, wire.port), TransientError)
    server.execute("CREATE TABLE syncbridge_queue_meta (id int, other int)")
    refused(url(server), ConfigError)


def test_an_account_without_rights_is_refused(server: Server, opened: Callable[..., SqlStore]) -> None:
    user = f"reader_{server.database}"
    opened(url(server)).close()
    if isinstance(server, PostgreSQL):
        server.execute(f"CREATE USER {user}", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
    else:
        server.create_user(user, "", f"SELECT ON {server.database}.*")
    with pytest.raises(ConfigError) as caught:
        opened(server.url(user, database=server.database))
    assert "GRANT ALL" in caught.value.hint


@pytest.mark.parametrize("kind", ["mariadb", "mysql", "postgresql"])
def test_tls_never_falls_back(request: pytest.FixtureRequest, opened: Callable[..., SqlStore], kind: str) -> None:
    factory = request.getfixturevalue(f"new_{kind}")
    secure, other = factory(ssl=True), factory(**({"skip_ssl": True} if kind == "mariadb" else {}))
    for server in (secure, other):
        server.execute("CREATE DATABASE queue")
        server.database = "queue"
    opened(url(secure, ssl_ca=secure.ssl_ca)).commit(Changes(adds=[record(1)]))
    if kind == "postgresql":
        assert secure.value(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND datname = 'queue'"
        )
    if kind != "mysql":  # which makes itself a certificate
        with pytest.raises(ConfigError, match=r"SSL|TLS"):
            opened(url(other, ssl_verify="false"))
    foreign = request.getfixturevalue("new_postgresql")(ssl=True).ssl_ca
    with pytest.raises(ConfigError, match="cert"):
        opened(url(secure, ssl_ca=foreign))


# -- reading along an index ------------------------------------------------------------------------------------------


def test_reads_stay_fast_beside_a_backlog_that_no_statistics_know(
    server: Server, opened: Callable[..., SqlStore]
) -> None:
    """What is read is a few rows, wherever they lie among 60,000 others; a scan would read them all."""
    store = opened(url(server))
    for start in range(1, 60_001, 5000):
        store.commit(Changes(adds=[record(n, function=b"big", join_key=b"%d" % n) for n in range(start, start + 5000)]))
    store.commit(
        Changes(
            adds=[
                record(70_001, join_key=b"k"),
                record(70_002, state=SCHEDULED, due=NOW),
                *(record(n, function=b"big") for n in range(70_003, 70_006)),
            ]
        )
    )

    def rows_read(act: Callable[[], object], times: int) -> float:
        connection = store._reader._connection
        assert connection is not None
        if isinstance(server, PostgreSQL):
            counters = (
                "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables "
                "WHERE relname LIKE 'syncbridge_queue_%'"
            )
            connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
            before = server.value(counters)
            for _ in range(times):
                act()
            connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
            return int(server.value(counters) - before) / times
        connection.exec_driver_sql("FLUSH STATUS")
        for _ in range(times):
            act()
        found = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%'").all()
        return sum(int(value) for _, value in found) / times

    assert store.find(1) is not None
    for act, most in (
        (lambda: store.window(b"f", 1, after=0, through=10**9, limit=10, inline=100), 20),
        (lambda: store.window(b"big", 1, after=30_000, through=10**9, limit=10, inline=100), 60),
        (lambda: store.by_due(SCHEDULED, after=(0, 0), limit=10), 20),
        (lambda: store.joinable(b"f", [b"k"]), 10),
        (lambda: store.joinable(b"big", [b"1"]), 10),
        (lambda: store.find(5), 10),
        (store.backlogs, 60),
    ):
        # More than once: a server may plan anew when it has seen a statement often.
        read = rows_read(act, 12)
        print(f"{read:.0f} rows read, {most} allowed", end="; ")
        assert read <= most
    assert [b[:3] for b in sorted(store.backlogs())] == [(b"big", 1, 60_003), (b"f", 1, 1), (b"f", 1, 1)]
    assert store.window(b"big", 1, after=59_999, through=70_004, limit=10, inline=1, state=READY)[-1].id == 70_004
