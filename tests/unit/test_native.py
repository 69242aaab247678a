"""The optional native package says what Python says.

Rows of packets are in test_snapshot_packets.py, hashes in tests/property/test_sinks_runs.py.
"""

from __future__ import annotations

import logging
import struct
import sys
from contextlib import suppress
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
    texts = [value for row in rows for value in ("" if row[0] is None else row[0], *row[1:])]
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


def elements(payload: bytes) -> list[bytes]:
    """What a listpack holds, read forwards; each element's length from behind is looked at, too."""
    assert (payload[0], payload[1] & 0xC0, payload[-10:-8]) == (0x10, 0x40, b"\x0a\x00")
    pack = payload[3:-10]
    size, count = struct.unpack_from("<IH", pack)
    assert size == len(pack) == (payload[1] & 0x3F) << 8 | payload[2]
    found, at = [], 6
    while pack[at] != 0xFF:
        text = at + (1 if pack[at] & 0xC0 == 0x80 else 2)
        length = pack[at] & 0x3F if text == at + 1 else (pack[at] & 0x0F) << 8 | pack[at + 1]
        found.append(pack[text : text + length])
        whole, behind = text + length - at, text + length
        at = behind + (1 if whole < 128 else 2)
        assert whole == (pack[behind] if whole < 128 else pack[behind] << 7 | pack[behind + 1] & 0x7F)
    assert (at, count) == (len(pack) - 1, len(found))
    return found


def test_hashes_of_every_size_hold_what_they_are_made_of() -> None:
    hashes = needed().hashes
    for size in [*range(150), *range(900, 1024), *range(3900, 4000)]:
        (payload,) = hashes(["g", "v" * size, None], 3, [b"f", b"n", b"raw"], [b"\0" * 7], 4096) or [b""]
        assert elements(payload) == [b"_v", b"g", b"f", b"v" * size, b"raw", b"\0" * 7]
    for most in range(300):
        made = hashes(["guard", "v" * 100], 2, [b"f" * 50], [], most)
        assert made is None or len(elements(made[0])) == 4
    assert hashes(["g", *range(63)], 64, [b"f"] * 63, [], 4096) is not None
    assert hashes(["g", *range(64)], 65, [b"f"] * 64, [], 4096) is None


def test_nothing_is_kept() -> None:
    functions = needed()
    texts, row = ["g", 1, None, "ü"], b"\x05\0\0\x01\x011\xfb\x01x"
    before = [sys.getrefcount(one) for one in (None, True, False, row, texts)]
    for _ in range(1000):
        functions.texts(texts, 4, 0)
        functions.texts(["\0"], 1, 0)
        functions.hashes(texts, 4, [b"a", b"b", b"c"], [], 1024)
        functions.hashes(texts, 4, [b"a", b"b", b"c"], [], 3)
        functions.rows(row, 0, b"itt", b"\0\0", 0, [], [])
        functions.transaction(row, 0, True)
        with suppress(ValueError):
            functions.rows(row, 0, b"ii", b"\0\0", 0, [], [])
    after = [sys.getrefcount(one) for one in (None, True, False, row, texts)]
    assert max(abs(left - right) for left, right in zip(before, after, strict=True)) < 500


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
            step(ROWS._replace(ttl="5000")), Apply(),
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


def rest_of(fresh: Fresh) -> int:
    waited = 0
    while fresh.of(step(ROWS)) is None:
        waited += 1
    return waited


def test_calls_side_by_side_that_fail_count_as_one() -> None:
    for _ in in_use(True):
        fresh = Fresh()
        assert all(fresh.of(step(ROWS)) for _ in range(8))
        for _ in range(8):
            fresh.tried(step(ROWS), created=False)
        assert rest_of(fresh) == FIRST_REST


def test_rows_that_are_too_large_rest_too() -> None:
    for _ in in_use(True):
        fresh = Fresh()
        assert fresh.of(step(ROWS, ROWS._replace(texts=["12", "x" * 2000, "11", 2]))) is None
        assert rest_of(fresh) == FIRST_REST
