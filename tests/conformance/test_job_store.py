"""What every job store must do, run against each of them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import Changes, JobKey, JobStore, StoredBacklog
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.dispatch.store.sqlite import FORMAT, SqliteStore
from syncbridge.errors import ConfigError, TransientError

Opener = Callable[[], JobStore]


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the store; a second call is the next process (the memory store only survives by being kept)."""
    kept: list[JobStore] = []

    def opener() -> JobStore:
        if request.param == "memory":
            kept[:] = kept or [MemoryStore()]
            return kept[0]
        for store in kept:
            store.close()
        kept[:] = [SqliteStore(tmp_path / "queue.db")]
        return kept[0]

    yield opener
    for store in kept:
        store.close()


def record(
    number: int, function: bytes = b"f", priority: int = 1, payload: bytes = b"data", **other: object
) -> JobRecord:
    base = JobRecord(number, function, priority, b"", None, 1_700_000_000_000_000, 0, payload, len(payload))
    return base._replace(**other)  # type: ignore[arg-type]


def window(store: JobStore, function: bytes = b"f", priority: int = 1, **bounds: int) -> list[JobRecord]:
    return store.window(function, priority, **({"after": 0, "through": 10**18, "limit": 100, "inline": 1000} | bounds))


AWKWARD = [
    record(1, payload=b""),
    record(2, payload=b"\0a\0"),
    record(3, unique=b"-"),
    record(4, unique=b"-"),
    record(5, unique=bytes(range(64))),
    record(6, function=b"my-func-x"),
    record(7, function=b'it\'s "quoted" \xff'),
    record(8, priority=0),
    record(9, priority=2),
    record(10, payload="snö ☃".encode()),
    record(11, payload=bytes(3 << 20)),
    record(12, join_key=b"k", attempts=2),
]


def test_awkward_jobs_survive_unchanged(reopen: Opener) -> None:
    reopen().commit(Changes(adds=AWKWARD))
    store = reopen()
    for job in AWKWARD:
        assert [job] == [
            found for found in window(store, job.function, job.priority, inline=4 << 20) if found.id == job.id
        ]
        assert store.payload(job.function, job.priority, job.id) == job.payload
        assert store.find(job.id) == job._replace(payload=None)
    assert sum(backlog.jobs for backlog in store.backlogs()) == len(AWKWARD)


def test_window_is_bounded_ordered_and_leaves_big_payloads_out(reopen: Opener) -> None:
    store = reopen()
    store.commit(Changes(adds=[record(n, payload=bytes(n)) for n in range(1, 30)]))
    assert [job.id for job in window(store, after=3, through=9)] == [4, 5, 6, 7, 8, 9]
    assert [job.id for job in window(store, limit=2)] == [1, 2]
    assert [(job.id, job.size, job.payload) for job in window(store, after=9, through=11, inline=10)] == [
        (10, 10, bytes(10)),
        (11, 11, None),
    ]
    assert window(store, b"other") == []
    assert window(store, priority=0) == []


def test_moved_noted_and_removed(reopen: Opener) -> None:
    store = reopen()
    store.commit(Changes(adds=[record(n) for n in (1, 2, 3)]))
    store.commit(
        Changes(
            adds=[record(4), record(5)],
            moves={1: (JobKey(b"f", 1, 4), b"f.isolated", 3)},
            attempts={2: (JobKey(b"f", 1, 4), 1)},
            removes={3: JobKey(b"f", 1, 4), 4: JobKey(b"f", 1, 4)},
        )
    )
    store = reopen()
    assert window(store) == [record(2, attempts=1), record(5)]
    assert window(store, b"f.isolated") == [record(1, function=b"f.isolated", attempts=3)]
    assert sorted(store.backlogs()) == [StoredBacklog(b"f", 1, 2, 8, 5), StoredBacklog(b"f.isolated", 1, 1, 4, 1)]
    assert store.find(3) is None
    assert store.payload(b"f", 1, 3) is None
    store.commit(Changes(moves={5: (JobKey(b"f", 1, 4), b"g", 3)}, removes={5: JobKey(b"g", 1, 4)}))
    assert window(store, b"g") == []
    assert sorted(reopen().backlogs())[0] == StoredBacklog(b"f", 1, 1, 4, 2)


