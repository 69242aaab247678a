"""What /metrics tells of the job server: labels are bounded, what is gone shows 0."""

from __future__ import annotations

from prometheus_client import REGISTRY

from syncbridge.dispatch.function import Tally
from syncbridge.dispatch.job import NORMAL
from syncbridge.dispatch.observation import MAX_LABELS, OTHER, QueueMetrics
from syncbridge.dispatch.queue import JobQueue
from syncbridge.dispatch.store.memory import MemoryStore


class Server:
    """What is read of a JobServer."""

    def __init__(self) -> None:
        self.queue = JobQueue(MemoryStore())
        self.sessions: dict[object, object] = {}


class Client:
    def created(self, job: object) -> None: ...
    def refused(self, reason: str) -> None: ...


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(name, labels)
    return 0.0 if found is None else found


def submit(queue: JobQueue, function: str) -> None:
    queue.submit(Client(), function.encode(), NORMAL, b"", b"x", True, 0.0)  # type: ignore[arg-type]
    batch = queue.take()
    assert batch is not None
    queue.committed(batch)


def test_functions_beyond_the_bound_share_a_label() -> None:
    seen = QueueMetrics()
    before = value("syncbridge_queue_completed_total", function=OTHER, priority="normal")
    for number in range(MAX_LABELS + 50):
        tally = Tally()
        tally.completed = 2
        seen.jobs(f"bounded-{number}", NORMAL, tally)
    assert value("syncbridge_queue_completed_total", function="bounded-0", priority="normal") == 2
    assert value("syncbridge_queue_completed_total", function=f"bounded-{MAX_LABELS}", priority="normal") == 0
    assert value("syncbridge_queue_completed_total", function=OTHER, priority="normal") - before == 100


async def test_levels_of_functions_that_share_a_label_are_added_up() -> None:
    seen, server = QueueMetrics(), Server()
    for number in range(MAX_LABELS + 3):
        submit(server.queue, f"level-{number}")
    await seen.refresh(server)  # type: ignore[arg-type]
    assert value("syncbridge_queue_jobs", function="level-0") == 1
    assert value("syncbridge_queue_jobs", function=OTHER) == 3
    assert value("syncbridge_queue_waiting", function=OTHER, priority="normal") == 3
    assert value("syncbridge_queue_waiting", function=OTHER, priority="high") == 0
    assert value("syncbridge_queue_bytes") == MAX_LABELS + 3


async def test_a_function_that_is_gone_shows_nothing() -> None:
    seen, server = QueueMetrics(), Server()
    submit(server.queue, "leaver")
    await seen.refresh(server)  # type: ignore[arg-type]
    assert value("syncbridge_queue_jobs", function="leaver") == 1
    server.queue.functions.clear()
    await seen.refresh(server)  # type: ignore[arg-type]
    assert value("syncbridge_queue_jobs", function="leaver") == 0
