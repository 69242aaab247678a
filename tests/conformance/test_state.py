"""The state database keeps its promises the same way on SQLite, MariaDB and MySQL."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import create_engine, text

from syncbridge.errors import ConfigError, PermanentError, TransientError
from syncbridge.state import Checkpoint, FailedRow, SnapshotRow, State
from syncbridge.state.failures import CLAIM_SECONDS

V1, V2, V3 = (f"{number:040x}" for number in (1, 2, 3))


@pytest.fixture(params=["sqlite", "mariadb", "mysql"])
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deep/state.db"
    server = request.getfixturevalue(request.param)
    url: str = server.url(database=server.database)
    return url


@pytest.fixture
def open_state(state_url: str) -> Iterator[Callable[..., State]]:
    opened: list[State] = []

    def open_one(pipeline: str = "shop") -> State:
        opened.append(State.open(state_url, pipeline))
        return opened[-1]

    yield open_one
    for state in opened:
        state.close()


@pytest.fixture
def state(open_state: Callable[..., State]) -> State:
    return open_state()


def failed(version: str = V1, *, key: int = 1, table: str = "orders") -> FailedRow:
    return FailedRow(
        db="shop",
        table=table,
        mapping="00c0ffee",
        key={"id": key, "näme": "𝄞"},
        version=version,
        payload=b'{"op":"u"}',
        error_class="WRONGTYPE",
        message="Operation against a key holding the wrong kind of value",
    )


# Opening


def test_what_one_process_wrote_another_reads(open_state: Callable[..., State]) -> None:
    saved = Checkpoint(
        epoch=2, server="uuid", file="binlog.000042", pos=2**40, file_created=7, gtid_set="0-1-9", queue_id="q"
    )
    open_state().checkpoints.save(saved)
    loaded = open_state().checkpoints.load()
    assert loaded is not None
    assert loaded.updated_at == pytest.approx(time.time(), abs=60)
    assert replace(loaded, updated_at=0.0) == saved


def test_many_may_open_an_empty_database_at_once(state_url: str) -> None:
    together = Barrier(8, timeout=30)

    def open_and_use(number: int) -> int:
        together.wait()
        state = State.open(state_url, f"p{number}")
        try:
            state.requests.file("snapshot", payload={"reason": "test"})
            return len(state.requests.pending())
        finally:
            state.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(open_and_use, range(8))) == [1] * 8


def test_a_newer_format_is_refused_in_one_sentence(state_url: str) -> None:
    State.open(state_url, "shop").close()
    engine = create_engine(state_url.replace("mysql://", "mysql+pymysql://"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE sb_format SET format = 99"))
    engine.dispose()
    with pytest.raises(ConfigError, match="format 99") as caught:
        State.open(state_url, "shop")
    assert caught.value.hint


def test_pipelines_do_not_see_each_other(open_state: Callable[..., State]) -> None:
    shop, blog = open_state("shop"), open_state("blog")
    shop.retries.add(failed())
    shop.requests.file("snapshot")
    shop.mappings.put("00c0ffee", "{}")
    shop.looks.put({("shop", "orders"): "look"})
    shop.schemas.put("shop", "orders", V1, b"{}")
    shop.snapshots.save(SnapshotRow(db="shop", table="orders", status="running"))
    (row,) = shop.retries.list()
    assert blog.retries.count() == 0
    assert blog.retries.get(row.id) is None
    assert blog.retries.discard(row.id) == 0
    assert blog.retries.due(time.time()) == []
    assert blog.requests.pending() == []
    assert blog.mappings.all() == {}
    blog.looks.put({})
    assert shop.looks.all()
    assert blog.schemas.at(V3) == {}
    assert blog.snapshots.all() == []
    assert blog.checkpoints.load() is None
    assert shop.retries.count() == 1


# Checkpoint, schemas, mappings, snapshots


def test_the_checkpoint_is_the_last_one_saved(state: State) -> None:
    for pos in (4, 900, 800):
        state.checkpoints.save(
            Checkpoint(epoch=1, server="s", file="b.1", pos=pos, file_created=0, gtid_set="", queue_id="q")
        )
    loaded = state.checkpoints.load()
    assert loaded is not None
    assert loaded.pos == 800


def test_schema_history_answers_for_any_version(state: State) -> None:
    large = b"\x00\xff" * 50_000  # more than a BLOB of 64 KiB
    state.schemas.put("shop", "orders", V1, b"one")
    state.schemas.put("shop", "orders", V3, large)
    state.schemas.put("shop", "Orders", V2, b"another table")
    state.schemas.put("shop", "gone", V1, b"x")
    state.schemas.put("shop", "gone", V2, None)
    assert state.schemas.at(V1) == {("shop", "orders"): b"one", ("shop", "gone"): b"x"}
    assert state.schemas.at(V2) == {("shop", "orders"): b"one", ("shop", "Orders"): b"another table"}
    assert state.schemas.at(V3)["shop", "orders"] == large
    state.schemas.forget_after(V1)
    assert state.schemas.at(V3) == {("shop", "orders"): b"one", ("shop", "gone"): b"x"}
    state.schemas.put("shop", "orders", V1, b"two")
    assert state.schemas.at(V1)["shop", "orders"] == b"two"


def test_mappings_are_replaced_and_forgotten(state: State) -> None:
    state.mappings.put("00c0ffee", "old")
    state.mappings.put("00c0ffee", "new")
    state.mappings.put("deadbeef", "other")
    assert state.mappings.all() == {"00c0ffee": "new", "deadbeef": "other"}
    state.mappings.forget("00c0ffee")
    assert state.mappings.all() == {"deadbeef": "other"}


def test_looks_are_replaced_all_together(state: State) -> None:
    state.looks.put({("shop", "orders"): "old", ("shop", "Orders"): "other"})
    assert state.looks.all() == {("shop", "orders"): "old", ("shop", "Orders"): "other"}
    state.looks.put({("shop", "orders"): "new"})
    assert state.looks.all() == {("shop", "orders"): "new"}
    state.looks.put({})
    assert state.looks.all() == {}


def test_snapshot_progress_is_one_row_a_table(state: State) -> None:
    row = SnapshotRow(db="shop", table="orders", status="running", reason="r" * 500, rows_estimate=2**40)
    state.snapshots.save(row)
    state.snapshots.save(replace(row, last_key='[1,"ä"]', rows_done=10))
    state.snapshots.save(SnapshotRow(db="shop", table="Orders", status="waiting"))
    loaded = state.snapshots.load("shop", "orders")
    assert loaded == replace(row, last_key='[1,"ä"]', rows_done=10, reason="r" * 255)
    assert len(state.snapshots.all()) == 2
    assert state.snapshots.load("shop", "none") is None


def test_what_was_written_besides_the_binlog_stays_remembered(state: State) -> None:
    row = SnapshotRow(db="shop", table="orders", status="running", last_version=V2)
    state.snapshots.save(row)
    state.snapshots.touch("shop", "orders", V3)
    state.snapshots.touch("shop", "orders", V1)
    state.snapshots.save(replace(row, status="done"))  # capture knew of V2 only
    loaded = state.snapshots.load("shop", "orders")
    assert loaded is not None
    assert (loaded.status, loaded.last_version) == ("done", V3)
    state.snapshots.save(replace(row, status="waiting", last_version=""))
    loaded = state.snapshots.load("shop", "orders")
    assert loaded is not None
    assert loaded.last_version == "", "read from scratch"
    state.snapshots.touch("shop", "never_read", V1)
    assert state.snapshots.load("shop", "never_read") == SnapshotRow(
        db="shop", table="never_read", status="done", last_version=V1
    )


def test_long_texts_are_kept_whole(state: State) -> None:
    long = "x" * 100_000
    state.requests.file("reread", "shop", "orders", {"key": {"id": 1}, "rows": [{"id": 1, "v": long}]})
    (request,) = state.requests.pending()
    assert request.payload["rows"][0]["v"] == long
    state.snapshots.save(SnapshotRow(db="shop", table="orders", status="running", last_key=long))
    assert state.snapshots.all()[0].last_key == long
    state.checkpoints.save(
        Checkpoint(epoch=1, server="s", file="b.1", pos=4, file_created=0, gtid_set=long, queue_id="q", lanes=8)
    )
    checkpoint = state.checkpoints.load()
    assert checkpoint is not None
    assert (checkpoint.gtid_set, checkpoint.lanes) == (long, 8)


@pytest.mark.parametrize("state_url", ["mariadb", "mysql"], indirect=True)
def test_a_value_that_the_database_refuses_is_no_outage(state: State) -> None:
    with pytest.raises(PermanentError, match="refuses a value"):
        state.snapshots.save(SnapshotRow(db="x" * 65, table="orders", status="running"))


# Requests


def test_asking_twice_is_asking_once_until_it_is_done(state: State) -> None:
    state.requests.file("reread", "shop", "orders", {"key": {"id": 1, "b": 2}})
    state.requests.file("reread", "shop", "orders", {"key": {"b": 2, "id": 1}})
    state.requests.file("reread", "shop", "orders", {"key": {"id": 2, "b": 2}})
    state.requests.file("snapshot", payload={"reason": "by hand"})
    first, second, third = state.requests.pending()
    assert (first.kind, first.db, first.table, first.payload) == (
        "reread",
        "shop",
        "orders",
        {"key": {"b": 2, "id": 1}},
    )
    assert second.payload == {"key": {"b": 2, "id": 2}}
    assert [request.id for request in state.requests.pending("snapshot")] == [third.id]
    state.requests.done(first.id, second.id)
    assert [request.id for request in state.requests.pending()] == [third.id]
    state.requests.file("reread", "shop", "orders", {"key": {"id": 1, "b": 2}})
    assert len(state.requests.pending("reread")) == 1


def test_a_request_keeps_the_order_of_its_keys_columns(state: State) -> None:
    state.requests.file("reread", "shop", "orders", {"key": {"shop": 1, "id": 2}})
    (request,) = state.requests.pending()
    assert list(request.payload["key"]) == ["shop", "id"]


def test_many_may_ask_for_the_same_at_once(open_state: Callable[..., State]) -> None:
    states = [open_state() for _ in range(4)]
    together = Barrier(4, timeout=30)

    def ask(state: State) -> None:
        for number in range(10):
            together.wait()
            state.requests.file("reread", "shop", "orders", {"key": {"id": number}})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, states))
    assert [request.payload["key"]["id"] for request in states[0].requests.pending()] == list(range(10))


# Retries and dead letters


def test_a_failed_row_comes_back_whole(state: State) -> None:
    row = replace(failed(), payload=bytes(range(256)) * 1000, first_failed_at=5.0, last_failed_at=6.0, stale=True)
    state.retries.add(row)
    (loaded,) = state.retries.list()
    assert replace(loaded, id=0) == row
    assert state.retries.get(loaded.id) == loaded
    assert state.retries.get(loaded.id + 1) is None


def test_a_failure_is_kept_once_however_often_its_job_comes(state: State) -> None:
    state.retries.add(failed(), failed(V2), failed(key=2))
    state.retries.add(failed(), failed(table="items"))
    assert state.retries.count() == 4


def test_a_due_row_is_claimed_for_a_while(state: State) -> None:
    now = time.time()
    state.retries.add(replace(failed(), next_attempt_at=now - 1), replace(failed(V2), next_attempt_at=now + 1000))
    (due,) = state.retries.due(now)
    assert due.version == V1
    assert state.retries.due(now) == []
    assert [row.version for row in state.retries.due(now + CLAIM_SECONDS)] == [V1]


def test_two_workers_never_claim_the_same_row(open_state: Callable[..., State]) -> None:
    states = [open_state() for _ in range(4)]
    states[0].retries.add(*(failed(f"{number:040x}") for number in range(40)))
    together = Barrier(4, timeout=30)
    now = time.time()

    def claim(state: State) -> list[int]:
        claimed: list[int] = []
        for _ in range(10):
            together.wait()
            claimed += [row.id for row in state.retries.due(now, limit=3)]
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claimed = [row_id for ids in pool.map(claim, states) for row_id in ids]
    assert len(claimed) == len(set(claimed)) == 40


def test_a_row_that_fails_again_burns_an_attempt_and_one_that_waits_does_not(state: State) -> None:
    state.retries.add(failed())
    (row,) = state.retries.list()
    state.retries.failed(row.id, error_class="OTHER", message="again", next_attempt_at=50.0)
    state.retries.postpone(row.id, 70.0)
    loaded = state.retries.get(row.id)
    assert loaded is not None
    assert (loaded.attempts, loaded.error_class, loaded.message, loaded.next_attempt_at) == (2, "OTHER", "again", 70.0)
    assert loaded.first_failed_at == row.first_failed_at
    state.retries.done(row.id)
    assert state.retries.count() == 0


def test_a_buried_row_is_a_dead_letter_and_a_retried_one_comes_back_stale(state: State) -> None:
    state.retries.add(failed(), failed(V2))
    first, second = state.retries.list()
    state.retries.bury(first.id, error_class="WRONGTYPE", message="for good")
    assert (state.retries.count(), state.dead_letters.count()) == (1, 1)
    (dead,) = state.dead_letters.list()
    assert (dead.attempts, dead.message, dead.key, dead.payload) == (2, "for good", first.key, first.payload)
    assert state.dead_letters.retry(dead.id) == 1
    assert state.dead_letters.count() == 0
    back = next(row for row in state.retries.due(time.time()) if row.version == V1)
    assert (back.attempts, back.stale) == (0, True)
    assert second.version == V2


def test_dead_letters_are_listed_in_pages_by_table_and_discarded(state: State) -> None:
    state.retries.add(*(failed(f"{number:040x}", table=f"t{number % 2}") for number in range(6)))
    for row in state.retries.list():
        state.retries.bury(row.id, error_class="E", message="m")
    everything = state.dead_letters.list()
    assert [row.id for row in state.dead_letters.list(limit=4)] == [row.id for row in everything[:4]]
    assert state.dead_letters.list(after_id=everything[3].id) == everything[4:]
    assert {row.table for row in state.dead_letters.list(table="shop.t1")} == {"t1"}
    assert state.dead_letters.discard(everything[0].id, everything[1].id, 10**9) == 2
    assert state.dead_letters.count() == 4


def test_a_newer_object_of_a_function_overtakes_its_older_failures(state: State) -> None:
    def of_function(version: str, key: int, mapping: str = "00c0ffee", function: str = "sync") -> FailedRow:
        return replace(failed(version, key=key, table=function), db="", mapping=mapping)

    rows = [of_function(V1, 1), of_function(V3, 1), of_function(V1, 2), of_function(V1, 1, "0badcafe")]
    state.retries.add(*rows, of_function(V1, 1, function="other"), failed(V1, table="sync"))
    assert [state.retries.newest(row) for row in rows] == [V3, V3, V1, V1]
    assert state.retries.overtake("nothing", [("00c0ffee", rows[0].key, V3)]) == 0
    assert state.retries.overtake("sync", [("00c0ffee", rows[0].key, V2), ("00c0ffee", {"id": 9}, V3)]) == 1
    assert (state.retries.newest(rows[0]), state.retries.count()) == (V3, 5)
    assert state.retries.overtake("sync", [("00c0ffee", rows[2].key, V2)]) == 1
    assert state.retries.newest(rows[2]) is None
    assert {row.place for row in state.retries.list()} == {"function:sync", "function:other", "shop.sync"}


def test_truncate_drops_only_older_failures_of_that_table(state: State) -> None:
    state.retries.add(failed(V1), failed(V2), failed(V3), failed(V1, table="items"))
    assert state.retries.drop_older("shop", "orders", V2) == 1
    assert sorted((row.table, row.version) for row in state.retries.list()) == [
        ("items", V1), ("orders", V2), ("orders", V3),
    ]  # fmt: skip


# What only one of them can do


def test_a_sqlite_state_is_for_its_owner_only(tmp_path: Path) -> None:
    State.open(f"sqlite:///{tmp_path}/deep/state.db", "shop").close()
    State.open(f"sqlite:///{tmp_path}/flat.db", "shop").close()
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "deep/state.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "flat.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "url", ["sqlite:////proc/no/state.db", "sqlite:////dev/null/state.db", "nonsense", "oracle://u:s3cret@h/x"]
)
def test_a_state_that_cannot_be_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        State.open(url, "shop")
    assert caught.value.hint
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("this is no database " * 100)
    with pytest.raises(ConfigError, match="not a database"):
        State.open(f"sqlite:///{tmp_path}/state.db", "shop")


def test_a_server_that_is_away_is_transient_and_names_no_password() -> None:
    with pytest.raises(TransientError) as caught:
        State.open("mysql://u:s3cret@127.0.0.1:1/state", "shop")
    assert "s3cret" not in str(caught.value) + caught.value.hint
