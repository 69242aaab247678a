"""The text of a statement as tokens, and a cursor over them.

It knows comments, quotes and the comments that servers execute; it knows no statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from syncbridge.capture.ddl.dialect import Dialect

#: Bits of sql_mode, as QUERY_EVENT's status variable Q_SQL_MODE carries them, that change how DDL reads.
REAL_AS_FLOAT, ANSI_QUOTES, ORACLE, MAXDB, NO_BACKSLASH_ESCAPES = 0x1, 0x4, 0x200, 0x1000, 0x100000

#: Token kinds. A WORD may be a keyword; a NAME is a quoted identifier and never one.
WORD, NAME, STRING, NUMBER, MARK = "word", "name", "string", "number", "mark"


class Unsure(Exception):
    """The text says something that we do not understand for certain."""


class Token(NamedTuple):
    kind: str
    text: str  # decoded: quotes and escapes are gone

    def is_word(self, *words: str) -> bool:
        return self.kind == WORD and self.text.upper() in words

    def is_mark(self, mark: str) -> bool:
        return self.kind == MARK and self.text == mark


END = Token(MARK, "")

_SCAN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<line>\#[^\n]*|--(?=\s|$)[^\n]*)
  | (?P<executed>/\*(?P<mariadb>M?)!(?P<version>\d{5,6})?)
  | (?P<comment>/\*.*?\*/)
  | (?P<close>\*/)
  | (?P<backtick>`(?:[^`]|``)*`)
  | (?P<number>(?:\d+\.\d*|\.\d+|\d+)(?:e[+-]?\d+)?(?![\w$]))
  | (?P<word>[\w$@]+)
  | (?P<mark>[^'"])
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_QUOTED = {quote: re.compile(rf"{quote}((?:[^{quote}\\]|{quote}{quote}|\\.)*){quote}", re.S) for quote in "'\""}
_QUOTED_RAW = {quote: re.compile(rf"{quote}((?:[^{quote}]|{quote}{quote})*){quote}", re.S) for quote in "'\""}
_ESCAPE = re.compile(r"\\(.)", re.S)
_ESCAPES = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "Z": "\x1a", "%": "\\%", "_": "\\_"}


def tokens_of(sql: str, dialect: Dialect, sql_mode: int = 0) -> Iterator[Token]:
    """Every token outside comments. Raises Unsure where a quote or comment does not end."""
    raw = bool(sql_mode & NO_BACKSLASH_ESCAPES)
    position = 0
    while position < len(sql):
        quote = sql[position]
        if quote in "'\"":
            match = (_QUOTED_RAW if raw else _QUOTED)[quote].match(sql, position)
            if match is None:
                raise Unsure("a quote does not end")
            text = match[1].replace(quote * 2, quote)
            if quote == '"' and sql_mode & ANSI_QUOTES:
                yield Token(NAME, text)
            else:
                unescape = text if raw else _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), text)
                yield Token(STRING, unescape)
            position = match.end()
            continue
        match = _SCAN.match(sql, position)
        assert match is not None  # the last alternative takes any character
        position = match.end()
        kind = match.lastgroup
        if kind == "executed" or match["executed"]:
            if not dialect.executes(int(match["version"] or 0), for_mariadb=bool(match["mariadb"])):
                position = sql.find("*/", position) + 2
                if position == 1:
                    raise Unsure("a comment does not end")
        elif kind == "backtick":
            yield Token(NAME, match[0][1:-1].replace("``", "`"))
        elif kind in ("number", "word", "mark"):
            if match[0] == "`" or sql.startswith("/*", match.start()):
                raise Unsure("a quote or comment does not end")
            yield Token(kind, match[0])


class Reader:
    """A cursor over tokens. What it expects and does not find raises Unsure."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.position = 0

    def peek(self, ahead: int = 0) -> Token:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else END

    @property
    def done(self) -> bool:
        return self.position >= len(self.tokens)

    def next(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def at(self, *words: str) -> bool:
        """Whether the next tokens are these words, in order; "A|B" is one of two."""
        return all(self.peek(ahead).is_word(*word.split("|")) for ahead, word in enumerate(words))

    def take(self, *words: str) -> bool:
        """`at`, and step over them."""
        found = self.at(*words)
        if found:
            self.position += len(words)
        return found

    def mark(self, mark: str) -> bool:
        found = self.peek().is_mark(mark)
        if found:
            self.position += 1
        return found

    def need(self, *words: str) -> None:
        if not self.take(*words):
            raise Unsure(f"expected {' '.join(words)}, found {self.peek().text!r}")

    def name(self) -> str:
        token = self.next()
        if token.kind not in (WORD, NAME):
            raise Unsure(f"expected a name, found {token.text!r}")
        return token.text

    def number(self) -> int:
        token = self.next()
        if token.kind != NUMBER or not token.text.isdigit():
            raise Unsure(f"expected a number, found {token.text!r}")
        return int(token.text)

    def string(self) -> str:
        token = self.next()
        if token.kind != STRING:
            raise Unsure(f"expected a string, found {token.text!r}")
        return token.text

    def group(self) -> Sequence[Token]:
        """The tokens inside the parentheses that open here."""
        if not self.mark("("):
            raise Unsure(f"expected (, found {self.peek().text!r}")
        start, depth = self.position, 1
        while depth:
            if self.done:
                raise Unsure("a parenthesis does not end")
            token = self.next()
            depth += token.is_mark("(") - token.is_mark(")")
        return self.tokens[start : self.position - 1]

    def table(self, default_db: str, dialect: Dialect) -> tuple[str, str]:
        """`table` or `db.table`, in the spelling that the server gives its TABLE_MAP events."""
        first = self.name()
        pair = (first, self.name()) if self.mark(".") else (default_db, first)
        return dialect.fold(pair[0]), dialect.fold(pair[1])

    def end(self) -> None:
        self.mark(";")
        if not self.done:
            raise Unsure(f"unexpected {self.peek().text!r}")


def split(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """The parts between commas that stand outside parentheses."""
    parts, start, depth = [], 0, 0
    for index, token in enumerate(tokens):
        if token.kind == MARK:
            depth += (token.text == "(") - (token.text == ")")
            if token.text == "," and not depth:
                parts.append(tokens[start:index])
                start = index + 1
    return [*parts, tokens[start:]]
