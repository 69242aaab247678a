"""The optional native package says what Python says.

Rows of packets are in test_snapshot_packets.py, hashes in tests/property/test_sinks_runs.py.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge import native
from syncbridge.event import READ
from syncbridge.sinks.apply import join_texts
from syncbridge.sinks.fresh import FIRST_REST, LONGEST_REST, Fresh
from syncbridge.sinks.mapping import Operation
from syncbridge.sinks.plan import Apply, Origin
from syncbridge.sinks.runs import REMOVE_ROWS, WRITE_ROWS, Run
from tests.native import in_use, needed

VALUES = st.one_of(
    st.text(max_size=5), st.integers(-(2**70), 2**70), st.none(), st.booleans(), st.floats(),
    st.sampled_from(["\udcff", "None", "", "\0", "a\0b", -(2**63), 2**63 - 1, 2**63, -(2**63) - 1, 0]),
)  # fmt: skip


@given(rows=st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=4), padding=st.integers(0, 7))
def test_texts_are_joined_in_the_same_way(rows: list[list[Any]], padding: int) -> None:
    texts = [value for row in rows for value in ("guard", *row[1:])]
    for _ in in_use(False):
        expected = join_texts(texts, 3, padding)
    found = needed().texts(texts, 3, padding)
    if found is None or expected is None:
        assert found is expected
        return
    assert found[0] == expected[0]
    assert found[1] == (None in texts)
    assert expected[1] or not found[1]  # where Python does not know, it says that there may be one


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("texts", ([], 0, 0), ValueError), ("texts", ([1], 1, 8), ValueError), ("texts", ((), 1, 0), TypeError),
        ("texts", (["\ud800"], 1, 0), UnicodeEncodeError), ("texts", ([1], "1", 0), TypeError),
        ("hashes", (["g", 1], 3, [b"a", b"b"], [], 9), ValueError), ("hashes", (["g"], 1, [b"a"], [], 9), ValueError),
        ("hashes", ([], 0, [], [], 1024), ValueError), ("hashes", (["g"], 1, [], [], 4097), ValueError),
        ("hashes", (["g"], 1, [], [b"x"], 1024), ValueError), ("hashes", ("g", 1, [], [], 1024), TypeError),
        ("rows", (b"", 0, b"", b"", 0, [], []), ValueError), ("rows", (b"", 0, b"i", b"\1\0", 0, [], []), ValueError),
        ("rows", (b"", 0, b"i", b"\0", 0, [], []), ValueError), ("rows", (b"", -1, b"i", b"", 0, [], []), ValueError),
        ("rows", ("", 0, b"i", b"", 0, [], []), TypeError),
        ("rows", (b"\1\0\0\1\0", 0, b"x", b"", 0, [], []), ValueError),
        ("rows", (b"\2\0\0\1\0011", 0, b"i", b"", 0, None, []), SystemError),
        ("transaction", (b"", -1, True), OverflowError), ("transaction", ("", 0, True), TypeError),
        ("transaction", (b"", 0), TypeError),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(name: str, arguments: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        getattr(needed(), name)(*arguments)


def test_a_package_of_another_version_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "import_module", lambda name: SimpleNamespace(VERSION=native.VERSION + 1))
    with caplog.at_level(logging.WARNING):
        assert native.load() is None
    assert "install it again" in caplog.text


def step(*operations: Run | Operation, op: str = READ, mapping: str = "m") -> Apply:
    return Apply([*operations], [Origin({"op": op}, SimpleNamespace(id=mapping), 0)])  # type: ignore[arg-type]


ROWS = Run(WRITE_ROWS, ["a", "b"], ["12", 1, "11", 2], ["f"])


def test_what_is_not_wholly_new_rows_of_one_mapping_is_not_tried() -> None:
    for _ in in_use(True):
        fresh = Fresh()
        assert fresh.of(step(ROWS, ROWS)).guard == "11"  # type: ignore[union-attr]
        for other in (
            step(ROWS, op="u"), step(ROWS, Run(REMOVE_ROWS, ["a"], ["12"])), step(Operation("h", b"a", [b"12"])),
            step(ROWS._replace(ttl="5000")), step(ROWS._replace(texts=["12", "x" * 2000, "11", 2])), Apply(),
            Apply([ROWS, ROWS], step(ROWS).origins + step(ROWS, mapping="other").origins),
        ):  # fmt: skip
            assert fresh.of(other) is None
    for _ in in_use(False):
        assert fresh.of(step(ROWS)) is None


def test_a_mapping_whose_rows_are_there_rests_longer_and_longer() -> None:
    for _ in in_use(True):
        fresh, one = Fresh(), step(ROWS)
        rests = []
        for _ in range(10):
            waited = 0
            while fresh.of(one) is None:
                waited += 1
            rests.append(waited)
            fresh.tried(one, created=False)
            assert fresh.of(step(ROWS, mapping="other")) is not None
        assert rests == [0, *(min(FIRST_REST << number, LONGEST_REST) for number in range(9))]
        while fresh.of(one) is None:
            pass
        fresh.tried(one, created=True)
        assert fresh.of(one) is not None
