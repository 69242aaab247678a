"""Every metric's name, in one place (DESIGN P6). Stages record into them; `http.py` serves them.

The stages of `syncbridge run` are processes: with PROMETHEUS_MULTIPROC_DIR set, prometheus-client keeps each process's
values in files there and the supervisor adds them up. Labels never hold row values or URLs.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from syncbridge import __version__

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

EVENTS_CAPTURED = Counter("syncbridge_events_captured", "Row events read from the source", ["table", "op"])
EVENTS_APPLIED = Counter(
    "syncbridge_events_applied", "Row events by what Redis made of them", ["table", "op", "outcome"]
)
TRANSACTIONS = Counter("syncbridge_transactions_captured", "Transactions read from the source")
QUEUE_WAIT = Histogram("syncbridge_queue_wait_seconds", "From capture to the worker", buckets=_SECONDS)
APPLY = Histogram("syncbridge_apply_seconds", "One batch applied to Redis", buckets=_SECONDS)
COMMIT = Histogram(
    "syncbridge_queue_commit_seconds", "One group commit of the queue's store, fsync included", buckets=_SECONDS
)
SYNC = Histogram(
    "syncbridge_queue_sync_seconds",
    "The fsync of one group commit of the queue's store (Redis: and the way there and back)",
    buckets=_SECONDS,
)
COMMIT_JOBS = Counter("syncbridge_queue_commit_jobs", "Jobs that group commits added, moved or removed")
COMMIT_FAILED = Counter("syncbridge_queue_commits_failed", "Group commits that the queue's store refused")
QUEUE_JOBS = Gauge(
    "syncbridge_queue_jobs", "Jobs in the queue, running ones included", ["function"], multiprocess_mode="mostrecent"
)
QUEUE_WAITING = Gauge(
    "syncbridge_queue_waiting", "Jobs that wait for a worker", ["function", "priority"], multiprocess_mode="mostrecent"
)
QUEUE_RUNNING = Gauge(
    "syncbridge_queue_running",
    "Jobs in the hands of workers",
    ["function", "priority"],
    multiprocess_mode="mostrecent",
)
QUEUE_SCHEDULED = Gauge(
    "syncbridge_queue_scheduled", "Jobs that wait for their time", ["function"], multiprocess_mode="mostrecent"
)
QUEUE_PAUSED = Gauge(
    "syncbridge_queue_paused",
    "1 while a function is paused",
    ["function"],
    multiprocess_mode="mostrecent",
)
QUEUE_OLDEST = Gauge(
    "syncbridge_queue_oldest_seconds",
    "Age of the oldest job that waits or runs",
    ["function", "priority"],
    multiprocess_mode="mostrecent",
)
QUEUE_WORKERS = Gauge(
    "syncbridge_queue_workers", "Workers that can do a function", ["function"], multiprocess_mode="mostrecent"
)
QUEUE_CONNECTIONS = Gauge("syncbridge_queue_connections", "Open connections", multiprocess_mode="mostrecent")
QUEUE_BYTES = Gauge("syncbridge_queue_bytes", "Payload bytes of stored jobs", multiprocess_mode="mostrecent")
QUEUE_DEAD = Gauge("syncbridge_queue_dead_letters", "Dead letters of the queue", multiprocess_mode="mostrecent")
JOBS_SUBMITTED = Counter("syncbridge_queue_submitted", "Jobs accepted", ["function", "priority"])
JOBS_COMPLETED = Counter("syncbridge_queue_completed", "Jobs that ended with WORK_COMPLETE", ["function", "priority"])
JOBS_FAILED = Counter(
    "syncbridge_queue_failed", "Jobs whose worker said WORK_FAIL or WORK_EXCEPTION", ["function", "priority"]
)
JOBS_TIMED_OUT = Counter("syncbridge_queue_timed_out", "Jobs that ran longer than they may", ["function", "priority"])
JOBS_REQUEUED = Counter("syncbridge_queue_requeued", "Jobs that came back to the queue", ["function", "priority"])
JOBS_DEAD = Counter(
    "syncbridge_queue_dead", "Jobs that joined the dead-letter list of the queue", ["function", "priority"]
)
JOBS_ISOLATED = Counter(
    "syncbridge_queue_isolated", "Jobs set apart because they took workers down", ["function", "priority"]
)
RETRIES = Gauge("syncbridge_retries_pending", "Rows in the retry table", multiprocess_mode="mostrecent")
DEAD_LETTERS = Gauge("syncbridge_dead_letters", "Rows in the dead-letter table", multiprocess_mode="mostrecent")
SNAPSHOT_ROWS = Gauge(
    "syncbridge_snapshot_rows_done",
    "Rows of a table's snapshot in the queue",
    ["table"],
    multiprocess_mode="mostrecent",
)
SNAPSHOT_ESTIMATE = Gauge(
    "syncbridge_snapshot_rows_estimate",
    "Rows the source guesses a table has",
    ["table"],
    multiprocess_mode="mostrecent",
)
SNAPSHOT_RUNNING = Gauge(
    "syncbridge_snapshot_running", "1 while a table is being read", ["table"], multiprocess_mode="mostrecent"
)
LAG_BYTES = Gauge("syncbridge_lag_bytes", "Binlog bytes not read yet", multiprocess_mode="mostrecent")
RETENTION_HEADROOM = Gauge(
    "syncbridge_binlog_retention_headroom_seconds",
    "How long until the server purges what is still unread",
    multiprocess_mode="mostrecent",
)
CHECKPOINT_TIME = Gauge(
    "syncbridge_checkpoint_timestamp_seconds", "When the checkpoint last moved", multiprocess_mode="mostrecent"
)
LANE_LAG = Gauge(
    "syncbridge_lane_lag_seconds", "Last heartbeat's way through a lane", ["lane"], multiprocess_mode="mostrecent"
)
#: What the lag is made of, see current_lag.
HEARTBEAT_LAG = Gauge(
    "syncbridge_heartbeat_lag_seconds", "Slowest lane of the last heartbeat", multiprocess_mode="mostrecent"
)
HEARTBEAT_PROVED = Gauge(
    "syncbridge_heartbeat_proved_timestamp_seconds",
    "When the newest heartbeat was written that all lanes have carried",
    multiprocess_mode="mostrecent",
)
HEARTBEAT_INTERVAL = Gauge(
    "syncbridge_heartbeat_interval_seconds", "Time between heartbeats", multiprocess_mode="mostrecent"
)
SOURCE_READ_ONLY = Gauge(
    "syncbridge_source_read_only",
    "1 while the source takes no heartbeat rows, and lag cannot be proved",
    multiprocess_mode="mostrecent",
)
RESTARTS = Counter("syncbridge_stage_restarts", "Times a crashed stage was started again", ["stage"])
STAGE_UP = Gauge("syncbridge_stage_up", "1 while a stage's process runs", ["stage"], multiprocess_mode="mostrecent")
BUILD = Gauge("syncbridge_build_info", "Constant 1", ["version", "python", "pipeline"], multiprocess_mode="mostrecent")


def describe_build(pipeline: str) -> None:
    """Say who we are."""
    BUILD.labels(__version__, platform.python_version(), pipeline).set(1)


def current_lag(measured: float, proved_at: float, interval: float, now: float) -> float:
    """Seconds behind, as of `now` (pure).

    A gauge that a dead process left behind stands still; time does not. So lag is the slowest lane of the last proved
    heartbeat, or the silence since then beyond the two intervals that a healthy pipeline may need, if that is more.
    """
    return max(measured, now - proved_at - 2 * interval)


class _WithLag(Collector):
    """What a registry holds, and syncbridge_lag_seconds out of its heartbeat gauges as it is read: a frozen capture
    shows as lag."""

    def __init__(self, source: CollectorRegistry) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        names = {
            "syncbridge_heartbeat_lag_seconds": 0.0,
            "syncbridge_heartbeat_proved_timestamp_seconds": 0.0,
            "syncbridge_heartbeat_interval_seconds": 0.0,
        }
        for family in self._source.collect():
            if family.name in names and family.samples:
                names[family.name] = family.samples[0].value
            yield family
        measured, proved_at, interval = names.values()
        if proved_at and interval:
            yield GaugeMetricFamily(
                "syncbridge_lag_seconds",
                "How far Redis is behind the source, proved by heartbeats through every lane",
                value=current_lag(measured, proved_at, interval, time.time()),
            )


def with_lag(source: CollectorRegistry = REGISTRY) -> CollectorRegistry:
    """A registry with everything of `source`, and the lag."""
    whole = CollectorRegistry()
    whole.register(_WithLag(source))
    return whole
