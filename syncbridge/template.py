"""Key and value templates: `order:{id}`. Pure: row values in, text out.

A placeholder names a column, or one of ours: `{_table}` the table's name, `{_key}` the primary key's values joined
by ':' (inside it, ':' and '%' of a value are percent-encoded, so that two keys never meet in one text).
`{{` and `}}` are literal braces, which is how a Redis Cluster hash tag is written: `{{{tenant}}}:order:{id}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
#: Placeholders that are not columns.
TABLE, KEY = "_table", "_key"


class Template:
    """A parsed template.

    text: as written; columns: placeholder names in order of first use, ours included.
    Raises ValueError, naming the mend, when the text is not a template.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        #: Alternating literal text and placeholder name: literal, name, literal, name, …, literal.
        self._parts: list[str] = [""]
        position = 0
        for match in _TOKEN.finditer(text):
            self._parts[-1] += text[position : match.start()]
            position = match.end()
            token = match[0]
            if token in ("{{", "}}"):
                self._parts[-1] += token[0]
            elif match[1]:
                self._parts += [match[1], ""]
            else:
                raise ValueError(f"{text!r} has a brace without a column name: write {{column}}, or {{{{ for a brace")
        self._parts[-1] += text[position:]
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(self._parts[1::2]))

    def render(self, value_of: Callable[[str], str | None]) -> str | None:
        """The text with each placeholder replaced by `value_of(name)`; None when any of them is None (SQL NULL)."""
        out = []
        for index, part in enumerate(self._parts):
            if index % 2 == 0:
                out.append(part)
                continue
            value = value_of(part)
            if value is None:
                return None
            out.append(value)
        return "".join(out)

    def glob(self, table: str) -> str:
        """A Redis MATCH pattern that every key of this template (for rows of `table`) matches; others may too."""
        out = []
        for index, part in enumerate(self._parts):
            literal = part if index % 2 == 0 else table if part == TABLE else None
            out.append("*" if literal is None else re.sub(r"([*?\[\]\\])", r"\\\1", literal))
        return re.sub(r"\*+$", "*", "".join(out))


def join_key(values: list[str]) -> str:
    """The text of `{_key}`: one value as it is, several joined by ':' with ':' and '%' inside them encoded."""
    if len(values) == 1:
        return values[0]
    return ":".join(value.replace("%", "%25").replace(":", "%3A") for value in values)
