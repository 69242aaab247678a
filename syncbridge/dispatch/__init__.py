"""Dispatch: the durable job server between capture and sinks, and its clients.

Bytes take one way through it:

    service.py     the edges of one process: listeners.py, gateway.py (HTTP), api.py (admin), observation.py (metrics)
    server.py      one event loop, one thread that commits, one that reads
      session.py   one connection: packets in, calls on the core, packets out (no socket); admin.py: its text commands
        packets.py the Gearman packets as bytes
      queue.py     the core: which job goes to which worker, and when (no socket, no clock); one module for each step
        job.py run.py function.py line.py schedule.py policy.py lanes.py    its nouns
      inspector.py what is in there, for people and monitors
      store/       what survives a crash; every change of one event-loop tick is one transaction

    submitter.py      capture's client (LaneQueue)
    worker_client.py  a sink worker's client (LaneJobs)
    peers/            a client and a worker for everybody: what this package exports, loaded when it is asked for

Dispatch never looks into a workload and never imports capture or sinks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncbridge.dispatch.job import HIGH, LOW, NORMAL
    from syncbridge.dispatch.peers.client import GearmanClient
    from syncbridge.dispatch.peers.errors import AcceptanceUnknown, JobFailed, JobRaised, JobRefused, ResultUnknown
    from syncbridge.dispatch.peers.job import WorkerJob
    from syncbridge.dispatch.peers.server import Server, Tls
    from syncbridge.dispatch.peers.task import JobHandle, JobStatus, Kind, Task, Update
    from syncbridge.dispatch.peers.worker import GearmanWorker

__all__ = [
    "HIGH",
    "LOW",
    "NORMAL",
    "AcceptanceUnknown",
    "GearmanClient",
    "GearmanWorker",
    "JobFailed",
    "JobHandle",
    "JobRaised",
    "JobRefused",
    "JobStatus",
    "Kind",
    "ResultUnknown",
    "Server",
    "Task",
    "Tls",
    "Update",
    "WorkerJob",
]

_MODULES = {
    "job": ("HIGH", "LOW", "NORMAL"),
    "peers.client": ("GearmanClient",),
    "peers.errors": ("AcceptanceUnknown", "JobFailed", "JobRaised", "JobRefused", "ResultUnknown"),
    "peers.job": ("WorkerJob",),
    "peers.server": ("Server", "Tls"),
    "peers.task": ("JobHandle", "JobStatus", "Kind", "Task", "Update"),
    "peers.worker": ("GearmanWorker",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
