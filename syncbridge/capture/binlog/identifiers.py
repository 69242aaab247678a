"""MariaDB's INET4, INET6 and UUID: fixed binary strings in the binlog, text to SELECT. Pure."""

from __future__ import annotations

import struct


def inet4_text(data: bytes) -> str:
    return ".".join(map(str, data.ljust(4, b"\0")))


def inet6_text(data: bytes) -> str:
    """As the server prints it: the first longest run of zero groups, even of one group, becomes "::"."""
    data = data.ljust(16, b"\0")
    groups = struct.unpack(">8H", data)
    start, length = _longest_zeros(groups)
    if start == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF)):  # IPv4-compatible or IPv4-mapped
        return "::" + ("ffff:" if length == 5 else "") + inet4_text(data[12:])
    texts = [f"{group:x}" for group in groups]
    if not length:
        return ":".join(texts)
    return f"{':'.join(texts[:start])}::{':'.join(texts[start + length :])}"


def _longest_zeros(groups: tuple[int, ...]) -> tuple[int, int]:
    """(index, length) of the first longest run of zeros."""
    best, length, run = 0, 0, 0
    for index, group in enumerate(groups):
        run = run + 1 if group == 0 else 0
        if run > length:
            best, length = index - run + 1, run
    return best, length


def uuid_text(data: bytes) -> str:
    text = data.ljust(16, b"\0").hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
