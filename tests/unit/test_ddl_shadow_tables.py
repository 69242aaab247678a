"""Tables that schema-change tools build beside a mapped one: followed by name, never captured, read or swept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from syncbridge.capture.binlog.events import Statement
from syncbridge.capture.snapshot.snapshots import Snapshots
from syncbridge.capture.statements import Statements
from syncbridge.capture.tables import Tables
from syncbridge.config import parse_config
from syncbridge.state import State
from tests.unit.test_ddl import MARIADB, ORDERS

CONFIG = """
name: shop
source: {url: "mysql://root@127.0.0.1:1"}
sink: {url: "redis://127.0.0.1:1"}
mappings: [{table: shop.orders, key: "order:{id}", type: hash}]
"""
SWAP = [
    "CREATE TABLE _orders_gho LIKE orders",
    "ALTER TABLE _orders_gho DROP COLUMN note, DROP COLUMN twice",
    "TRUNCATE _orders_gho",
    "RENAME TABLE orders TO _orders_del, _orders_gho TO orders",
    "DROP TABLE _orders_del",
]


class Asked:
    """Stands for the snapshots: notes which tables were asked for."""

    def __init__(self) -> None:
        self.requested: list[tuple[str, str]] = []

    def request(self, db: str, table: str, reason: str) -> None:
        self.requested.append((db, table))

    def emptied(self, db: str, table: str, version: str) -> None:
        pass


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State.open(f"sqlite:///{tmp_path / 'state.db'}", "shop")
    yield state
    state.close()


def test_a_shadow_table_is_followed_and_left_alone_until_it_takes_the_mapped_name(state: State) -> None:
    tables = Tables(parse_config(CONFIG), state)
    tables.put(ORDERS, "1")
    asked, swept = Asked(), list[tuple[str, str]]()
    statements = Statements(
        tables,
        cast(Snapshots, cast(Any, asked)),
        lambda db, table, version: swept.append((db, table)),
        may_snapshot=True,
    )
    statements.dialect = MARIADB
    for number, sql in enumerate(SWAP[:3]):
        statements.perform(Statement("shop", sql, 0, "b.000001", 4 + number, 0, False), f"2{number}")
    assert (asked.requested, swept) == ([], [])
    assert tables.names() == [("shop", "orders")]
    assert tables.get("shop", "_orders_gho") is None  # its rows are passed over
    for number, sql in enumerate(SWAP[3:]):
        statements.perform(Statement("shop", sql, 0, "b.000001", 8 + number, 0, False), f"3{number}")
    assert (set(asked.requested), swept) == ({("shop", "orders")}, [])
    orders = tables.get("shop", "orders")
    assert orders is not None
    assert [column.name for column in orders.columns] == ["id", "Name", "kind"]