def test_emptied_functions_leave_nothing_behind(reopen: Opener) -> None:
    store = reopen()
    store.commit(Changes(adds=[record(1)]))
    store.commit(Changes(removes={1: JobKey(b"f", 1, 4)}))
    store = reopen()
    assert store.backlogs() == []
    store.commit(Changes(adds=[record(2)]))
    assert [job.id for job in window(store)] == [2]


def test_joinable_finds_the_newest_of_its_function_only(reopen: Opener) -> None:
    store = reopen()
    store.commit(Changes(adds=[record(1, join_key=b"k"), record(2, join_key=b"k"), record(3, b"g", join_key=b"k")]))
    assert store.joinable(b"f", b"k") == record(2, join_key=b"k")._replace(payload=None)
    assert store.joinable(b"f", b"other") is None
    assert store.joinable(b"nobody", b"k") is None


def test_identity_and_counter_survive(reopen: Opener) -> None:
    store = reopen()
    identity, first = store.queue_id, store.next_id
    assert len(identity) == 32
    assert first == 1
    store.commit(Changes(reserve=500))
    store.commit(Changes(adds=[record(7)]))
    assert (reopen().queue_id, reopen().next_id) == (identity, 500)


# -- the SQLite file -------------------------------------------------------------------------------------------------


def test_new_files_have_different_identities(tmp_path: Path) -> None:
    one, two = SqliteStore(tmp_path / "1.db"), SqliteStore(tmp_path / "2.db")
    assert one.queue_id != two.queue_id
    one.close()
    two.close()
    two.close()


def test_every_commit_is_synced(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "queue.db")
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: fsync of the log in every commit
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_a_newer_format_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value=? WHERE name='format'", (FORMAT + 1,))
    database.close()
    with pytest.raises(ConfigError, match=f"has format {FORMAT + 1}, this syncbridge reads format {FORMAT}") as caught:
        SqliteStore(path)
    assert caught.value.hint
    with pytest.raises(ConfigError, match="format"):  # refused again, not "in use": the lock was let go
        SqliteStore(path)


def test_something_that_is_no_queue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to look at. " * 100)
    with pytest.raises(ConfigError, match="cannot be used"):
        SqliteStore(tmp_path / "text")
    with sqlite3.connect(tmp_path / "foreign.db") as database:
        database.execute("CREATE TABLE t (x)")
    database.close()
    with pytest.raises(ConfigError, match="cannot be used"):
        SqliteStore(tmp_path / "foreign.db")
    with pytest.raises(ConfigError, match="cannot be created"):
        SqliteStore(tmp_path / "text" / "below-a-file.db")


def test_two_processes_do_not_share_a_store(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    store = SqliteStore(path)
    program = (
        "import sys; from syncbridge.dispatch.store.sqlite import SqliteStore\n"
        "try: SqliteStore(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    other = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert other.stdout.startswith("TransientError queue store")
    assert "in use by another process" in other.stdout
    store.close()
    SqliteStore(path).close()


def test_a_failed_commit_leaves_nothing_and_the_store_goes_on(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "queue.db")
    store.commit(Changes(adds=[record(1)]))
    limit_pages(store, 20)
    with pytest.raises(TransientError, match="full"):
        store.commit(Changes(adds=[record(2), record(3, b"new function", payload=bytes(1 << 20))]))
    assert [job.id for job in window(store)] == [1]
    limit_pages(store, 100_000)
    store.commit(Changes(adds=[record(3, b"new function", payload=bytes(1 << 20))]))
    assert [(b.function, b.jobs) for b in sorted(store.backlogs())] == [(b"f", 1), (b"new function", 1)]
    assert [job.id for job in window(store, b"new function")] == [3]
    store.close()


def limit_pages(store: SqliteStore, pages: int) -> None:
    """The disk is full from here on."""
    store._writer.execute(f"PRAGMA max_page_count={pages}")
