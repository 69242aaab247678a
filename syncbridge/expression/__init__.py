"""MySQL expressions (`where`): parsed by sqlglot, compiled to Python, evaluated as the server evaluates them.

The same text goes into the WHERE of snapshot and verify, so both sides must agree; what we cannot promise to evaluate
as the server does is refused by name at start (docs/expressions.md lists what is known). Pure: no IO, no clock.
"""

from syncbridge.expression.compile import Expression, compile_expression
from syncbridge.expression.parse import check_expression, columns

__all__ = ["Expression", "check_expression", "columns", "compile_expression"]
