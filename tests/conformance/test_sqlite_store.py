"""What is SQLite's own in the SQLite store; what every store must do is in test_job_store.py."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from syncbridge.dispatch.store import UNREADABLE, Changes, JobKey, Promise
from syncbridge.dispatch.store.sqlite import SqliteStore
from syncbridge.dispatch.store.sqlite_file import FORMAT
from syncbridge.errors import ConfigError, TransientError
from tests.conformance.test_job_store import record, window
from tests.servers import eventually


def test_new_files_have_different_identities(tmp_path: Path) -> None:
    one, two = SqliteStore(tmp_path / "1.db"), SqliteStore(tmp_path / "2.db")
    assert one.queue_id != two.queue_id
    one.close()
    two.close()
    two.close()


def test_durability_full_syncs_every_commit(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "queue.db")
    assert store.promise is Promise.FULL
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: fsync of the log in every commit
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_durability_batch_syncs_within_a_second_or_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, float]] = []
    fdatasync = os.fdatasync

    def spy(descriptor: int) -> None:
        fdatasync(descriptor)
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), time.monotonic()))

    monkeypatch.setattr("syncbridge.dispatch.store.syncer.os.fdatasync", spy)
    store = SqliteStore(tmp_path / "queue.db", durability=Promise.BATCH)
    assert store.promise is Promise.BATCH
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (1,)
    started = time.monotonic()
    for number in range(1, 100):
        store.commit(Changes(adds=[record(number)]))
    eventually(lambda: synced, timeout=20)
    assert synced[0][0] == f"{tmp_path}/queue.db-wal"
    assert synced[0][1] - started >= 1, "as often as commits: nothing is gained"
    assert len(synced) == 1
    store.close()
    store.close()
    store = SqliteStore(tmp_path / "queue.db")
    assert len(window(store)) == 99
    store.close()


# -- format 1 --------------------------------------------------------------------------------------------------------

FORMAT_1_JOBS = [
    record(3, b"g", priority=2, unique=b"u", join_key=b"u", attempts=2),
    record(5, payload=b""),
    record(6, payload=bytes(range(256)) * 400),
    record(7, b"my-func \xff", priority=0, unique=b"-", join_key=b"-\0" + bytes(16)),
    *(record(number) for number in range(1000, 3000)),
]


def format_1(path: Path) -> None:
    """A file as the version before wrote it, with a function and a place that only finished jobs used."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.executescript(Path(__file__).with_name("queue_format_1.sql").read_text())
    database.execute("BEGIN")
    database.executemany(
        "INSERT INTO meta VALUES (?,?)", [("format", 1), ("queue_id", "0123456789abcdef" * 2), ("next_id", 1_000_001)]
    )
    functions = {b"f": 1, b"my-func \xff": 2, b"g": 4}
    database.executemany("INSERT INTO function (name, id) VALUES (?,?)", [*functions.items(), (b"gone", 3)])
    database.executemany(
        "INSERT INTO job VALUES (?,?,?,?,?,?,?,?)",
        [
            (functions[j.function], j.priority, j.id, j.unique, j.join_key, j.submitted, j.attempts, j.payload)
            for j in FORMAT_1_JOBS
        ],
    )
    database.execute(
        "INSERT INTO backlog SELECT function_id, priority, count(*), sum(length(payload)) FROM job GROUP BY 1, 2"
    )
    database.execute("INSERT INTO backlog VALUES (3, 1, 0, 0)")
    database.execute("COMMIT")
    database.close()


