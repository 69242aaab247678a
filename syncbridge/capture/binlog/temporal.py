"""Dates and times: from the bits of the binlog to the text that SELECT prints in UTC.

Texts of dates and of times of day repeat, so they are looked up in bounded memos; the generated decoders index these
directly.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta


class Memo(dict[int, str]):
    """Remembers what `make` returned; starts over when it holds `limit` texts."""

    def __init__(self, make: Callable[[int], str], limit: int = 100_000) -> None:
        super().__init__()
        self._make = make
        self._limit = limit

    def __missing__(self, key: int) -> str:
        if len(self) >= self._limit:
            self.clear()
        text = self[key] = self._make(key)
        return text


def _date(packed: int) -> str:
    return f"{packed >> 9:04d}-{packed >> 5 & 15:02d}-{packed & 31:02d}"


def _datetime2_date(packed: int) -> str:
    year, month = divmod((packed & 0x3FFFFF) >> 5, 13)
    return f"{year:04d}-{month:02d}-{packed & 31:02d}"


def _datetime2_time(packed: int) -> str:
    return f" {packed >> 12:02d}:{packed >> 6 & 63:02d}:{packed & 63:02d}"


def _time2(packed: int) -> str:
    return f"{packed >> 12:02d}:{packed >> 6 & 63:02d}:{packed & 63:02d}"


def _day(days: int) -> str:
    return (date(1970, 1, 1) + timedelta(days)).isoformat()


def _second(second: int) -> str:
    return f" {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


#: DATE's three bytes as a little-endian number -> "2024-02-29"
DATES = Memo(_date)
#: DATETIME2's upper 23 bits (year*13+month, day; the sign bit is ignored) -> "2024-02-29"
DATETIME2_DATES = Memo(_datetime2_date)
#: DATETIME2's hour, minute and second bits -> " 23:59:59"
DATETIME2_TIMES = Memo(_datetime2_time)
#: TIME2's absolute whole part -> "838:59:59"
TIMES = Memo(_time2)
#: days since 1970 -> "1970-01-01"
DAYS = Memo(_day)
#: second of the day -> " 23:59:59"
SECONDS = Memo(_second)
#: YEAR's byte -> "2024"
YEARS = ("0000", *(str(1900 + year) for year in range(1, 256)))

ZERO_DATETIME = "0000-00-00 00:00:00"


def old_datetime(packed: int) -> str:
    """DATETIME before 5.6: the decimal number YYYYMMDDhhmmss."""
    day, clock = divmod(packed, 1_000_000)
    return (
        f"{day // 10000:04d}-{day // 100 % 100:02d}-{day % 100:02d}"
        f" {clock // 10000:02d}:{clock // 100 % 100:02d}:{clock % 100:02d}"
    )


def old_time(packed: int) -> str:
    """TIME before 5.6: the signed decimal number hhmmss."""
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    return f"{sign}{packed // 10000:02d}:{packed // 100 % 100:02d}:{packed % 100:02d}"


def old_timestamp(seconds: int) -> str:
    """TIMESTAMP before 5.6: seconds since 1970, 0 for the zero date."""
    return DAYS[seconds // 86400] + SECONDS[seconds % 86400] if seconds else ZERO_DATETIME


# MariaDB 5.3's own formats with fractional seconds, which a table keeps until it is rebuilt.
HIRES_TIME_BYTES = (3, 4, 4, 5, 5, 5, 6)
HIRES_DATETIME_BYTES = (5, 6, 6, 7, 7, 7, 8)
HIRES_TIMESTAMP_BYTES = (4, 5, 5, 6, 6, 7, 7)


def hires_datetime(packed: bytes, fsp: int) -> str:
    value, fraction = divmod(int.from_bytes(packed, "big"), 10**fsp)
    value, second = divmod(value, 60)
    value, minute = divmod(value, 60)
    value, hour = divmod(value, 24)
    value, day = divmod(value, 32)
    year, month = divmod(value, 13)
    return f"{year:04d}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d}.{fraction:0{fsp}d}"


def hires_time(packed: bytes, fsp: int) -> str:
    value = int.from_bytes(packed, "big") - _HIRES_TIME_ZERO * 10**fsp
    sign, value = ("-", -value) if value < 0 else ("", value)
    seconds, fraction = divmod(value, 10**fsp)
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:0{fsp}d}"


#: Seconds of the largest TIME, 838:59:59, plus one: what MariaDB adds so that every stored number is positive.
_HIRES_TIME_ZERO = 838 * 3600 + 59 * 60 + 59 + 1


def hires_timestamp(packed: bytes, fsp: int) -> str:
    fraction = int.from_bytes(packed[4:], "big")
    seconds = int.from_bytes(packed[:4], "big")
    day = old_timestamp(seconds) if seconds or not fraction else "1970-01-01 00:00:00"
    return f"{day}.{fraction:0{fsp}d}"
