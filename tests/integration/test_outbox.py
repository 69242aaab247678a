"""The outbox as capture reads it, on real servers: late rows, long transactions, locks of others, restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pytest

from syncbridge.capture.trigger import outbox as module
from syncbridge.capture.trigger.outbox import Outbox
from syncbridge.capture.trigger.render import outbox_statements
from syncbridge.errors import PositionLost
from tests.servers import SqlServer, eventually

TABLE = "syncbridge.outbox_shop"


@pytest.fixture(autouse=True)
def never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine."""
    monkeypatch.setattr(module, "_SLOW", 3600)


@pytest.fixture
def made(source: SqlServer) -> SqlServer:
    return make(source)


def make(source: SqlServer) -> SqlServer:
    source.execute("DROP DATABASE IF EXISTS syncbridge", *outbox_statements("shop"))
    return source


@contextmanager
def reading(source: SqlServer, last: int = 0, **account: str) -> Iterator[Outbox]:
    outbox = Outbox("shop", lambda: source.connect(**account))
    outbox.last = last
    try:
        yield outbox
    finally:
        outbox.close()


def test_a_table_whose_rows_went_to_another_queue_counts_as_made_anew(made: SqlServer) -> None:
    with reading(made) as outbox:
        first = outbox.made
        for queue in ("", "ours", "ours"):
            outbox.claim(queue)
            assert outbox.made == first
    with reading(made) as outbox:
        assert outbox.made == first
        outbox.claim("theirs")
        assert outbox.made != first
        outbox.check()
        with reading(made) as other:
            assert other.made == outbox.made


def rows(count: int, text: str = "{}") -> str:
    """An INSERT as triggers write it."""
    values = ",".join(["(1, 'c', 'd', 't', '{}', %r)" % text] * count)  # noqa: UP031
    return f"INSERT INTO {TABLE} (written_us, op, db, name, new_key, new_row) VALUES {values}"


@contextmanager
def session(source: SqlServer) -> Iterator[Any]:
    """A cursor in an open transaction."""
    with source.connect(autocommit=False) as connection, connection.cursor() as cursor:
        yield cursor


def ids(outbox: Outbox) -> list[int]:
    return [row.id for row in outbox.poll()]


def until_empty(outbox: Outbox) -> list[list[int]]:
    """What each poll gave until one gave nothing."""
    polls = []
    while polled := ids(outbox):
        polls.append(polled)
    return polls


def flat(polls: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(polls))


def test_a_long_transaction_that_commits_behind_others_is_read_in_large_batches(made: SqlServer) -> None:
    with reading(made) as outbox, session(made) as late:
        late.execute(rows(5000))
        made.execute(rows(3))
        assert sum(map(len, until_empty(outbox))) == 3
        late.execute("COMMIT")
        made.execute(rows(1))
        polls = until_empty(outbox)
        assert sum(map(len, polls)) == 5001
        assert flat(polls) == sorted(flat(polls))
        assert len(polls) <= 7


def test_what_a_crash_left_is_read_again_in_large_batches(made: SqlServer) -> None:
    made.execute(rows(5000))
    with reading(made, last=5000) as outbox:
        polls = until_empty(outbox)
        outbox.delete(polls[0])
    assert [len(polled) for polled in polls] == [1000] * 5
    made.execute(rows(1))
    with reading(made, last=5000) as outbox:
        polls = until_empty(outbox)
        assert len(set(flat(polls))) == 4001
        assert outbox.last == 5001


def test_of_two_changes_to_one_row_the_older_is_never_read_after_the_newer(made: SqlServer) -> None:
    """The newer one may get the lower epoch then, and the older one would win."""
    with reading(made) as outbox, session(made) as older:
        older.execute(rows(1))
        made.execute(rows(1))
        assert ids(outbox) == [2]
        older.execute("COMMIT")
        made.execute(rows(1))
        assert ids(outbox) == [1, 3]


def test_deleting_does_not_wait_for_an_open_transaction(made: SqlServer) -> None:
    with reading(made) as outbox, session(made) as before, session(made) as behind:
        before.execute(rows(1))
        made.execute(rows(10))
        behind.execute(rows(1))
        began = time.monotonic()
        outbox.delete(ids(outbox))
        took = time.monotonic() - began
        assert made.value(f"SELECT COUNT(*) FROM {TABLE} WHERE id > 0") == 0
        assert took < 0.9


