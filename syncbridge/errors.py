"""Errors, named by what the caller does about them.

Every error is one sentence in `str(error)` plus a `hint`: what to do, where possible the exact command.
The command line prints both and exits with `exit_code`; a traceback appears only under `--debug`.
Never put a password, or a URL that may hold one, in either text: `syncbridge.config.Url` prints itself redacted.
"""

from __future__ import annotations


class SyncbridgeError(Exception):
    """Root of the tree. Raise a subclass, never this one."""

    #: Process exit code (1 findings or operational, 2 usage or configuration).
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        #: What the operator should do, one sentence; empty where the message already says it.
        self.hint = hint


class ConfigError(SyncbridgeError):
    """sync.yaml or the command line is wrong. The message names the path (`mappings[2].score`) and the value."""

    exit_code = 2


class ProtocolError(SyncbridgeError):
    """Bytes that break a protocol's rules. From a peer: close it. From us: a bug."""


class TransientError(SyncbridgeError):
    """The source, the queue or the sink is not available now. Wait with backoff and retry; burns no attempt."""


class PermanentError(SyncbridgeError):
    """This one row or event cannot be applied or decoded, today or tomorrow, without somebody's help."""


class ColumnMissing(PermanentError):
    """A row lacks a column that a mapping looks at: captured when no mapping did, or the table never had it."""


class PositionLost(SyncbridgeError):
    """The binlog no longer holds the position we need. Re-snapshot when allowed, else stop with the command to run."""
