"""How the server turns one kind of value into another, and how it orders text. Pure functions on single values."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from functools import lru_cache

#: DECIMAL arithmetic is exact up to 65 digits; 200 leaves room for any product.
EXACT = Context(prec=200, rounding=ROUND_HALF_UP)
#: `div_precision_increment`: digits that a division adds; 4 unless somebody changed the server.
DIVISION_DIGITS = 4

_NUMBER = re.compile(r"[ \t\n\r\f\v]*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
_INTEGER = re.compile(r"[ \t\n\r\f\v]*([+-]?\d+)")
_DATETIME = re.compile(r"\s*(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?)?\s*")
_TIME = re.compile(r"\s*(-?)(\d{1,3}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?\s*")
_LARGEST = 1.7976931348623157e308

#: (year, month, day, hour, minute, second, microsecond); zero and partial dates are ordinary values here.
Moment = tuple[int, int, int, int, int, int, int]


def number_of_text(text: str) -> float:
    """The double that a string is in a numeric context: its longest numeric prefix, else 0."""
    match = _NUMBER.match(text)
    if match is None:
        return 0.0
    return max(-_LARGEST, min(_LARGEST, float(match[1])))


def decimal_of_text(text: str) -> Decimal:
    match = _NUMBER.match(text)
    return Decimal(match[1]) if match else Decimal(0)


def integer_of_text(text: str) -> int:
    match = _INTEGER.match(text)
    return int(match[1]) if match else 0


def exact_integer(text: str) -> int | None:
    """The integer that a literal spells exactly, else None."""
    match = _INTEGER.fullmatch(text)
    return int(match[1]) if match else None


def text_of_decimal(value: Decimal) -> str:
    return format(value, "f")


def scale(value: Decimal) -> int:
    """Digits after the point."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "our decimals are finite"
    return max(0, -exponent)


def quantize(value: Decimal, digits: int, rounding: str = ROUND_HALF_UP) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-digits), rounding=rounding, context=EXACT)


def divide(left: Decimal, right: Decimal) -> Decimal:
    """Exact division as the servers' decimal library does it: cut at a multiple of 9 digits, not rounded."""
    left_digits, right_digits = _whole_words(scale(left)), _whole_words(scale(right))
    spare = (left_digits - scale(left)) + (right_digits - scale(right))
    digits = _whole_words(left_digits + right_digits + max(0, DIVISION_DIGITS - spare))
    return quantize(EXACT.divide(left, right), digits, ROUND_DOWN)


def _whole_words(digits: int) -> int:
    return -(-digits // 9) * 9


def moment_of_text(text: str) -> Moment:
    """A DATE or DATETIME text as a sortable tuple. Raises ValueError on other spellings."""
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a date: write 'YYYY-MM-DD' or 'YYYY-MM-DD HH:MM:SS'")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if month > 12 or day > 31 or hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text!r} is not a date: write 'YYYY-MM-DD' or 'YYYY-MM-DD HH:MM:SS'")
    return year, month, day, hour, minute, second, int((match[7] or "").ljust(6, "0"))


def microseconds_of_text(text: str) -> int:
    """A TIME text as signed microseconds. Raises ValueError on other spellings."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time: write 'HH:MM:SS'")
    seconds = int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4] or 0)
    total = seconds * 1_000_000 + int((match[5] or "").ljust(6, "0"))
    return -total if match[1] else total


@lru_cache(4096)
def fold(text: str) -> str:
    """What a case-insensitive collation compares: no case, no accents, no trailing spaces."""
    if text.isascii():
        return text.rstrip(" ").lower()
    decomposed = unicodedata.normalize("NFD", text.rstrip(" "))
    return "".join(char for char in decomposed if not unicodedata.combining(char)).casefold()


def unpadded(text: str) -> str:
    """What a binary text collation compares: the text without trailing spaces."""
    return text.rstrip(" ")


def sort_key(folded: str) -> list[tuple[int, str]]:
    """Order under the common collations: space and punctuation, then digits, then letters."""
    return [(2 if char.isalpha() else 1 if char.isdigit() else 0, char) for char in folded]


def change_case(text: str, change: Callable[[str], str]) -> str:
    """LOWER and UPPER character by character: the servers never make one character two (ß stays ß)."""
    changed = change(text)
    if len(changed) == len(text):
        return changed
    return "".join(new if len(new := change(char)) == 1 else char for char in text)


def like_pattern(pattern: str, escape: str, key: Callable[[str], str]) -> re.Pattern[str]:
    """LIKE's pattern as a regular expression over text mapped by `key` (the collation's folding, or nothing)."""
    out = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if escape and char == escape and position < len(pattern):
            out.append(re.escape(key(pattern[position])))
            position += 1
        elif char == "%":
            out.append(".*")
        elif char == "_":
            out.append(".")
        else:
            out.append(re.escape(key(char)))
    return re.compile("".join(out), re.DOTALL)


@lru_cache(4096)
def fold_characters(text: str) -> str:
    """Case and accents folded, one character for one, spaces kept: what LIKE compares."""
    if text.isascii():
        return text.lower()
    out = []
    for char in text:
        folded = "".join(part for part in unicodedata.normalize("NFD", char) if not unicodedata.combining(part))
        folded = folded.casefold()
        out.append(folded if len(folded) == 1 else char)
    return "".join(out)


def substring(text: str, start: int, length: int | None) -> str:
    """SUBSTRING: positions count from 1, negative ones from the end; 0 and positions outside give ''."""
    if start == 0 or (length is not None and length <= 0) or start > len(text) or -start > len(text):
        return ""
    begin = start - 1 if start > 0 else len(text) + start
    return text[begin:] if length is None else text[begin : begin + length]


def trim(text: str, remove: str, position: str) -> str:
    """TRIM: whole copies of `remove` from one end or both."""
    if not remove:
        return text
    if position != "TRAILING":
        while text.startswith(remove):
            text = text[len(remove) :]
    if position != "LEADING":
        while text.endswith(remove):
            text = text[: -len(remove)]
    return text
