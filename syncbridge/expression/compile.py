"""Syntax tree -> Python function. An expression is specialised once per combination of column kinds it meets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from syncbridge.errors import ColumnMissing, PermanentError
from syncbridge.event import Row
from syncbridge.expression import functions, values
from syncbridge.expression.compare import between, compare, conjunction, disjunction, null_safe_equal
from syncbridge.expression.parse import columns_of, parse
from syncbridge.expression.typed import (
    BARE_NULL,
    BIN,
    DBL,
    DEC,
    INT,
    NULL,
    STR,
    Compute,
    Typed,
    Values,
    column,
    constant,
    merge_collations,
    one_collation,
    to_text,
    to_truth,
    unify,
)  # fmt: skip

_COMPARISON: dict[type[exp.Expr], Callable[[Any, Any], bool]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
}
_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.IntDiv: "DIV",
    exp.Mod: "%",
}
_CAST_TARGETS = {
    exp.DType.BIGINT: "SIGNED",
    exp.DType.UBIGINT: "UNSIGNED",
    exp.DType.CHAR: "CHAR",
    exp.DType.DECIMAL: "DECIMAL",
    exp.DType.DATE: "DATE",
    exp.DType.DATETIME: "DATETIME",
    exp.DType.TIMESTAMP: "DATETIME",
    exp.DType.TIMESTAMPTZ: "DATETIME",
}
#: A column's kind before any row was seen: compatible with everything, so that compiling finds grammar mistakes only.
_UNSEEN = "null"


class Expression:
    """A compiled expression: call it with a row's values and the event's `types`.

    columns: the column names used, as written. Safe to share between tasks of one thread.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._tree = parse(text)
        self.columns = columns_of(self._tree)
        self._compiled: dict[tuple[str, ...], Compute | PermanentError] = {}
        self._names: tuple[str, ...] = self.columns
        _Compiler(self.columns, (_UNSEEN,) * len(self.columns)).truth(self._tree)

    def __call__(self, row: Row, types: Mapping[str, str] | None) -> bool | None:
        """True, False, or None for SQL's unknown. Raises PermanentError when this row cannot be evaluated."""
        return _as_bool(self._truth(row, types or {}))

    def check_kinds(self, kinds: Mapping[str, str]) -> None:
        """ValueError when columns of these kinds (event.py's, or int / text) cannot be used as `text` uses them."""
        folded = {name.lower(): kind for name, kind in kinds.items()}
        for name in self.columns:
            if name.lower() not in folded:
                raise ValueError(f"the table has no column {name}")
        _Compiler(self.columns, tuple(folded[name.lower()] for name in self.columns)).truth(self._tree)

    def _truth(self, row: Row, types: Mapping[str, str]) -> int | None:
        try:
            row_values = [row[name] for name in self._names]
        except KeyError:
            self._names = self._resolve(row)
            row_values = [row[name] for name in self._names]
        kinds = tuple(
            types.get(name) or _plain_kind(value) for name, value in zip(self._names, row_values, strict=True)
        )
        compiled = self._compiled.get(kinds)
        if compiled is None:
            compiled = self._compiled[kinds] = self._specialise(kinds)
        if isinstance(compiled, PermanentError):
            raise PermanentError(str(compiled), hint=compiled.hint)
        try:
            result: int | None = compiled(row_values)
        except ValueError as error:
            raise PermanentError(f"where {self.text!r} cannot be evaluated for this row: {error}") from error
        return result

    def _resolve(self, row: Row) -> tuple[str, ...]:
        """Column names compare without case, as on the server."""
        folded = {name.lower(): name for name in row}
        for name in self.columns:
            if name.lower() not in folded:
                raise ColumnMissing(
                    f"where names column {name}, which the row does not have", hint="correct where in sync.yaml"
                )
        return tuple(folded[name.lower()] for name in self.columns)

    def _specialise(self, kinds: tuple[str, ...]) -> Compute | PermanentError:
        try:
            return _Compiler(self._names, kinds, self.columns).truth(self._tree)
        except ValueError as error:
            return PermanentError(f"where {self.text!r}: {error}", hint="docs/expressions.md lists what is understood")


