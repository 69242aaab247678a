"""MariaDB's INET4, INET6 and UUID: fixed binary strings in the binlog, text to SELECT."""

from __future__ import annotations

import socket


def inet4_text(data: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET, data.ljust(4, b"\0"))


def inet6_text(data: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, data.ljust(16, b"\0"))


def uuid_text(data: bytes) -> str:
    """MariaDB keeps a UUID with its segments in reverse order, so that time-based ones sort by time."""
    text = data.ljust(16, b"\0").hex()
    return f"{text[24:32]}-{text[20:24]}-{text[16:20]}-{text[12:16]}-{text[0:12]}"