def test_format_1_is_migrated_with_all_its_jobs(tmp_path: Path) -> None:
    format_1(tmp_path / "queue.db")
    for _ in range(2):
        store = SqliteStore(tmp_path / "queue.db")
        assert (store.queue_id, store.next_id) == ("0123456789abcdef" * 2, 1_000_001)
        assert sorted((b.function, b.priority, b.jobs, b.last_id) for b in store.backlogs()) == [
            (b"f", 1, 2002, 2999),
            (b"g", 2, 1, 3),
            (b"my-func \xff", 0, 1, 7),
        ]
        jobs = {job for function, priority in ((b"f", 1), (b"g", 2), (b"my-func \xff", 0))
                for job in window(store, function, priority, limit=5000, inline=1 << 20)}  # fmt: skip
        assert jobs == set(FORMAT_1_JOBS)
        assert store.joinable(b"g", [b"u"]).get(b"u") == FORMAT_1_JOBS[0]._replace(payload=None)
        names = {name for (name,) in store._writer.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        assert names == {"meta", "place", "job", "result", "setting"}
        store.close()
    store = SqliteStore(tmp_path / "queue.db")
    store.commit(Changes(removes={j.id: JobKey(j.function, j.priority, j.size) for j in FORMAT_1_JOBS}))
    assert store.backlogs() == []
    store.close()


def test_a_crash_during_the_migration_leaves_format_1(tmp_path: Path) -> None:
    """Killed after more and more of its steps, until one run gets through."""
    path = tmp_path / "queue.db"
    format_1(path)
    program = (
        "import itertools, os, sys\n"
        "from syncbridge.dispatch.store import sqlite\n"
        "connect, steps = sqlite.connect, itertools.count()\n"
        "def killed(*arguments):\n"
        "    connection = connect(*arguments)\n"
        "    kill = lambda: next(steps) == int(sys.argv[2]) and os.kill(os.getpid(), 9)\n"
        "    connection.set_progress_handler(kill, 1000)\n"
        "    return connection\n"
        "sqlite.connect = killed\n"
        "sqlite.SqliteStore(sys.argv[1]).close()\n"
    )
    kills = 0
    while subprocess.run([sys.executable, "-c", program, str(path), str(kills * 12)], check=False).returncode == -9:
        kills += 1
        database = sqlite3.connect(path)
        assert database.execute("SELECT value FROM meta WHERE name='format'").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM job").fetchone() == (len(FORMAT_1_JOBS),)
        database.close()
    assert kills > 3
    store = SqliteStore(path)
    assert sum(backlog.jobs for backlog in store.backlogs()) == len(FORMAT_1_JOBS)
    store.close()
    print(f"{kills} kills during the migration")


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


# -- size ------------------------------------------------------------------------------------------------------------


def test_a_worked_off_backlog_gives_its_space_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncbridge.dispatch.store.sqlite._SHRINK_FROM", 4 << 20)
    monkeypatch.setattr("syncbridge.dispatch.store.sqlite._SHRINK_TO", 1 << 20)
    path = tmp_path / "queue.db"
    store = SqliteStore(path)
    key, jobs = JobKey(b"f", 1, 10_000), list(range(1, 1001))
    for rounds in range(2):
        for start in range(0, 1000, 100):
            store.commit(Changes(adds=[record(n, payload=bytes(10_000)) for n in jobs[start : start + 100]]))
        store._writer.execute("PRAGMA wal_checkpoint")
        assert path.stat().st_size > 10_000_000
        for start in range(0, 1000, 100):
            store.commit(Changes(removes={n: key for n in jobs[start : start + 100] if n != 500}))
        assert path.stat().st_size < 2_000_000, rounds
        assert [job.id for job in window(store)] == [500]
        store.commit(Changes(removes={500: key}))
    store.close()


def test_an_emptied_file_shrinks_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue.db"
    store = SqliteStore(path)
    store.commit(Changes(adds=[record(n, payload=bytes(100_000)) for n in range(1, 101)]))
    store.commit(Changes(removes={n: JobKey(b"f", 1, 100_000) for n in range(2, 101)}))
    store.close()
    assert path.stat().st_size > 8_000_000
    monkeypatch.setattr("syncbridge.dispatch.store.sqlite._SHRINK_FROM", 4 << 20)
    store = SqliteStore(path)
    assert [job.id for job in window(store)] == [1]
    store.close()
    assert path.stat().st_size < 500_000


def test_functions_that_come_and_go_do_not_pile_up(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "queue.db")
    store.commit(Changes(adds=[record(1, b"stays")]))
    for start in range(2, 10_002, 500):
        numbers = range(start, start + 500)
        store.commit(Changes(adds=[record(n, b"reply-%d" % n) for n in numbers]))
        store.commit(Changes(removes={n: JobKey(b"reply-%d" % n, 1, 4) for n in numbers}))
    assert store._writer.execute("SELECT max(id) FROM place").fetchone()[0] < 3000
    assert [backlog[:3] for backlog in store.backlogs()] == [(b"stays", 1, 1)]
    store.close()


def test_odd_counts_of_jobs_take_few_statements(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "queue.db")
    first = 1
    for count in (1, 2, 3, 127, 128, 129, 255, 1000):
        store.commit(Changes(adds=[record(n) for n in range(first, first + count)]))
        first += count
    assert [job.id for job in window(store, limit=5000)] == list(range(1, first))
    removes = [n for n in range(1, first) if n % 7]
    store.commit(Changes(removes={n: JobKey(b"f", 1, 4) for n in random.Random(1).sample(removes, len(removes))}))
    assert [job.id for job in window(store, limit=5000)] == [n for n in range(1, first) if n % 7 == 0]
    store.close()


# -- damage ----------------------------------------------------------------------------------------------------------


def damaged(path: Path, page: int) -> None:
    """Noise over one page of the closed file."""
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(random.Random(page).randbytes(4096))


def filled(path: Path) -> dict[str, int]:
    """A closed store with jobs of one page or more each; returns the first page of its tables."""
    store = SqliteStore(path)
    store.commit(Changes(adds=[record(n, payload=bytes(20_000 if n == 50 else 2000)) for n in range(1, 101)]))
    pages = dict(store._writer.execute("SELECT name, rootpage FROM sqlite_master"))
    store.close()
    return pages


@pytest.mark.parametrize("table", ["file header", "meta", "place"])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, table: str) -> None:
    path = tmp_path / "queue.db"
    pages = filled(path) | {"file header": 1}
    damaged(path, pages[table])
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            SqliteStore(path)
        assert "\n" not in str(caught.value)
        assert ("recover" if table != "file header" else "file that syncbridge created") in caught.value.hint


