"""MySQL expressions (`where`): parsed by sqlglot, compiled to Python, evaluated as the server evaluates them.

The same text goes into the WHERE of snapshot and verify, so both sides must agree; what we cannot promise to evaluate
as the server does is refused by name at start (docs/expressions.md lists what is known). Pure: no IO, no clock.
The parser is large and most mappings have no expression: it is imported with the first one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncbridge.expression.compile import Expression

__all__ = ["Expression", "check_expression", "columns", "compile_expression"]


def compile_expression(text: str) -> Expression:
    """The function of (row, types) that `text` is. Raises ValueError, naming the mend, on what we do not understand."""
    from syncbridge.expression.compile import Expression

    return Expression(text)


def check_expression(text: str) -> None:
    """Raises ValueError, naming what is not understood and the mend, where `text` is not an expression of ours."""
    compile_expression(text)


def columns(text: str) -> tuple[str, ...]:
    """The column names that `text` uses, as written, in order of first use. ValueError as check_expression()."""
    from syncbridge.expression.parse import columns_of, parse

    return columns_of(parse(text))
