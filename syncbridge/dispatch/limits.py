"""Every bound of the job server in one place."""

from __future__ import annotations

from dataclasses import dataclass

from syncbridge.dispatch.packets import MAX_PACKET


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes are bytes. Reaching one never loses an acknowledged job: submits are refused, readers slow down."""

    #: Background jobs the store takes; beyond it submits are answered QUEUE_ERROR.
    max_jobs: int = 50_000_000
    #: Their payloads together.
    max_bytes: int = 8 << 30
    #: Foreground jobs waiting or running: their payloads, plus 512 each.
    max_foreground_bytes: int = 256 << 20
    #: Payloads kept in memory; beyond it they are read from the store when a worker takes the job.
    memory: int = 128 << 20
    #: Queued jobs per function and priority known to memory; the rest is counted and read when its turn comes.
    window: int = 8192
    #: The same, once all functions together have `windows` jobs in memory.
    small_window: int = 64
    windows: int = 200_000
    #: Scheduled jobs known to memory; up to twice as many for a while.
    schedule: int = 8192
    #: Dead letters kept; beyond it the oldest are deleted.
    max_dead: int = 1_000_000
    #: What is kept of a background job's result.
    max_result: int = 1 << 20
    #: Functions with jobs or workers.
    max_functions: int = 100_000
    #: Largest packet taken from a connection.
    max_packet: int = MAX_PACKET
    #: Packets that have begun to arrive, over all connections: whoever goes beyond it is closed.
    max_partial: int = 256 << 20
    #: Submitted payloads waiting for one commit before connections are no longer read.
    max_batch: int = 8 << 20
    #: Output a connection may leave unread: beyond the first its requests wait, beyond the second it is closed.
    output_pause: int = 1 << 20
    output_close: int = 256 << 20
    max_connections: int = 10_000
