"""What peers write where a number or one word belongs."""

from __future__ import annotations

import re
from typing import Final

_DIGITS: Final = re.compile(rb"\s*\+?(\d{1,18})")
_LINE_BREAKS: Final = bytes.maketrans(b"\0\r\n", b"   ")


def leading_number(text: bytes) -> int:
    """The number the text begins with, 0 without one; gearmand reads them so."""
    digits = _DIGITS.match(text)
    return int(digits[1]) if digits else 0


def one_line(text: bytes) -> bytes:
    """Fit for a line of a text reply."""
    return text.translate(_LINE_BREAKS)
