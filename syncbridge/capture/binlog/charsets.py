"""Column character sets: bytes as the binlog holds them -> text as the server converts it to utf8mb4.

Python's codecs where they agree with the server on every code, the server's own tables (charset_tables.py) elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

from syncbridge.capture.binlog.charset_tables import EXCEPTIONS, UPPER_HALVES

#: Character sets whose bytes are UTF-8 already.
UTF8 = frozenset(("utf8", "utf8mb3", "utf8mb4", "ascii"))

#: MySQL's latin1 is cp1252 with the five holes filled by the control characters of the same number.
LATIN1 = {
    code: bytes((code,)).decode("cp1252") for code in range(0x80, 0xA0) if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}

_FIXED = {"ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be"}
_MULTI_BYTE = {
    "gbk": "gbk", "gb2312": "gb2312", "gb18030": "gb18030", "big5": "big5", "sjis": "shift_jis", "cp932": "cp932",
    "ujis": "euc_jp", "eucjpms": "euc_jp", "euckr": "cp949",
}  # fmt: skip
#: swe7 has letters where ASCII has brackets.
_SWE7 = str.maketrans("@[\\]^`{|}~\x7f", "ÉÄÖÅÜéäöåü?")


def text_decoder(charset: str) -> Callable[[bytes], str] | None:
    """A function from a column's bytes to its text; None when we do not know the character set."""
    if charset in UTF8 or charset == "binary":
        return utf8_text
    if charset == "latin1":
        return latin1_text
    if charset in _FIXED:
        codec = _FIXED[charset]
        return lambda data: data.decode(codec, "replace")
    if charset in _MULTI_BYTE:
        return _multi_byte(charset)
    if charset in UPPER_HALVES:
        return _single_byte(charset)
    return None


def utf8_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def latin1_text(data: bytes) -> str:
    return data.decode("latin-1").translate(LATIN1)


def _single_byte(charset: str) -> Callable[[bytes], str]:
    table: dict[int, str | int] = {0x80 + code: text for code, text in enumerate(UPPER_HALVES[charset])}
    if charset == "swe7":
        table |= _SWE7
    return lambda data: data.decode("latin-1").translate(table)


def _multi_byte(charset: str) -> Callable[[bytes], str]:
    codec = _MULTI_BYTE[charset]
    exceptions = EXCEPTIONS.get(charset, {})
    width = _WIDTHS.get(charset, _two_bytes)
    # Those that the codec would read without complaint, and wrongly.
    treacherous = [code for code in exceptions if _decodes(code, codec)]

    def text(data: bytes) -> str:
        try:
            decoded = data.decode(codec)
        except UnicodeDecodeError:
            pass
        else:
            if not any(code in data for code in treacherous):
                return decoded
        return by_character(data)

    def by_character(data: bytes) -> str:
        out = []
        at = 0
        while at < len(data):
            size = width(data, at)
            out.append(character(data[at : at + size]))
            at += size
        return "".join(out)

    def character(code: bytes) -> str:
        known = exceptions.get(code)
        if known is not None:
            return known
        if charset in ("ujis", "eucjpms") and (own := _user_defined(code)):
            return own
        try:
            return code.decode(codec)
        except UnicodeDecodeError:
            return "?"

    return text


def _decodes(code: bytes, codec: str) -> bool:
    try:
        code.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


# How many bytes the character at an offset has.


def _two_bytes(data: bytes, at: int) -> int:
    return 2 if data[at] >= 0x81 else 1


def _shift_jis(data: bytes, at: int) -> int:
    return 2 if 0x81 <= data[at] <= 0x9F or data[at] >= 0xE0 else 1


def _euc_jp(data: bytes, at: int) -> int:
    if data[at] == 0x8F:
        return 3
    return 2 if data[at] == 0x8E or data[at] >= 0xA1 else 1


def _gb18030(data: bytes, at: int) -> int:
    if data[at] < 0x81:
        return 1
    return 4 if data[at + 1 : at + 2].isdigit() else 2


_WIDTHS: dict[str, Callable[[bytes, int], int]] = {
    "sjis": _shift_jis,
    "cp932": _shift_jis,
    "ujis": _euc_jp,
    "eucjpms": _euc_jp,
    "gb18030": _gb18030,
}


def _user_defined(code: bytes) -> str:
    """EUC's user-defined rows 85 to 94, which the servers map into Unicode's private use area."""
    if len(code) == 2 and code[0] >= 0xF5 and code[1] >= 0xA1:
        return chr(0xE000 + (code[0] - 0xF5) * 94 + code[1] - 0xA1)
    if len(code) == 3 and code[1] >= 0xF5 and code[2] >= 0xA1:
        return chr(0xE3AC + (code[1] - 0xF5) * 94 + code[2] - 0xA1)
    return ""
