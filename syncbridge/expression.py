"""MySQL expressions (`where`) parsed by sqlglot. Pure: no IO."""

from __future__ import annotations

import sqlglot
from sqlglot.errors import SqlglotError


def check_expression(text: str) -> None:
    """Raise ValueError, naming the mend, when `text` is not an expression we can evaluate as MySQL does."""
    try:
        sqlglot.parse_one(text, dialect="mysql")
    except SqlglotError as error:
        raise ValueError("this is not a MySQL expression: write for example status <> 'draft'") from error
