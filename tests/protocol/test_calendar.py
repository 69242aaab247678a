"""SUBMIT_JOB_SCHED: the first matching minute, compared with a plain walk over minutes, and cases by hand."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge.dispatch.calendar import FIELDS, next_time
from syncbridge.errors import ProtocolError

NOW = datetime(2026, 11, 21, 10, 16, 30, tzinfo=UTC)  # a Saturday

CASES = [
    ("-1 -1 -1 -1 -1", "2026-11-21 10:17"),
    ("    ", "2026-11-21 10:17"),
    ("17    ", "2026-11-21 10:17"),
    ("16    ", "2026-11-21 11:16"),
    ("0 0   ", "2026-11-22 00:00"),
    ("59 9   ", "2026-11-22 09:59"),
    (" 10   ", "2026-11-21 10:17"),
    (" 9   ", "2026-11-22 09:00"),
    ("  21  ", "2026-11-21 10:17"),
    ("  20  ", "2026-12-20 00:00"),
    ("0 12 31  ", "2026-12-31 12:00"),
    ("   11 ", "2026-11-21 10:17"),
    ("   10 ", "2027-10-01 00:00"),
    ("    0", "2026-11-23 00:00"),
    ("    5", "2026-11-21 10:17"),
    ("    6", "2026-11-22 00:00"),
    ("0 0 29 2 ", "2028-02-29 00:00"),
    ("0 0 29 2 0", "2044-02-29 00:00"),
    ("0 0 13  4", "2027-08-13 00:00"),
    ("00 08 01 01 ", "2027-01-01 08:00"),
]


@pytest.mark.parametrize(("fields", "expected"), CASES)
def test_first_minute_that_matches(fields: str, expected: str) -> None:
    found = next_time([field.encode() for field in fields.split(" ")], NOW.timestamp())
    assert datetime.fromtimestamp(found, UTC).strftime("%Y-%m-%d %H:%M") == expected


@pytest.mark.parametrize(
    "fields",
    [
        "60    ",
        " 24   ",
        "  0  ",
        "  32  ",
        "   13 ",
        "   0 ",
        "    7",
        "x    ",
        "-2    ",
        "1.5    ",
        "007    ",
        "²    ",
    ],
)
def test_fields_out_of_range_are_refused(fields: str) -> None:
    with pytest.raises(ProtocolError, match="is not from"):
        next_time([field.encode() for field in fields.split(" ")], NOW.timestamp())


@pytest.mark.parametrize("fields", ["  30 2 ", "  31 4 ", "  31 11 "])
def test_days_that_never_come_are_refused_at_once(fields: str) -> None:
    started = time.process_time()
    with pytest.raises(ProtocolError, match="never"):
        next_time([field.encode() for field in fields.split(" ")], NOW.timestamp())
    assert time.process_time() - started < 0.1


@given(
    st.tuples(*(st.one_of(st.none(), st.integers(first, last)) for _, first, last in FIELDS[:3])),
    st.one_of(st.none(), st.integers(0, 6)),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),
)
def test_agrees_with_a_walk_over_all_minutes(
    head: tuple[int | None, int | None, int | None], weekday: int | None, now: datetime
) -> None:
    minute, hour, day = head
    now = now.replace(tzinfo=UTC)
    fields = [b"" if value is None else b"%d" % value for value in (minute, hour, day, None, weekday)]
    found = datetime.fromtimestamp(next_time(fields, now.timestamp()), UTC)
    wanted = (minute, hour, day, weekday)
    assert _matches(found, wanted)
    assert found > now
    walk = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(3000):  # two days; a match further off is checked for being one, not for being the first
        if walk == found:
            return
        assert not _matches(walk, wanted)
        walk += timedelta(minutes=1)


def _matches(time: datetime, wanted: tuple[int | None, ...]) -> bool:
    parts = (time.minute, time.hour, time.day, time.weekday())
    return all(want in (None, part) for want, part in zip(wanted, parts, strict=True))
