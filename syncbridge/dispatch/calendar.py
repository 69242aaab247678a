"""When a job submitted with SUBMIT_JOB_SCHED is due. Pure: fields and a time in, a time out.

The five fields are those of gearmand's PROTOCOL document, in UTC: minute 0-59, hour 0-23, day of month 1-31, month
1-12, day of week 0-6 from Monday on. `-1` or nothing stands for any. A time matches when all of them do.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from syncbridge.errors import ProtocolError

#: (name, first, last) of each field, in their order on the wire.
FIELDS: Final = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 6),
)
#: Every combination that occurs at all occurs in so many months: 29 February on each weekday, over a skipped leap year.
_MONTHS: Final = 41 * 12


def next_time(fields: Sequence[bytes], now: float) -> int:
    """Unix time of the first whole minute after `now` (Unix time, seconds) that matches.

    Raises ProtocolError for a field that is no number of its range, and for a day that never comes (30 February).
    """
    minute, hour, day, month, weekday = (_number(text, *field) for text, field in zip(fields, FIELDS, strict=True))
    start = datetime.fromtimestamp(now, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    year, at_month = start.year, start.month
    for _ in range(_MONTHS):
        if month in (None, at_month):
            for at_day in _days(year, at_month, day, weekday):
                found = _time_of_day(datetime(year, at_month, at_day, tzinfo=UTC), hour, minute, start)
                if found is not None:
                    return int(found.timestamp())
        year, at_month = (year, at_month + 1) if at_month < 12 else (year + 1, 1)
    raise ProtocolError("a schedule that never comes")


def _number(text: bytes, name: str, first: int, last: int) -> int | None:
    if text in (b"", b"-1"):
        return None
    if text.isdigit() and len(text) <= 2 and first <= int(text) <= last:
        return int(text)
    raise ProtocolError(f"{name} is not from {first} to {last}")


def _days(year: int, month: int, day: int | None, weekday: int | None) -> list[int]:
    first_weekday, length = monthrange(year, month)
    days = range(1, length + 1) if day is None else [day] if day <= length else []
    return [each for each in days if weekday in (None, (first_weekday + each - 1) % 7)]


def _time_of_day(day: datetime, hour: int | None, minute: int | None, start: datetime) -> datetime | None:
    """The first matching minute of the day that is not before `start`."""
    earliest = max(day, start)
    if earliest.date() != day.date():
        return None
    for at_hour in range(earliest.hour, 24) if hour is None else [hour]:
        if at_hour < earliest.hour:
            continue
        least = earliest.minute if at_hour == earliest.hour else 0
        at_minute = least if minute is None else minute
        if at_minute >= least:
            return day.replace(hour=at_hour, minute=at_minute)
    return None
