"""Readers of chunks against real servers: what comes out when the table changes between two chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from syncbridge import native
from syncbridge.capture.changes import JsonRows
from syncbridge.capture.connection import connect
from syncbridge.capture.snapshot import reader, scan
from syncbridge.capture.snapshot.chunks import ChunkReader
from syncbridge.capture.snapshot.orders import Chunk, ChunkOrder
from syncbridge.capture.snapshot.scan import TableScan
from syncbridge.capture.snapshot.watermark import Place
from syncbridge.errors import ConfigError
from tests.integration.binlog_tools import settings_of
from tests.servers import SqlServer, eventually

pytestmark = pytest.mark.usefixtures("one_way_each")


class Nowhere:
    """A Placing that says nothing about the binlog."""

    def begin(self, reader: Any, catalog: Any, token: int) -> Place:
        return Place("bin.000001", 4)

    def settle(self, catalog: Any) -> None: ...

    def end(self, reader: Any) -> None: ...

    def close(self) -> None: ...


class Readers:
    """Two readers, and a scan of table `t`."""

    def __init__(self, server: SqlServer) -> None:
        self.server = server
        settings = settings_of(server)
        self.chunks = ChunkReader("p", lambda **how: connect(settings, **how), lambda: connect(settings), readers=2)
        self.chunks.place_with(Nowhere())

    def order(self, on: TableScan | None, **what: Any) -> Chunk:
        """One chunk of `on`, or of rows by their keys."""
        self.chunks.read(
            ChunkOrder(
                db=self.server.database, table="t", key_columns=lambda schema: schema.primary_key, scan=on, **what
            )
        )
        found: list[Chunk] = []
        eventually(lambda: found.extend(self.chunks.finished()) or found, timeout=20)
        (chunk,) = found
        return chunk

    def scan(self, after: list[Any] | None = None) -> TableScan:
        return self.chunks.scan(self.server.database, "t", after)


@pytest.fixture
def readers(source: SqlServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Readers]:
    monkeypatch.setattr(scan, "MAX_ROWS", 10)
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT, gone INT)")
    source.execute("INSERT INTO t VALUES " + ",".join(f"({n}, {n}, 0)" for n in range(1, 26)))
    with ended(Readers(source)) as made:
        yield made


@contextmanager
def ended(readers: Readers) -> Iterator[Readers]:
    readers.chunks.start()
    try:
        yield readers
    finally:
        readers.chunks.stop()
        assert readers.chunks.join(20)


def test_the_chunks_of_a_table_in_order(readers: Readers) -> None:
    on = readers.scan()
    chunks = [readers.order(on) for _ in range(4)]
    assert [[row[0] for row in chunk.rows] for chunk in chunks] == [
        list(range(1, 11)), list(range(11, 21)), list(range(21, 26)), [],
    ]  # fmt: skip
    assert [chunk.last for chunk in chunks[:3]] == [False, False, True]
    assert chunks[3].nothing
    assert len({chunk.token for chunk in chunks}) == 4
    assert {isinstance(chunk.rows, JsonRows) for chunk in chunks[:3]} == {native.functions is not None}
    by_key = readers.order(None, keys=[{"id": 7}, {"id": 70}, {"other": 1}])
    assert list(by_key.dicts()) == [{"id": 7, "v": 7, "gone": 0}]


def test_rows_that_come_into_a_range_do_not_make_a_chunk_larger(readers: Readers) -> None:
    on = readers.scan()
    readers.server.execute("UPDATE t SET id = id * 100")
    piece = on.take(("id",), lambda behind, rows: [1000])
    readers.server.execute("INSERT INTO t (id) VALUES " + ",".join(f"({n})" for n in range(101, 116)))
    first = readers.order(on, piece=piece)
    assert len(first.rows) == 11
    assert not first.last
    rest = readers.order(on, piece=first.rest)
    rows = [row[0] for chunk in (first, rest) for row in chunk.rows]
    if rest.rest is not None:
        rows += [row[0] for row in readers.order(on, piece=rest.rest).rows]
    assert rows == sorted([*range(100, 1001, 100), *range(101, 116)])


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("ALTER TABLE t DROP gone", (11, 11)),
        ("ALTER TABLE t ADD w INT DEFAULT 5", (11, 11, 0, 5)),
        ("ALTER TABLE t MODIFY v VARCHAR(9), MODIFY gone DATE", (11, "text", None)),
    ],
)
def test_a_table_altered_between_two_chunks_is_read_as_it_is(
    readers: Readers, statement: str, row: tuple[Any, ...]
) -> None:
    on = readers.scan()
    assert len(readers.order(on).rows) == 10
    readers.server.execute("UPDATE t SET gone = NULL" if "DATE" in statement else "DO 0", statement)
    if "VARCHAR" in statement:
        readers.server.execute("UPDATE t SET v = 'text'")
    chunk = readers.order(on)
    assert chunk.rows[0] == row
    assert chunk.schema is not None
    assert chunk.columns == tuple(column.name for column in chunk.schema.columns)
    assert len(chunk.columns) == len(row)


def test_another_key_ends_a_scan_told_in_the_old_one(readers: Readers) -> None:
    on = readers.scan()
    readers.order(on)
    readers.server.execute("ALTER TABLE t MODIFY v INT NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (v, id)")
    assert readers.order(on).rekeyed
    assert readers.order(readers.scan([5])).rekeyed  # told before a restart
    assert len(readers.order(readers.scan([5, 5])).rows) == 10


@pytest.mark.parametrize("statement", ["DROP TABLE t", "RENAME TABLE t TO other"])
def test_a_table_that_is_gone_ends_its_scan(readers: Readers, statement: str) -> None:
    on = readers.scan()
    readers.order(on)
    readers.server.execute(statement)
    chunk = readers.order(on)
    assert chunk.schema is None
    assert chunk.last
    assert readers.order(on).nothing


def test_a_table_without_transactions_is_refused(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    on = readers.scan()
    readers.order(on)
    readers.server.execute("ALTER TABLE t ENGINE=MyISAM")
    refusal = readers.order(on).refusal
    assert isinstance(refusal, ConfigError)
    assert "MyISAM" in str(refusal)


def test_a_killed_connection_is_opened_again(readers: Readers) -> None:
    on = readers.scan()
    readers.order(on)
    readers.order(on)
    source = readers.server
    own = source.value("SELECT CONNECTION_ID()")
    for (number,) in source.execute("SELECT id FROM information_schema.processlist WHERE command = 'Sleep'"):
        if number != own:
            source.execute(f"KILL {number}")
    assert len(readers.order(on).rows) == 5


def test_idle_readers_keep_no_connection(source: SqlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def connections() -> int:
        return int(source.value("SELECT COUNT(*) FROM information_schema.processlist"))

    monkeypatch.setattr(reader, "_IDLE", 0.1)
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    before = connections()
    with ended(Readers(source)) as readers:
        for _ in range(3):
            assert list(readers.order(readers.scan()).rows) == [(1,)]
            eventually(lambda: connections() <= before)


def test_a_cancelled_order_is_left(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    on = readers.scan()
    on.cancelled = True
    asked: list[Callable[..., Any]] = []
    readers.chunks.read(
        ChunkOrder(db=readers.server.database, table="t", key_columns=lambda schema: asked, scan=on)  # type: ignore[arg-type,return-value]
    )
    assert len(readers.order(readers.scan()).rows) == 10
    assert not asked
    assert readers.chunks.finished() == []
