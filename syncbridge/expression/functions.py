"""Arithmetic and functions on compiled operands. Each takes and gives `Typed`; ValueError when a type does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import Any

from syncbridge.expression import values
from syncbridge.expression.typed import (
    BARE_NULL,
    BIN,
    DATE,
    DATETIME,
    DBL,
    DEC,
    INT,
    NULL,
    STR,
    Typed,
    Values,
    checked_integer,
    combined,
    constant,
    mapped,
    merge_collations,
    to_decimal,
    to_double,
    to_text,
)  # fmt: skip
from syncbridge.expression.values import EXACT, Moment


def arithmetic(symbol: str, left: Typed, right: Typed) -> Typed:
    """`+ - * / DIV %`: integers and decimals exactly, anything with a string or a double in doubles."""
    if NULL in (left.kind, right.kind):
        return BARE_NULL
    if symbol == "DIV":
        return combined(INT, _integer_quotient, _exact_or_rounded(left), _exact_or_rounded(right))
    if {left.kind, right.kind} & {STR, DBL}:
        return combined(DBL, _DOUBLE[symbol], to_double(left), to_double(right))
    if left.kind == right.kind == INT and symbol != "/":
        return combined(INT, _INTEGER[symbol], left, right)
    return combined(DEC, _DECIMAL[symbol], to_decimal(left), to_decimal(right))


def _integer_quotient(a: Decimal, b: Decimal) -> int | None:
    return None if not b else checked_integer(int(EXACT.divide(a, b).to_integral_value(ROUND_DOWN)))


def _exact_or_rounded(operand: Typed) -> Typed:
    return mapped(operand, DEC, Decimal) if operand.kind == DBL else to_decimal(operand)


def _integer_remainder(a: int, b: int) -> int | None:
    return None if not b else int(math.copysign(1, a)) * (abs(a) % abs(b))


def _finite(value: float) -> float:
    if math.isfinite(value):
        return value
    raise ValueError("out of range for DOUBLE")


_INTEGER: dict[str, Callable[[int, int], int | None]] = {
    "+": lambda a, b: checked_integer(a + b),
    "-": lambda a, b: checked_integer(a - b),
    "*": lambda a, b: checked_integer(a * b),
    "%": _integer_remainder,
}
_DECIMAL: dict[str, Callable[[Decimal, Decimal], Decimal | None]] = {
    "+": EXACT.add,
    "-": EXACT.subtract,
    "*": EXACT.multiply,
    "%": lambda a, b: EXACT.remainder(a, b) if b else None,
    "/": lambda a, b: values.divide(a, b) if b else None,
}
_DOUBLE: dict[str, Callable[[float, float], float | None]] = {
    "+": lambda a, b: _finite(a + b),
    "-": lambda a, b: _finite(a - b),
    "*": lambda a, b: _finite(a * b),
    "%": lambda a, b: math.fmod(a, b) if b else None,
    "/": lambda a, b: _finite(a / b) if b else None,
}


def negate(operand: Typed) -> Typed:
    operand = _numeric(operand)
    if operand.kind == DEC:
        return mapped(operand, DEC, EXACT.minus)
    return mapped(operand, operand.kind, lambda value: checked_integer(-value) if type(value) is int else -value)


def absolute(operand: Typed) -> Typed:
    operand = _numeric(operand)
    return mapped(operand, operand.kind, EXACT.abs if operand.kind == DEC else abs)


def round_to(operand: Typed, digits: Typed | None) -> Typed:
    """ROUND(x) and ROUND(x, literal): half away from zero for exact numbers, half to even for doubles."""
    places = 0 if digits is None else digits.literal
    if type(places) is not int or not -30 <= places <= 30:
        raise ValueError("ROUND needs a whole number of digits: ROUND(price, 2)")
    operand = _numeric(operand)
    if operand.kind == INT:
        return operand if places >= 0 else mapped(operand, INT, lambda value: _round_integer(value, places))
    if operand.kind == DEC:
        return mapped(operand, DEC, lambda value: _round_decimal(value, places))
    return mapped(operand, DBL, lambda value: _round_double(value, places))


def _round_integer(value: int, places: int) -> int:
    unit = 10**-places
    rounded = (abs(value) + unit // 2) // unit * unit
    return checked_integer(-rounded if value < 0 else rounded)


def _round_decimal(value: Decimal, places: int) -> Decimal:
    if places >= values.scale(value):
        return value
    rounded = values.quantize(value, places)
    return rounded if places >= 0 else Decimal(int(rounded))


def _round_double(value: float, places: int) -> float:
    power = 10.0 ** abs(places)
    if places >= 0:
        scaled = value * power
        return value if not math.isfinite(scaled) else float(round(scaled)) / power
    return float(round(value / power)) * power


def floor(operand: Typed) -> Typed:
    return _to_integral(operand, ROUND_FLOOR, math.floor)


def ceiling(operand: Typed) -> Typed:
    return _to_integral(operand, ROUND_CEILING, math.ceil)


def _to_integral(operand: Typed, rounding: str, double: Callable[[float], int]) -> Typed:
    operand = _numeric(operand)
    if operand.kind == DEC:
        return mapped(operand, DEC, lambda value: value.to_integral_value(rounding))
    return operand if operand.kind in (INT, NULL) else mapped(operand, DBL, lambda value: float(double(value)))


def _numeric(operand: Typed) -> Typed:
    """Strings count as doubles; other types than numbers are refused."""
    return operand if operand.kind in (INT, DEC) else to_double(operand)


def lower(operand: Typed) -> Typed:
    return _same_text(operand, lambda text: values.change_case(text, str.lower))


def upper(operand: Typed) -> Typed:
    return _same_text(operand, lambda text: values.change_case(text, str.upper))


def _same_text(operand: Typed, function: Callable[[str], str]) -> Typed:
    text = to_text(operand)
    return mapped(text, text.kind, function, text.collation)


def concat(operands: list[Typed]) -> Typed:
    texts = [to_text(operand) for operand in operands]
    return combined(STR, lambda *parts: "".join(parts), *texts, collation=merge_collations(texts))


def length(operand: Typed, *, in_bytes: bool) -> Typed:
    """LENGTH counts bytes (of UTF-8), CHAR_LENGTH characters; of a binary column both count bytes."""
    if operand.kind == BIN:
        return mapped(operand, INT, len)
    return mapped(to_text(operand), INT, (lambda text: len(text.encode())) if in_bytes else len)


def substring(operand: Typed, start: Typed, count: Typed | None) -> Typed:
    text = to_text(operand)
    positions = [_whole(start)] + ([] if count is None else [_whole(count)])
    return combined(STR, _substring, text, *positions, collation=text.collation)


def _substring(text: str, start: int, count: int | None = None) -> str:
    return values.substring(text, start, count)


def left(operand: Typed, count: Typed) -> Typed:
    text = to_text(operand)
    return combined(STR, lambda value, size: value[: max(0, size)], text, _whole(count), collation=text.collation)


def right(operand: Typed, count: Typed) -> Typed:
    text = to_text(operand)
    return combined(
        STR, lambda value, size: value[-size:] if size > 0 else "", text, _whole(count), collation=text.collation
    )


def _whole(operand: Typed) -> Typed:
    if operand.kind not in (INT, NULL):
        raise ValueError("positions and lengths are whole numbers: LEFT(name, 3)")
    return operand


def trim(operand: Typed, remove: Typed | None, position: str) -> Typed:
    characters = " " if remove is None else remove.literal
    if type(characters) is not str:
        raise ValueError("TRIM removes a literal text: TRIM(LEADING '0' FROM code)")
    return _same_text(operand, lambda text: values.trim(text, characters, position))


def date_of(operand: Typed) -> Typed:
    if operand.kind == NULL:
        return operand
    if operand.kind == STR and operand.literal is not None:
        operand = constant(DATETIME, values.moment_of_text(operand.literal))
    if operand.kind not in (DATE, DATETIME):
        raise ValueError(f"DATE(), YEAR(), MONTH() and DAY() take a date or datetime column, not {operand.kind}")
    if operand.kind == DATE:
        return operand
    return mapped(operand, DATE, _midnight)


def _midnight(moment: Moment) -> Moment:
    return (*moment[:3], 0, 0, 0, 0)


def date_part(operand: Typed, index: int) -> Typed:
    return mapped(date_of(operand), INT, lambda moment: moment[index])


def nullif(left: Typed, equal: Callable[[Values], Any]) -> Typed:
    def value(row: Values) -> Any:
        return None if equal(row) else left.value(row)

    return Typed(left.kind, value, left.collation, text=left.text)


def cast(operand: Typed, target: str, parameters: list[int]) -> Typed:
    """CAST(x AS target): SIGNED, UNSIGNED, CHAR, DECIMAL(p,s); DATE and DATETIME of literals and dates."""
    convert = _CAST.get(target)
    if convert is None:
        raise ValueError(f"CAST to {target} is not understood: use SIGNED, UNSIGNED, CHAR, DECIMAL, DATE or DATETIME")
    return operand if operand.kind == NULL else convert(operand, parameters)


def _cast_integer(operand: Typed, wrap: Callable[[int], int]) -> Typed:
    if operand.kind == INT:
        return mapped(operand, INT, wrap)
    if operand.kind == DEC:
        return mapped(operand, INT, lambda value: wrap(int(values.quantize(value, 0))))
    if operand.kind == STR:
        return mapped(operand, INT, lambda text: wrap(values.integer_of_text(text)))
    if operand.kind == DBL:
        return mapped(operand, INT, lambda value: wrap(round(value)))
    raise ValueError(f"CAST of a {operand.kind} to an integer is not understood")


def _signed(value: int) -> int:
    return (checked_integer(value) + 2**63) % 2**64 - 2**63


def _unsigned(value: int) -> int:
    return checked_integer(value) % 2**64


def _cast_char(operand: Typed, parameters: list[int]) -> Typed:
    text = to_text(operand)
    if not parameters:
        return text
    return mapped(text, STR, lambda value: value[: parameters[0]], text.collation)


def _cast_decimal(operand: Typed, parameters: list[int]) -> Typed:
    precision, digits = [*parameters, 10, 0][:2] if len(parameters) != 1 else (parameters[0], 0)
    largest = values.quantize(Decimal(10) ** (precision - digits), digits) - Decimal(1).scaleb(-digits)
    source = mapped(operand, DEC, Decimal) if operand.kind == DBL else to_decimal(operand)
    return mapped(source, DEC, lambda value: max(-largest, min(largest, values.quantize(value, digits))))


def _cast_datetime(operand: Typed, _: list[int]) -> Typed:
    if operand.kind == STR and operand.literal is not None:
        return constant(DATETIME, values.moment_of_text(operand.literal))
    if operand.kind in (DATE, DATETIME):
        return Typed(DATETIME, operand.value)
    raise ValueError(f"CAST of a {operand.kind} to DATETIME is not understood")


_CAST: dict[str, Callable[[Typed, list[int]], Typed]] = {
    "SIGNED": lambda operand, _: _cast_integer(operand, _signed),
    "UNSIGNED": lambda operand, _: _cast_integer(operand, _unsigned),
    "CHAR": _cast_char,
    "DECIMAL": _cast_decimal,
    "DATE": lambda operand, _: date_of(operand),
    "DATETIME": _cast_datetime,
}
