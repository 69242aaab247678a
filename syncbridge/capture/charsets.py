"""Column character sets: bytes as the binlog holds them -> text as the server converts it to utf8mb4."""

from __future__ import annotations

from collections.abc import Callable

#: Character sets whose bytes are UTF-8 already.
UTF8 = frozenset(("utf8", "utf8mb3", "utf8mb4", "ascii"))

#: MySQL's latin1 is cp1252 with the five holes filled by the control characters of the same number.
LATIN1 = {
    code: bytes((code,)).decode("cp1252") for code in range(0x80, 0xA0) if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}

_CODECS = {
    "ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be",
    "gbk": "gbk", "gb2312": "gb2312", "gb18030": "gb18030", "big5": "big5", "sjis": "shift_jis", "cp932": "cp932",
    "ujis": "euc_jp", "eucjpms": "euc_jp", "euckr": "euc_kr", "koi8r": "koi8_r", "koi8u": "koi8_u",
    "greek": "iso8859_7", "hebrew": "iso8859_8", "latin2": "iso8859_2", "latin5": "iso8859_9", "latin7": "iso8859_13",
    "cp850": "cp850", "cp852": "cp852", "cp866": "cp866", "cp1250": "cp1250", "cp1251": "cp1251", "cp1256": "cp1256",
    "cp1257": "cp1257", "macce": "mac_latin2", "macroman": "mac_roman", "tis620": "tis_620",
}  # fmt: skip


def text_decoder(charset: str) -> Callable[[bytes], str] | None:
    """A function from a column's bytes to its text; None when we do not know the character set."""
    if charset in UTF8:
        return utf8_text
    if charset == "latin1":
        return latin1_text
    if charset == "binary":
        return utf8_text
    codec = _CODECS.get(charset)
    return None if codec is None else lambda data: data.decode(codec, "replace")


def utf8_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def latin1_text(data: bytes) -> str:
    return data.decode("latin-1").translate(LATIN1)
