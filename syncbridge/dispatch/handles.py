"""Handles: `H:<host>:<number>`, the name of a job to clients. Never given twice, whatever happens to the process."""

from __future__ import annotations

import socket

_MAX_DIGITS = 18


class Handles:
    """Between ids and handles. `prefix`: what all handles of this server begin with; `format % id`: a handle."""

    __slots__ = ("format", "prefix")

    def __init__(self, host: str = "") -> None:
        # Clients keep handles in 64 bytes.
        self.prefix = f"H:{(host or socket.gethostname())[:32]}:".encode()
        self.format = self.prefix.replace(b"%", b"%%") + b"%d"

    def of(self, number: int) -> bytes:
        """The handle of the job with this id."""
        return self.format % number

    def number(self, handle: bytes) -> int | None:
        """The id of the job that has, had or will have this handle; None: no handle of ours."""
        digits = handle.removeprefix(self.prefix)
        if not handle.startswith(self.prefix) or not digits.isdigit() or len(digits) > _MAX_DIGITS:
            return None
        return int(digits)
