"""Comparison as the server does it: as text under a collation, as exact numbers, as doubles, or as moments.

Every function gives a Compute that returns 1, 0 or None (unknown). Pure.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from syncbridge.expression import values
from syncbridge.expression.typed import (
    BIN,
    DATE,
    DATETIME,
    DBL,
    INT,
    NULL,
    NUMERIC,
    STR,
    TEMPORAL,
    TIME,
    Compute,
    Typed,
    Values,
    constant,
    mapped,
    merge_collations,
    one_collation,
    to_double,
)  # fmt: skip

Operator = Callable[[Any, Any], bool]
_ORDERING = (operator.lt, operator.le, operator.gt, operator.ge)


def compare(operation: Operator, left: Typed, right: Typed) -> Compute:
    """`left <operation> right`; NULL when either is."""
    if NULL in (left.kind, right.kind):
        return lambda _: None
    left, right = comparable(left, right, ordering=operation in _ORDERING)
    left_value, right_value = left.value, right.value
    if right.literal is not None:
        constant_value = right.literal

        def against_constant(row: Values) -> int | None:
            value = left_value(row)
            return None if value is None else int(operation(value, constant_value))

        return against_constant

    def against_value(row: Values) -> int | None:
        a = left_value(row)
        if a is None:
            return None
        b = right_value(row)
        return None if b is None else int(operation(a, b))

    return against_value


def null_safe_equal(left: Typed, right: Typed) -> Compute:
    """`<=>`: NULL equals NULL, and the answer is never NULL."""
    equal = compare(operator.eq, left, right)

    def value(row: Values) -> int:
        a, b = left.value(row), right.value(row)
        return int(a is None and b is None) if a is None or b is None else int(equal(row) or 0)

    return value


def between(value: Typed, low: Typed, high: Typed) -> Compute:
    """BETWEEN: the server picks one way of comparing for all three."""
    kinds = {value.kind, low.kind, high.kind} - {NULL}
    if STR in kinds and kinds & NUMERIC and kinds <= NUMERIC | {STR}:
        value, low, high = to_double(value), to_double(low), to_double(high)
    value, low, high = one_collation((value, low, high))
    above, below = compare(operator.ge, value, low), compare(operator.le, value, high)
    return conjunction(above, below)


def conjunction(left: Compute, right: Compute) -> Compute:
    def both(row: Values) -> int | None:
        a = left(row)
        if a == 0:
            return 0
        b = right(row)
        if b == 0:
            return 0
        return None if a is None or b is None else 1

    return both


def disjunction(left: Compute, right: Compute) -> Compute:
    def either(row: Values) -> int | None:
        a = left(row)
        if a == 1:
            return 1
        b = right(row)
        if b == 1:
            return 1
        return None if a is None or b is None else 0

    return either


def comparable(left: Typed, right: Typed, *, ordering: bool) -> tuple[Typed, Typed]:
    """Both sides converted to values that Python compares as the server compares the originals."""
    kinds = {left.kind, right.kind}
    if kinds == {STR}:
        return _as_text(left, right, ordering)
    if kinds <= NUMERIC:
        return (to_double(left), to_double(right)) if DBL in kinds else (left, right)
    if kinds <= NUMERIC | {STR}:
        return _number_and_text(left, right)
    if kinds <= {DATE, DATETIME} or kinds in ({TIME}, {BIN}):
        return left, right
    if STR in kinds and kinds & TEMPORAL:
        return _as_moment(left, right), _as_moment(right, left)
    if kinds == {STR, BIN}:
        return _as_bytes(left), _as_bytes(right)
    raise ValueError(f"comparing {left.kind} with {right.kind} is not understood")


def _as_text(left: Typed, right: Typed, ordering: bool) -> tuple[Typed, Typed]:
    if merge_collations((left, right)) == "bin":
        key: Callable[[str], Any] = values.unpadded
    elif ordering:
        key = _folded_order
    else:
        key = values.fold
    return mapped(left, STR, key), mapped(right, STR, key)


def _folded_order(text: str) -> list[tuple[int, str]]:
    return values.sort_key(values.fold(text))


def _number_and_text(left: Typed, right: Typed) -> tuple[Typed, Typed]:
    """As doubles; but an integer column meets a literal that spells an integer as integers."""
    for number, text in ((left, right), (right, left)):
        if number.kind == INT and number.column and text.kind == STR and text.literal is not None:
            exact = values.exact_integer(text.literal)
            if exact is not None:
                literal = constant(INT, exact)
                return (left, literal) if text is right else (literal, right)
    return to_double(left), to_double(right)


def _as_moment(side: Typed, other: Typed) -> Typed:
    if side.kind in TEMPORAL:
        return side
    if side.literal is None:
        raise ValueError(f"comparing a {other.kind} with a computed text is not understood: use a literal")
    if other.kind == TIME:
        return constant(TIME, values.microseconds_of_text(side.literal))
    return constant(DATETIME, values.moment_of_text(side.literal))


def _as_bytes(side: Typed) -> Typed:
    if side.kind == BIN:
        return side
    if side.literal is None:
        raise ValueError("comparing a binary column with a text column is not understood")
    return constant(BIN, side.literal.encode())
