"""The shop's traffic: one small transaction after the other, now and then a big one. It only knows MariaDB."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pymysql.connections import Connection
from pymysql.cursors import Cursor

#: Small transactions between two big ones.
BIG_EVERY = 150
#: Customers are not invited beyond, and old orders are archived beyond: the demo may run for days.
MOST_CUSTOMERS, MOST_ORDERS = 400, 1500
CITIES = ("Göteborg", "São Paulo", "東京", "Kraków", "Reykjavík", None)
NAMES = ("Ada", "Björn", "Chloé", "Dmitri", "Eşref", "Frida", "Grace", "Håkon", "Ines", "José 🛒")
NOTES = ("gift wrap, please", "ring twice\nthen wait", 'the "big" one', "ünïcödé ✓", "", None)


@dataclass(frozen=True, slots=True)
class Touched:
    """A row that was just written or deleted: its table and the values of its primary key."""

    table: str
    key: tuple[object, ...]


class Shop:
    """A customer base with a temper. Uses one connection; not for several threads at once."""

    def __init__(self, connection: Connection[Any], seed: int | None = None) -> None:
        self._connection = connection
        self._random = random.Random(seed)  # noqa: S311 - traffic, no secret
        self._steps = 0
        self._customers: list[int] = []
        self._orders: list[int] = []
        self._sessions: list[str] = []
        self._skus: list[str] = []
        #: Rows inserted, updated and deleted by committed transactions.
        self.changes = 0
        self.transactions = 0
        self.latest = Touched("products", ("",))

    def open(self) -> None:
        """Make the tables and fill them."""
        with self._connection.cursor() as cursor:
            for statement in _statements(files(__package__).joinpath("shop.sql").read_text("utf-8")):
                cursor.execute(statement)
            cursor.execute("USE shop")
            cursor.execute("BEGIN")
            for number in range(40):
                sku = f"sku-{number:03}"
                cursor.execute(
                    "INSERT INTO products VALUES (%s, %s, %s, %s)", (sku, f"thing {number}", 5 + number * 1.25, 500)
                )
                self._skus.append(sku)
            for _ in range(60):
                self._new_customer(cursor)
            for _ in range(120):
                self._new_order(cursor)
            for _ in range(30):
                self._new_session(cursor)
            cursor.execute("COMMIT")

    def step(self) -> None:
        """One transaction of everyday business, committed; every BIG_EVERY-th one touches hundreds of rows."""
        self._steps += 1
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN")
            changes = self._one_of(self._big() if self._steps % BIG_EVERY == 0 else _EVERYDAY)(self, cursor)
            if self._random.random() < 0.02:
                self._regret(cursor)
            cursor.execute("COMMIT")
        self.changes += changes
        self.transactions += 1

    # -- everyday business: each answers the number of rows changed ----------------------------------------------------

    def _new_customer(self, cursor: Cursor) -> int:
        if len(self._customers) >= MOST_CUSTOMERS:
            return self._edit_customer(cursor)
        preferences = self._random.choice((None, {}, {"newsletter": True, "sizes": [38, 39.5], "língua": "pt"}))
        cursor.execute(
            "INSERT INTO customers (name, city, preferences, password_hash) VALUES (%s, %s, %s, %s)",
            (
                f"{self._random.choice(NAMES)} {self._random.randrange(1000)}",
                self._random.choice(CITIES),
                None if preferences is None else json.dumps(preferences, ensure_ascii=False),
                self._random.randbytes(32),
            ),
        )
        self._customers.append(cursor.lastrowid)
        return self._touch("customers", cursor.lastrowid)

    def _edit_customer(self, cursor: Cursor) -> int:
        customer = self._random.choice(self._customers)
        changed = cursor.execute(
            "UPDATE customers SET city = %s WHERE id = %s", (self._random.choice(CITIES), customer)
        )
        return self._touch("customers", customer, changed=changed)

    def _new_order(self, cursor: Cursor) -> int:
        cursor.execute(
            "INSERT INTO orders (customer_id, status, total, note, changed_at) VALUES (%s, %s, 0, %s, NOW(6))",
            (
                self._random.choice(self._customers),
                self._random.choice(("draft", "paid", "paid")),
                self._random.choice(NOTES),
            ),
        )
        order = cursor.lastrowid
        lines = self._random.randint(1, 4)
        for line in range(1, lines + 1):
            cursor.execute(
                "INSERT INTO order_lines VALUES (%s, %s, %s, %s)",
                (order, line, self._random.choice(self._skus), self._random.randint(1, 9)),
            )
        cursor.execute(
            "UPDATE orders SET total = (SELECT SUM(quantity * price) FROM order_lines JOIN products USING (sku)"
            " WHERE order_id = %s) WHERE id = %s",
            (order, order),
        )
        self._orders.append(order)
        return self._touch("orders", order, changed=lines + 2)

    def _move_order(self, cursor: Cursor) -> int:
        """Also out of draft, and back into it: the row enters and leaves the mirror (where)."""
        order = self._random.choice(self._orders)
        changed = cursor.execute(
            "UPDATE orders SET status = %s, note = %s, changed_at = NOW(6) WHERE id = %s",
            (
                self._random.choice(("draft", "paid", "paid", "shipped", "shipped", "returned")),
                self._random.choice(NOTES),
                order,
            ),
        )
        return self._touch("orders", order, changed=changed)

    def _cancel_order(self, cursor: Cursor) -> int:
        order = self._take(self._orders)
        changed = cursor.execute("DELETE FROM order_lines WHERE order_id = %s", (order,))
        changed += cursor.execute("DELETE FROM orders WHERE id = %s", (order,))
        return self._touch("orders", order, changed=changed)

    def _sell(self, cursor: Cursor) -> int:
        sku = self._random.choice(self._skus)
        cursor.execute("UPDATE products SET stock = stock - %s WHERE sku = %s", (self._random.randint(1, 5), sku))
        return self._touch("products", sku)

    def _rename_product(self, cursor: Cursor) -> int:
        """A changed key: the old one goes from Redis, the new one comes."""
        old = self._take(self._skus)
        new = f"sku-{old[4:7]}-{self._random.randrange(10**6)}"
        self._skus.append(new)
        changed = cursor.execute("UPDATE order_lines SET sku = %s WHERE sku = %s", (new, old))
        changed += cursor.execute("UPDATE products SET sku = %s WHERE sku = %s", (new, old))
        return self._touch("products", new, changed=changed)

    def _new_session(self, cursor: Cursor) -> int:
        token = self._random.randbytes(8).hex()
        self._sessions.append(token)
        cursor.execute(
            "INSERT INTO sessions VALUES (%s, %s, %s, NOW(3))",
            (token, self._random.choice(self._customers), self._random.randbytes(self._random.randrange(40))),
        )
        return self._touch("sessions", token)

    def _log_out(self, cursor: Cursor) -> int:
        """The oldest session ends, so that none gets as old as its ttl in Redis."""
        if len(self._sessions) < 30:
            return self._new_session(cursor)
        token = self._sessions.pop(0)
        cursor.execute("DELETE FROM sessions WHERE token = %s", (token,))
        return self._touch("sessions", token)

    # -- big transactions ----------------------------------------------------------------------------------------------

    def _sale(self, cursor: Cursor) -> int:
        changed = cursor.execute("UPDATE products SET stock = stock + 50, price = ROUND(price * 1.01, 2)")
        changed += cursor.execute("UPDATE orders SET note = 'sale', changed_at = NOW(6)")
        return self._touch("products", self._skus[-1], changed=changed)

    def _archive(self, cursor: Cursor) -> int:
        keep = len(self._orders) // 2
        gone, self._orders = self._orders[:-keep], self._orders[-keep:]
        changed = cursor.execute("DELETE FROM order_lines WHERE order_id <= %s", (gone[-1],))
        changed += cursor.execute("DELETE FROM orders WHERE id <= %s", (gone[-1],))
        return self._touch("orders", gone[-1], changed=changed)

    def _regret(self, cursor: Cursor) -> None:
        """Changes that are taken back inside the transaction: no one may ever see them in Redis."""
        cursor.execute("SAVEPOINT regret")
        cursor.execute("UPDATE orders SET note = 'never happened' ORDER BY id DESC LIMIT 20")
        cursor.execute("DELETE FROM sessions")
        cursor.execute("ROLLBACK TO SAVEPOINT regret")

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _big(self) -> Sequence[tuple[int, Action]]:
        return ((1, Shop._archive),) if len(self._orders) > MOST_ORDERS else ((1, Shop._sale),)

    def _one_of(self, actions: Sequence[tuple[int, Action]]) -> Action:
        return self._random.choices([action for _, action in actions], [weight for weight, _ in actions])[0]

    def _take(self, values: list[Any]) -> Any:
        return values.pop(self._random.randrange(len(values)))

    def _touch(self, table: str, *key: object, changed: int = 1) -> int:
        self.latest = Touched(table, key)
        return changed


Action = Callable[[Shop, Cursor], int]

_EVERYDAY: tuple[tuple[int, Action], ...] = (
    (20, Shop._new_order),
    (30, Shop._move_order),
    (12, Shop._cancel_order),
    (15, Shop._sell),
    (2, Shop._rename_product),
    (4, Shop._new_customer),
    (4, Shop._edit_customer),
    (7, Shop._new_session),
    (6, Shop._log_out),
)


def _statements(script: str) -> list[str]:
    """The statements of a script whose only semicolons end them."""
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]
