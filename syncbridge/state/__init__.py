"""The pipeline's memory outside the queue: checkpoint, schema history, snapshots, requests, retries, dead letters.

Stages and commands talk to each other through these tables, so they may run on several hosts.
"""

from syncbridge.state.checkpoints import Checkpoint
from syncbridge.state.failures import FailedRow
from syncbridge.state.requests import Request
from syncbridge.state.snapshots import SnapshotRow
from syncbridge.state.state import State

__all__ = ["Checkpoint", "FailedRow", "Request", "SnapshotRow", "State"]
