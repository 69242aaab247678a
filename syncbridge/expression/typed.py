"""A compiled subexpression with its MySQL type, and the conversions between types.

Every function here takes and gives `Typed`; its `value` maps the row's raw column values to a Python value:

    int -> int · dec -> Decimal · dbl -> float · str -> str · bin -> bytes · date, datetime -> Moment · time -> int (µs)

and None is SQL NULL everywhere. `null` is the type of a bare NULL (and of a column that is NULL here and has no kind).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from syncbridge.errors import PermanentError
from syncbridge.expression import values

Values = Sequence[Any]
Compute = Callable[[Values], Any]

NULL, INT, DEC, DBL, STR, BIN, DATE, DATETIME, TIME = (
    "null", "int", "dec", "dbl", "str", "bin", "date", "datetime", "time",
)  # fmt: skip
NUMERIC = frozenset((INT, DEC, DBL))
TEMPORAL = frozenset((DATE, DATETIME, TIME))


@dataclass(frozen=True, slots=True)
class Typed:
    kind: str
    value: Compute
    #: Of a string: "literal" (adapts to the other side), "ci" or "bin".
    collation: str = ""
    #: The value of a literal, None otherwise.
    literal: Any = None
    #: Where the server prints this value differently from what Python would: the text as SELECT shows it.
    text: Compute | None = None
    column: bool = False


def constant(kind: str, value: Any, collation: str = "") -> Typed:
    return Typed(kind, lambda _: value, collation, literal=value)


BARE_NULL = Typed(NULL, lambda _: None)


def column(index: int, kind: str) -> Typed:
    """The column at `index` of the row's values; `kind` as event.py names it, or int / text / null for unnamed ones."""
    build = _COLUMN.get(kind)
    if build is None:
        raise ValueError(f"a {kind} column can only be tested with IS NULL")
    return build(index)


def _raw(index: int) -> Compute:
    return lambda row: row[index]


def _parsed(kind: str, parse: Callable[[str], Any]) -> Callable[[int], Typed]:
    def build(index: int) -> Typed:
        def value(row: Values) -> Any:
            text = row[index]
            return None if text is None else parse(text)

        return Typed(kind, value, text=_raw(index), column=True)

    return build


def _text(collation: str) -> Callable[[int], Typed]:
    return lambda index: Typed(STR, _raw(index), collation, column=True)


_COLUMN: dict[str, Callable[[int], Typed]] = {
    "null": lambda _: BARE_NULL,
    "int": lambda index: Typed(INT, _raw(index), column=True),
    "text": _text("ci"),
    "text_bin": _text("bin"),
    "decimal": _parsed(DEC, Decimal),
    "float": _parsed(DBL, float),
    "zerofill": _parsed(INT, int),
    "bool": lambda index: Typed(INT, _raw(index), column=True),
    "year": _parsed(INT, int),
    "date": _parsed(DATE, values.moment_of_text),
    "datetime": _parsed(DATETIME, values.moment_of_text),
    "time": _parsed(TIME, values.microseconds_of_text),
    "binary": _parsed(BIN, base64.b64decode),
}


def mapped(operand: Typed, kind: str, function: Callable[[Any], Any], collation: str = "") -> Typed:
    """`function` of a value that is not NULL."""
    inner = operand.value
    if operand.literal is not None:
        return constant(kind, function(operand.literal), collation)

    def value(row: Values) -> Any:
        operand_value = inner(row)
        return None if operand_value is None else function(operand_value)

    return Typed(kind, value, collation)


def combined(kind: str, function: Callable[..., Any], *operands: Typed, collation: str = "") -> Typed:
    """`function` of values of which none is NULL; NULL when any is."""
    inner = [operand.value for operand in operands]

    def value(row: Values) -> Any:
        arguments = []
        for compute in inner:
            argument = compute(row)
            if argument is None:
                return None
            arguments.append(argument)
        return function(*arguments)

    return Typed(kind, value, collation)


def to_double(operand: Typed) -> Typed:
    if operand.kind in (DBL, NULL):
        return operand
    if operand.kind in NUMERIC:
        return mapped(operand, DBL, float)
    if operand.kind == STR:
        return mapped(operand, DBL, values.number_of_text)
    raise ValueError(f"a {operand.kind} value is not understood as a number")


def to_decimal(operand: Typed) -> Typed:
    if operand.kind in (DEC, NULL):
        return operand
    if operand.kind == INT:
        return mapped(operand, DEC, Decimal)
    if operand.kind == STR:
        return mapped(operand, DEC, values.decimal_of_text)
    raise ValueError(f"a {operand.kind} value is not understood as a decimal")


def to_text(operand: Typed) -> Typed:
    """The operand as SELECT prints it."""
    if operand.kind in (STR, NULL):
        return operand
    if operand.text is not None and operand.kind != BIN:
        return Typed(STR, operand.text, "literal")
    if operand.kind == INT:
        return mapped(operand, STR, str, "literal")
    if operand.kind == DEC:
        return mapped(operand, STR, values.text_of_decimal, "literal")
    raise ValueError(f"a computed {operand.kind} value is not understood as text")


def to_truth(operand: Typed) -> Compute:
    """1, 0 or None."""
    if operand.kind in (STR, NULL):
        operand = to_double(operand)
    elif operand.kind not in NUMERIC:
        raise ValueError(f"a {operand.kind} value is not a condition: compare it with something")
    inner = operand.value

    def truth(row: Values) -> int | None:
        value = inner(row)
        return None if value is None else int(value != 0)

    return truth


def merge_collations(operands: Sequence[Typed]) -> str:
    """What the server compares by: a column's collation beats a literal's, a binary one beats the others."""
    found = {operand.collation for operand in operands}
    return "bin" if "bin" in found else "ci" if "ci" in found else "literal"


def one_collation(operands: Sequence[Typed]) -> list[Typed]:
    """Operands that the server compares with one another (IN, BETWEEN, CASE): the texts share one collation."""
    texts = [operand for operand in operands if operand.kind == STR]
    collation = merge_collations(texts)
    return [replace(operand, collation=collation) if operand.kind == STR else operand for operand in operands]


def unify(branches: Sequence[Typed]) -> list[Typed]:
    """The branches of IF, CASE or COALESCE converted to the one type that the server gives the result."""
    kinds = {branch.kind for branch in branches} - {NULL}
    if len(kinds) <= 1:
        if kinds == {STR}:
            return [Typed(STR, branch.value, merge_collations(branches)) for branch in branches]
        return list(branches)
    if kinds <= NUMERIC:
        return [to_double(branch) if DBL in kinds else to_decimal(branch) for branch in branches]
    if kinds <= NUMERIC | {STR}:
        texts = [to_text(branch) for branch in branches]
        return [Typed(STR, text.value, merge_collations(texts)) for text in texts]
    raise ValueError(f"branches of different types are not understood: {', '.join(sorted(kinds))}")


def checked_integer(value: int) -> int:
    """The server refuses integer results that no BIGINT holds, and so do we."""
    if -(2**63) <= value < 2**64:
        return value
    raise PermanentError(f"where: {value} is out of range for BIGINT")