def test_rows_that_somebody_has_locked_are_deleted_later_and_in_order(
    made: SqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DELETE_AGAIN", 0.05)
    with reading(made) as outbox:
        made.execute(rows(5))
        found = ids(outbox)
        with session(made) as curious:
            curious.execute(f"SELECT * FROM {TABLE} WHERE id = 3 FOR UPDATE")
            outbox.delete(found)
            made.execute(rows(1))
            assert ids(outbox) == [6]
            outbox.delete([6])
            assert made.value(f"SELECT COUNT(*) FROM {TABLE} WHERE id > 0") == 6, "never a newer one before an older"
        eventually(lambda: outbox.poll() or made.value(f"SELECT COUNT(*) FROM {TABLE} WHERE id > 0") == 0)


def test_ids_that_were_taken_back_are_given_up_and_open_ones_are_not(
    made: SqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_BEHIND", 0.0)
    monkeypatch.setattr(module, "_REST", 0)
    monkeypatch.setattr(module, "_LOOK_IDS", 10)
    monkeypatch.setattr(module, "_GRACE", 0.0)
    with reading(made) as outbox, session(made) as open_one:
        for _ in range(20):
            with session(made) as undone:
                undone.execute(rows(3))
                undone.execute("ROLLBACK")
            made.execute(rows(1))
        open_one.execute(rows(4))
        made.execute(rows(1))
        found = ids(outbox)
        assert len(found) == 21
        outbox.delete(found)
        assert ids(outbox) == []
        assert [gap[:2] for gap in outbox._gaps] == [(81, 84)]
        open_one.execute("COMMIT")
        assert ids(outbox) == [81, 82, 83, 84]
        assert len(outbox._gaps) == 0


def test_an_id_that_was_given_up_too_early_is_found_all_the_same(made: SqlServer) -> None:
    with reading(made) as outbox:
        made.execute(rows(5))
        outbox.delete(ids(outbox))
        made.execute(f"INSERT INTO {TABLE} (id, written_us, op, db, name) VALUES (2, 1, 'c', 'd', 't')")
        eventually(lambda: ids(outbox) == [2])


def test_a_batch_is_bounded_in_bytes_and_one_row_always_fits(made: SqlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SIZE", 2500)
    made.execute(rows(2, "x" * 1000), rows(1, "y" * 9000), rows(3, "z" * 1000))
    with reading(made) as outbox:
        assert until_empty(outbox) == [[1, 2], [3], [4, 5], [6]]


def test_a_slow_poll_that_left_nothing_behind_rests(made: SqlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLOW", 0)
    monkeypatch.setattr(module, "_REST", 1000)
    made.execute(rows(1000), rows(5))
    with reading(made) as outbox:
        assert [len(ids(outbox)), len(ids(outbox))] == [1000, 5]
        made.execute(rows(1))
        assert ids(outbox) == []
        outbox._next_poll = 0.0
        assert len(ids(outbox)) == 1


def test_an_outbox_that_began_anew_is_noticed(made: SqlServer) -> None:
    made.execute(rows(5))
    with reading(made) as outbox:
        outbox.delete(ids(outbox))
        outbox.check()
        made.execute(f"ALTER TABLE {TABLE} AUTO_INCREMENT = 1")  # what a restart did before MySQL 8, MariaDB 10.2
        with pytest.raises(PositionLost):
            outbox.check()
    with reading(made) as outbox:
        outbox.check()
        known = outbox.made
        made.execute(rows(5), f"DELETE FROM {TABLE}")
        with pytest.raises(PositionLost):
            outbox.check()
    with reading(made) as outbox:
        assert outbox.made != known


def test_the_mark_of_a_table_full_of_rows_is_found_at_once(made: SqlServer) -> None:
    made.execute(rows(3))
    with reading(made) as outbox:
        assert made.value(f"SELECT MIN(id) FROM {TABLE}") == 0
        assert ids(outbox) == [1, 2, 3]


def test_settings_of_the_server(new_source: Callable[..., SqlServer]) -> None:
    """Statements in the binlog, ids in steps, a small max_allowed_packet, a server that became read-only."""
    source = new_source(binlog_format="STATEMENT", auto_increment_increment=3, max_allowed_packet="1M")
    make(source)
    source.create_user("sync", "s", "SELECT, INSERT, DELETE ON syncbridge.*")
    with reading(source, user="sync", password="s") as outbox:
        source.execute(rows(4), rows(1))
        found = ids(outbox)
        assert len(found) == 5
        assert len(outbox._gaps) == 0
        outbox.delete(found)
        assert source.value(f"SELECT COUNT(*) FROM {TABLE} WHERE id > 0") == 0

        both = f"INSERT INTO {TABLE} (written_us, op, db, name, old_row, new_row) VALUES (1, 'u', 'd', 't', %s, %s)"
        source.execute(both % ("REPEAT('a', 900000)", "REPEAT('b', 900000)"))
        (large,) = outbox.poll()
        assert (len(large.old_row or ""), len(large.new_row or "")) == (900_000, 900_000)

        source.execute("SET GLOBAL read_only = 1")
        outbox.delete([large.id])
        assert ids(outbox) == []
        source.execute("SET GLOBAL read_only = 0", rows(1))
        assert len(ids(outbox)) == 1
        outbox._next_delete = 0.0
        assert ids(outbox) == []
        assert source.value(f"SELECT COUNT(*) FROM {TABLE} WHERE id > 0") == 1


def test_what_is_not_committed_is_never_read(made: SqlServer) -> None:
    """The look behind reads it; nothing of how it reads may stick to the next statement."""
    with session(made) as open_one, reading(made) as outbox:
        open_one.execute(rows(3))
        assert ids(outbox) == []
        made.execute(rows(1))
        assert ids(outbox) == [4]
        outbox._next_look = 0.0
        assert ids(outbox) == []
