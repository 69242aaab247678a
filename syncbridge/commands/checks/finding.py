"""One thing that `check` has to say."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, OK = "error", "warning", "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """severity: error (the mirror would be wrong or not run), warning (it works, with a risk) or ok."""

    severity: str
    #: Stable name for scripts, e.g. `binlog-format`.
    code: str
    #: What is so, one sentence; names the server, table or mapping meant.
    sentence: str
    #: The exact SQL or command that mends it, empty for ok.
    mend: str = ""


def error(code: str, sentence: str, mend: str) -> Finding:
    return Finding(ERROR, code, sentence, mend)


def warning(code: str, sentence: str, mend: str) -> Finding:
    return Finding(WARNING, code, sentence, mend)


def ok(code: str, sentence: str) -> Finding:
    return Finding(OK, code, sentence)
