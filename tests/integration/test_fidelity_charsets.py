"""Every code of every character set of the server: our text equals the server's conversion to utf8mb4."""

from __future__ import annotations

from collections.abc import Callable

from syncbridge.capture.binlog.charsets import text_decoder
from tests.servers import SqlServer

#: Nothing to convert, or (ascii) codes that no column accepts.
PLAIN = {"binary", "utf8", "utf8mb3", "utf8mb4"}
UNICODE = {"ucs2", "utf16", "utf16le", "utf32"}


def codes(server: SqlServer, charset: str, longest: int) -> list[tuple[bytes, str]]:
    """(bytes, text) of every one- and two-byte code, of EUC's three-byte codes, or of the first Unicode plane."""
    lead = 0x8F0000 if charset in ("ujis", "eucjpms") else 0
    chosen = "n < 256" if longest == 1 else "n < 256 OR n >= 0x8140"
    if charset in UNICODE:
        chosen = "n NOT BETWEEN 0xD800 AND 0xDFFF"  # lone surrogates, which JSON cannot hold: U+FFFD with us
        sources = [f"CONVERT(CHAR(n USING ucs2) USING {charset})"]
    else:
        sources = [f"CHAR(n USING {charset})"] + ([f"CHAR(n + {lead} USING {charset})"] if lead else [])
    found: dict[bytes, str] = {}
    for source in sources:
        text = server.execute(
            "SET SESSION group_concat_max_len=4294967295, sql_mode=''",
            "SELECT GROUP_CONCAT(CONCAT(HEX(c), ':', HEX(CONVERT(c USING utf8mb4))))"
            f" FROM (SELECT {source} AS c FROM numbers WHERE {chosen}) codes",
        )[0][0]
        for pair in text.split(","):
            code, _, converted = pair.partition(":")
            if converted:
                found[bytes.fromhex(code)] = bytes.fromhex(converted).decode("utf-8", "replace")
    return sorted(found.items())


def test_every_code_of_every_character_set(source: SqlServer, record_property: Callable[..., None]) -> None:
    numbers = ",".join(f"({number})" for number in range(256))
    source.execute(
        "CREATE TABLE bytes (b INT PRIMARY KEY)",
        f"INSERT INTO bytes VALUES {numbers}",
        "CREATE TABLE numbers AS SELECT h.b * 256 + l.b AS n FROM bytes h CROSS JOIN bytes l",
    )
    compared = 0
    problems = []
    for charset, longest in source.execute("SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS"):
        if charset in PLAIN:
            continue
        decode = text_decoder(charset)
        if decode is None:
            problems.append(f"{charset} is unknown")
            continue
        pairs = codes(source, charset, longest)
        if charset == "ascii":
            pairs = pairs[:128]
        wrong = [(code, text, decode(code)) for code, text in pairs if decode(code) != text and not ill_formed(text)]
        compared += len(pairs)
        if wrong:
            problems.append(f"{charset}: {len(wrong)} of {len(pairs)}, e.g. {wrong[:3]}")
    record_property("codes_compared", compared)
    print(f"{source.flavor}: {compared} codes compared")
    assert not problems, "\n".join(problems)
    assert compared > 400_000


def ill_formed(text: str) -> bool:
    """What a server without strict checks prints for bytes that are no code of the set: question marks, their number
    being its own affair. No column holds them."""
    return "?" in text and len(text) > 1
