"""What is SQLite's own in the SQLite store; what every store must do is in test_job_store.py."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from syncbridge.dispatch.store import Changes
from syncbridge.dispatch.store.sqlite import FORMAT, SqliteStore
from syncbridge.errors import ConfigError, TransientError
from tests.conformance.test_job_store import record, window


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