def test_a_damaged_page_of_jobs_is_a_sentence_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    damaged(path, filled(path)["job"])
    store = SqliteStore(path)
    with pytest.raises(TransientError, match="cannot be read") as caught:
        window(store)
    assert "recover" in caught.value.hint
    with pytest.raises(TransientError, match="cannot be written") as caught:
        store.commit(Changes(adds=[record(101)]))
    assert "recover" in caught.value.hint
    store.close()


def test_a_damaged_payload_keeps_no_other_job_back(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    filled(path)
    data = path.read_bytes()
    # The pages that hold nothing but the middle of the one large payload: a link and zeros.
    overflow = [
        at // 4096 + 1
        for at in range(0, len(data), 4096)
        if not any(data[at + 4 : at + 4096]) and any(data[at : at + 4])
    ]
    damaged(path, overflow[1])
    store = SqliteStore(path)
    jobs = window(store, limit=1000, inline=1 << 20)
    assert [job.id for job in jobs] == list(range(1, 101))
    assert [job.id for job in jobs if job.size == UNREADABLE] == [50]
    assert all(job.payload == bytes(2000) for job in jobs if job.id != 50)
    assert store.payload(b"f", 1, 50) is None
    store.close()


def test_a_damaged_page_keeps_no_other_job_back(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    store = SqliteStore(path)
    store.commit(Changes(adds=[record(n, payload=b"job %4d" % n * 20) for n in range(1, 2001)]))
    store.close()
    data = path.read_bytes()
    page = data.index(b"job 1000") // 4096
    lost = [n for n in range(1, 2001) if b"job %4d" % n in data[page * 4096 : page * 4096 + 4096]]
    assert 10 < len(lost) < 100
    assert data[page * 4096] == 13, "a leaf"
    damaged(path, page + 1)
    store = SqliteStore(path)
    assert [job.id for job in window(store, limit=5000)] == [n for n in range(1, 2001) if n not in lost]
    assert [job.id for job in window(store, after=900, limit=300)] == [n for n in range(901, 2001) if n not in lost][
        :300
    ]
    assert [job.id for job in window(store, after=lost[3], limit=5000)] == list(range(lost[-1] + 1, 2001))
    store.commit(Changes(adds=[record(3000)], removes={1: JobKey(b"f", 1, 160), 2000: JobKey(b"f", 1, 160)}))
    assert window(store, after=2000) == [record(3000)]
    store.close()
