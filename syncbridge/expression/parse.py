"""Text -> syntax tree, with everything refused that `compile.py` does not evaluate exactly as the server does."""

from __future__ import annotations

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

#: Node class -> the arguments we understand. Anything else, and any other non-empty argument, is refused.
SUPPORTED: dict[type[exp.Expr], frozenset[str]] = {
    cls: frozenset(args.split())
    for cls, args in {
        exp.Column: "this",
        exp.Identifier: "this quoted",
        exp.Literal: "this is_string",
        exp.HexString: "this is_integer",
        exp.Boolean: "this",
        exp.Null: "",
        exp.Paren: "this",
        exp.And: "this expression",
        exp.Or: "this expression",
        exp.Xor: "this expression",
        exp.Not: "this",
        exp.EQ: "this expression",
        exp.NEQ: "this expression",
        exp.LT: "this expression",
        exp.LTE: "this expression",
        exp.GT: "this expression",
        exp.GTE: "this expression",
        exp.NullSafeEQ: "this expression",
        exp.Is: "this expression",
        exp.In: "this expressions",
        exp.Between: "this low high",
        exp.Like: "this expression negate",
        exp.Escape: "this expression",
        exp.Add: "this expression",
        exp.Sub: "this expression",
        exp.Mul: "this expression",
        exp.Div: "this expression typed safe",
        exp.IntDiv: "this expression",
        exp.Mod: "this expression",
        exp.Neg: "this",
        exp.Case: "this ifs default",
        exp.If: "this true false",
        exp.Coalesce: "this expressions",
        exp.Nullif: "this expression",
        exp.Lower: "this",
        exp.Upper: "this",
        exp.Concat: "expressions safe coalesce",
        exp.Length: "this binary",
        exp.Substring: "this start length",
        exp.Left: "this expression",
        exp.Right: "this expression",
        exp.Trim: "this expression position",
        exp.Abs: "this",
        exp.Round: "this decimals",
        exp.Floor: "this",
        exp.Ceil: "this",
        exp.TsOrDsToDate: "this",
        exp.Year: "this",
        exp.Month: "this",
        exp.Day: "this",
        exp.DayOfMonth: "this",
        exp.Cast: "this to",
        exp.DataType: "this nested expressions",
        exp.DataTypeParam: "this",
    }.items()
}

_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ)
_PREDICATES = (*_COMPARISONS, exp.Is, exp.In, exp.Between, exp.Like, exp.Escape)
_SEE = "docs/expressions.md lists what where understands"


def columns_of(tree: exp.Expr) -> tuple[str, ...]:
    return tuple(dict.fromkeys(node.name for node in tree.find_all(exp.Column, bfs=False)))


def parse(text: str) -> exp.Expr:
    """The checked syntax tree of `text`. Raises ValueError, naming the mend."""
    try:
        tree = parse_one(text, dialect="mysql")
        for node in tree.walk():
            _check_node(node)
    except SqlglotError as error:
        raise ValueError("this is not a MySQL expression: write for example status <> 'draft'") from error
    except RecursionError as error:
        raise ValueError("this expression is nested too deep: split it into several mappings") from error
    return tree


def _check_node(node: exp.Expr) -> None:
    if node.comments:
        raise ValueError("comments are not understood inside where: put them beside it, after a #")
    if isinstance(node, exp.Column) and node.table:
        raise ValueError(f"write the column's name alone: {node.name}, not {node.table}.{node.name}")
    understood = SUPPORTED.get(type(node))
    if understood is None:
        raise ValueError(f"{_name(node)} is not understood here: {_SEE}")
    for argument, value in node.args.items():
        if argument not in understood and value not in (None, False, []):
            raise ValueError(f"{_name(node)} with {argument} is not understood here: {_SEE}")
    _check_precedence(node)


def _check_precedence(node: exp.Expr) -> None:
    """Refuse mixes whose grouping differs between parsers and servers: `a = b IS NULL`, `a XOR b OR c`."""
    children = [child for child in node.iter_expressions() if not isinstance(child, exp.Paren)]
    if isinstance(node, _PREDICATES):
        inner = (*_PREDICATES, exp.Not, exp.And, exp.Or, exp.Xor)
        if any(isinstance(child, inner) and not _is_escaped_like(node, child) for child in children):
            raise ValueError("put parentheses around the comparison inside a comparison: (a = b) IS NULL")
    elif isinstance(node, exp.Xor) and any(isinstance(child, (exp.And, exp.Or)) for child in children):
        raise ValueError("put parentheses where XOR meets AND or OR: (a AND b) XOR c")
    elif isinstance(node, (exp.And, exp.Or)) and any(isinstance(child, exp.Xor) for child in children):
        raise ValueError("put parentheses where XOR meets AND or OR: a AND (b XOR c)")


def _is_escaped_like(node: exp.Expr, child: exp.Expr) -> bool:
    return isinstance(node, exp.Escape) and isinstance(child, exp.Like)


def _name(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return f"{node.name.upper()}()"
    if isinstance(node, exp.Func):
        return f"{node.sql_name()}()"
    if isinstance(node, (exp.Select, exp.Subquery)):
        return "a subquery"
    if isinstance(node, (exp.Parameter, exp.SessionParameter)):
        return "a user variable"
    return node.key.upper()
