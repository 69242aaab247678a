"""Any text at all gives effects, never another exception: a statement must not be able to end capture by surprise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from syncbridge.capture.ddl.effects import SchemaChanged, TableCreated
from syncbridge.capture.ddl.follow import follow
from syncbridge.capture.ddl.text import tokens_of
from tests.unit.test_ddl import CASES, MARIADB, MYSQL, ORDERS, effects

QUOTES = {"name": "`", "string": "'"}
#: Every token of every case, quoted as it was.
PIECES = sorted(
    {
        QUOTES.get(token.kind, "") + token.text.replace("`", "``").replace("'", "''") + QUOTES.get(token.kind, "")
        for sql, _ in CASES
        if sql[-7:] != "`orders"
        for token in tokens_of(sql, MARIADB)
    }
)
dialects = st.sampled_from([MARIADB, MYSQL])


def check(sql: str, dialect: object, sql_mode: int = 0) -> None:
    for effect in effects(sql, dialect=dialect, sql_mode=sql_mode):  # type: ignore[arg-type]
        if isinstance(effect, SchemaChanged | TableCreated) and effect.schema is not None:
            names = [column.name.lower() for column in effect.schema.columns]
            assert names
            assert len(names) == len(set(names))
            assert set(effect.schema.primary_key) <= {column.name for column in effect.schema.columns}


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=80), dialects, st.sampled_from([0, 0x4, 0x100000]))
def test_any_text(text: str, dialect: object, sql_mode: int) -> None:
    check(text, dialect, sql_mode)


@settings(max_examples=1500, deadline=None)
@given(
    st.sampled_from(
        ["ALTER TABLE orders", "CREATE TABLE new (", "CREATE TABLE orders", "", "ALTER TABLE orders ADD x"]
    ),
    st.lists(st.sampled_from(PIECES), max_size=14),
    dialects,
)
def test_any_order_of_the_words_of_sql(head: str, words: list[str], dialect: object) -> None:
    check(" ".join([head, *words]), dialect)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from([sql for sql, _ in CASES]), st.data(), dialects)
def test_a_statement_with_a_piece_cut_out_or_put_in(sql: str, data: st.DataObject, dialect: object) -> None:
    start = data.draw(st.integers(0, len(sql)))
    end = data.draw(st.integers(start, min(len(sql), start + 12)))
    check(sql[:start] + data.draw(st.sampled_from(["", *PIECES, "(", ")", "'", ","])) + sql[end:], dialect)


@settings(max_examples=300, deadline=None)
@given(st.permutations(["Name", "note", "kind", "twice"]), st.integers(1, 4))
def test_dropping_and_adding_columns_one_by_one_or_together_is_the_same(names: list[str], count: int) -> None:
    clauses = [f"DROP {name}" for name in names[:count]] + [f"ADD a{number} INT AFTER id" for number in range(count)]
    together = follow(
        f"ALTER TABLE orders {', '.join(clauses)}", "shop", lambda *_: ORDERS, lambda *_: True, dialect=MYSQL
    )
    schema = ORDERS
    for clause in clauses:
        now = schema
        found = follow(f"ALTER TABLE orders {clause}", "shop", lambda *_, s=now: s, lambda *_: True, dialect=MYSQL)
        assert isinstance(found[0], SchemaChanged)
        schema = found[0].schema
    assert isinstance(together[0], SchemaChanged)
    assert together[0].schema == schema