def _as_bool(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _plain_kind(value: Any) -> str:
    if value is None:
        return "null"
    return "int" if isinstance(value, int) else "text"


class _Compiler:
    """Builds the closures of one tree for one combination of column kinds."""

    def __init__(self, names: tuple[str, ...], kinds: tuple[str, ...], written: tuple[str, ...] | None = None) -> None:
        self._kinds = dict(zip(written or names, enumerate(kinds), strict=True))

    def truth(self, node: exp.Expr) -> Compute:
        return to_truth(self.typed(node))

    def typed(self, node: exp.Expr) -> Typed:
        if type(node) in _COMPARISON:
            operation = _COMPARISON[type(node)]
            return _boolean(compare(operation, self.typed(node.this), self.typed(node.expression)))
        if type(node) in _ARITHMETIC:
            symbol = _ARITHMETIC[type(node)]
            return functions.arithmetic(symbol, self.typed(node.this), self.typed(node.expression))
        return _BUILD[type(node)](self, node)

    def optional(self, node: exp.Expr | None) -> Typed | None:
        return None if node is None else self.typed(node)

    def column(self, node: exp.Expr) -> Typed:
        index, kind = self._kinds[node.name]
        return column(index, kind)

    def is_null_test(self, node: exp.Expr) -> Compute:
        """IS NULL works on every column, also on those whose values we cannot compare."""
        inner = node.unnest()
        if isinstance(inner, exp.Column):
            index = self._kinds[inner.name][0]
            return lambda row: int(row[index] is None)
        value = self.typed(inner).value
        return lambda row: int(value(row) is None)

    def is_(self, node: exp.Expr) -> Typed:
        if isinstance(node.expression, exp.Null):
            return _boolean(self.is_null_test(node.this))
        if not isinstance(node.expression, exp.Boolean):
            raise ValueError("IS takes NULL, TRUE or FALSE")  # noqa: TRY004  (the text is wrong, not our types)
        truth, wanted = self.truth(node.this), int(node.expression.this)
        return _boolean(lambda row: int(truth(row) == wanted))

    def not_(self, node: exp.Expr) -> Typed:
        return _boolean(_inverted(self.truth(node.this)))

    def xor(self, node: exp.Expr) -> Typed:
        left, right = self.truth(node.this), self.truth(node.expression)

        def value(row: Values) -> int | None:
            a, b = left(row), right(row)
            return None if a is None or b is None else a ^ b

        return _boolean(value)

    def in_(self, node: exp.Expr) -> Typed:
        left, *items = one_collation([self.typed(node.this), *(self.typed(item) for item in node.expressions)])
        if not items:
            raise ValueError("IN needs a list of values")
        tests = [compare(operator.eq, left, item) for item in items]
        found = tests[0]
        for test in tests[1:]:
            found = disjunction(found, test)
        return _boolean(found)

    def like(self, node: exp.Expr, escape: str = "\\") -> Typed:
        subject, pattern = to_text(self.typed(node.this)), self.typed(node.expression)
        if isinstance(node.expression, exp.Null):
            return BARE_NULL
        if pattern.kind != STR or pattern.literal is None:
            raise ValueError("LIKE takes a literal pattern: name LIKE 'a%'")
        exact = merge_collations((subject, pattern)) == "bin"
        key: Callable[[str], str] = str if exact else values.fold_characters
        regex = values.like_pattern(pattern.literal, escape, key)
        subject_value = subject.value

        def matches(row: Values) -> int | None:
            text = subject_value(row)
            return None if text is None else int(regex.fullmatch(key(text)) is not None)

        return _boolean(_inverted(matches) if node.args.get("negate") else matches)

    def escape(self, node: exp.Expr) -> Typed:
        character = node.expression
        if not (isinstance(character, exp.Literal) and character.is_string and len(character.name) <= 1):
            raise ValueError("ESCAPE takes one character: LIKE '50!%' ESCAPE '!'")
        return self.like(node.this, character.name)

    def case(self, node: exp.Expr) -> Typed:
        branches = node.args["ifs"]
        if node.this is None:
            conditions = [self.truth(branch.this) for branch in branches]
        else:
            subject, *cases = one_collation([self.typed(node.this), *(self.typed(branch.this) for branch in branches)])
            conditions = [compare(operator.eq, subject, case) for case in cases]
        results = [self.typed(branch.args["true"]) for branch in branches]
        return _choice(conditions, [*results, self.optional(node.args.get("default")) or BARE_NULL])

    def if_(self, node: exp.Expr) -> Typed:
        otherwise = self.optional(node.args.get("false"))
        if otherwise is None:
            raise ValueError("IF takes three arguments: IF(a > 1, b, c)")
        return _choice([self.truth(node.this)], [self.typed(node.args["true"]), otherwise])

    def coalesce(self, node: exp.Expr) -> Typed:
        operands = unify([self.typed(item) for item in (node.this, *node.expressions)])
        computes = [operand.value for operand in operands]

        def value(row: Values) -> Any:
            for compute in computes:
                if (found := compute(row)) is not None:
                    return found
            return None

        return _result_of(operands, value)

    def nullif(self, node: exp.Expr) -> Typed:
        left = self.typed(node.this)
        return functions.nullif(left, compare(operator.eq, left, self.typed(node.expression)))

    def cast(self, node: exp.Expr) -> Typed:
        target = node.args["to"]
        parameters = [int(parameter.name) for parameter in target.expressions]
        return functions.cast(self.typed(node.this), _CAST_TARGETS.get(target.this, target.sql("mysql")), parameters)


def _boolean(compute: Compute) -> Typed:
    return Typed(INT, compute)


def _inverted(truth: Compute) -> Compute:
    def value(row: Values) -> int | None:
        inner = truth(row)
        return None if inner is None else 1 - inner

    return value


def _choice(conditions: list[Compute], results: list[Typed]) -> Typed:
    """The result whose condition is true first; the last result has no condition."""
    results = unify(results)
    pairs = list(zip(conditions, [result.value for result in results], strict=False))
    otherwise = results[-1].value

    def value(row: Values) -> Any:
        for condition, result in pairs:
            if condition(row):
                return result(row)
        return otherwise(row)

    return _result_of(results, value)


def _result_of(branches: list[Typed], value: Compute) -> Typed:
    for branch in branches:
        if branch.kind != NULL:
            return Typed(branch.kind, value, branch.collation)
    return BARE_NULL


def _literal(node: exp.Expr) -> Typed:
    if node.is_string:
        return constant(STR, node.this, "literal")
    if "e" in node.this.lower():
        return constant(DBL, float(node.this))
    if "." in node.this:
        return constant(DEC, values.decimal_of_text(node.this))
    return constant(INT, int(node.this))


_BUILD: dict[type[exp.Expr], Callable[[_Compiler, Any], Typed]] = {
    exp.Column: _Compiler.column,
    exp.Literal: lambda _, node: _literal(node),
    exp.HexString: lambda _, node: constant(BIN, bytes.fromhex(node.this)),
    exp.Boolean: lambda _, node: constant(INT, int(node.this)),
    exp.Null: lambda _, node: BARE_NULL,
    exp.Paren: lambda c, node: c.typed(node.this),
    exp.And: lambda c, node: _boolean(conjunction(c.truth(node.this), c.truth(node.expression))),
    exp.Or: lambda c, node: _boolean(disjunction(c.truth(node.this), c.truth(node.expression))),
    exp.Xor: _Compiler.xor,
    exp.Not: _Compiler.not_,
    exp.NullSafeEQ: lambda c, node: _boolean(null_safe_equal(c.typed(node.this), c.typed(node.expression))),
    exp.Is: _Compiler.is_,
    exp.In: _Compiler.in_,
    exp.Between: lambda c, node: _boolean(
        between(c.typed(node.this), c.typed(node.args["low"]), c.typed(node.args["high"]))
    ),
    exp.Like: _Compiler.like,
    exp.Escape: _Compiler.escape,
    exp.Neg: lambda c, node: functions.negate(c.typed(node.this)),
    exp.Case: _Compiler.case,
    exp.If: _Compiler.if_,
    exp.Coalesce: _Compiler.coalesce,
    exp.Nullif: _Compiler.nullif,
    exp.Lower: lambda c, node: functions.lower(c.typed(node.this)),
    exp.Upper: lambda c, node: functions.upper(c.typed(node.this)),
    exp.Concat: lambda c, node: functions.concat([c.typed(item) for item in node.expressions]),
    exp.Length: lambda c, node: functions.length(c.typed(node.this), in_bytes=bool(node.args.get("binary"))),
    exp.Substring: lambda c, node: functions.substring(
        c.typed(node.this), c.typed(node.args["start"]), c.optional(node.args.get("length"))
    ),
    exp.Left: lambda c, node: functions.left(c.typed(node.this), c.typed(node.expression)),
    exp.Right: lambda c, node: functions.right(c.typed(node.this), c.typed(node.expression)),
    exp.Trim: lambda c, node: functions.trim(
        c.typed(node.this), c.optional(node.args.get("expression")), str(node.args.get("position") or "BOTH")
    ),
    exp.Abs: lambda c, node: functions.absolute(c.typed(node.this)),
    exp.Round: lambda c, node: functions.round_to(c.typed(node.this), c.optional(node.args.get("decimals"))),
    exp.Floor: lambda c, node: functions.floor(c.typed(node.this)),
    exp.Ceil: lambda c, node: functions.ceiling(c.typed(node.this)),
    exp.TsOrDsToDate: lambda c, node: functions.date_of(c.typed(node.this)),
    exp.Year: lambda c, node: functions.date_part(c.typed(node.this), 0),
    exp.Month: lambda c, node: functions.date_part(c.typed(node.this), 1),
    exp.Day: lambda c, node: functions.date_part(c.typed(node.this), 2),
    exp.DayOfMonth: lambda c, node: functions.date_part(c.typed(node.this), 2),
    exp.Cast: _Compiler.cast,
}
