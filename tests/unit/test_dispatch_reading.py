"""What only the store knows: read ahead, joined, asked for, no use as it is, or out of reach."""

from __future__ import annotations

import time
from typing import Any

import pytest

from syncbridge.dispatch import reading
from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.packets import WORK_COMPLETE, WORK_FAIL
from syncbridge.dispatch.store import READY, SCHEDULED, UNREADABLE, Changes
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.errors import TransientError
from tests.unit.queue_bench import LANE, Bench


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_REFILL", 8)


class Counting(MemoryStore):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = self.payloads = self.lookups = 0

    def window(self, *arguments: Any, **bounds: Any) -> Any:
        self.windows += 1
        return super().window(*arguments, **bounds)

    def payload(self, *arguments: Any) -> Any:
        self.payloads += 1
        return super().payload(*arguments)

    def joinable(self, *arguments: Any) -> Any:
        self.lookups += 1
        return super().joinable(*arguments)


# -- windows and payloads ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pages")
def test_jobs_are_read_before_they_are_asked_for() -> None:
    store = Counting()
    Bench(store).put(*[b"f"] * 100)
    bench = Bench(store)
    worker = bench.worker(b"f")
    assert bench.queue.grab(worker, 0.0) is None
    assert worker.waits
    waited = 0
    for number in range(1, 101):
        grabbed = bench.queue.grab(worker, 0.0)
        if grabbed is None:
            waited += 1
            assert worker.waits
            bench.read()
            assert bench.queue.take_waiting() == [worker]
            grabbed = bench.queue.grab(worker, 0.0)
        assert grabbed
        assert grabbed[1].id == number
        bench.complete(worker, number)
        bench.commit()
    assert waited == 1
    assert bench.queue.grab(worker, 0.0) is None
    assert not worker.waits
    print(f"{store.windows} windows read for 100 jobs, waited for {waited}")


def test_large_payloads_are_read_ahead_too() -> None:
    store = Counting()
    Bench(store).put(*[b"f"] * 100, payload=bytes(5000))
    bench = Bench(store)
    worker, waited = bench.worker(b"f"), 0
    for number in range(1, 101):
        grabbed = bench.queue.grab(worker, 0.0)
        while grabbed is None:
            waited += 1
            assert bench.read()
            grabbed = bench.queue.grab(worker, 0.0)
        assert (grabbed[1].id, grabbed[2]) == (number, bytes(5000))
        bench.complete(worker, number)
        bench.read()
    assert waited == 2  # the window, its first payloads
    assert store.payloads == 100
    assert bench.queue.holdings.payload_bytes == 0


def test_a_sleeper_is_woken_when_its_job_was_read_and_not_before() -> None:
    store = MemoryStore()
    Bench(store).put(b"f", b"f", b"f")
    bench = Bench(store)
    workers = [bench.worker(b"f") for _ in range(5)]
    for worker in workers:
        assert bench.queue.grab(worker, 0.0) is None
        bench.queue.pre_sleep(worker, 0.0)
    assert sum(worker.noops for worker in workers) == 0
    bench.read()
    assert sum(worker.noops for worker in workers) == 3


def test_other_functions_go_on_meanwhile() -> None:
    store = MemoryStore()
    Bench(store).put(b"f", LANE)
    bench = Bench(store)
    bench.put(b"g", background=False)
    worker = bench.worker(b"f", LANE, b"g")
    grabbed = bench.queue.grab(worker, 0.0)
    assert grabbed
    assert grabbed[1].function.name == b"g"


# -- joins and questions, in order -------------------------------------------------------------------------------------


def test_a_submit_that_may_join_waits_and_all_later_answers_with_it() -> None:
    store = Counting()
    Bench(store).put(b"f", unique=b"u")
    bench = Bench(store)
    other = bench.client.__class__()
    submit = bench.queue.submit
    submit(bench.client, b"f", 1, b"u", b"", True, 0.0)
    submit(bench.client, b"f", 1, b"new", b"", True, 0.0)
    submit(bench.client, b"f", 1, b"", b"", True, 0.0)
    bench.queue.answer(bench.client, b"echo")
    submit(bench.client, b"g", 1, b"", b"", False, 0.0)
    submit(other, b"g", 1, b"", b"", False, 0.0)
    batch = bench.queue.take()
    assert batch
    bench.queue.committed(batch)
    assert (bench.client.answers, len(other.answers)) == ([], 1)
    bench.commit()
    first, second, third, echo, fourth = bench.client.answers
    assert (first, echo, store.lookups) == (1, b"echo", 1)  # both look in one read
    assert second < third < fourth
    assert bench.queue.batch_size == 0


def test_two_submits_of_one_new_unique_are_one_job() -> None:
    store = MemoryStore()
    Bench(store).put(b"f")
    bench = Bench(store)
    for _ in range(2):
        bench.queue.submit(bench.client, b"f", 1, b"u", b"", True, 0.0)
    bench.commit()
    first, second = bench.client.answers
    assert first == second


def test_status_by_unique_counts_clients_and_looks_on_disk() -> None:
    bench = Bench(window=1)
    bench.put(b"f", b"f")
    bench.put(b"f", unique=b"disk")
    bench.put(b"g", unique=b"here", background=False)
    for unique, expected in (
        (b"here", b"here\x001\x000\x000\x000\x001"),
        (b"disk", b"disk\x001\x000\x000\x000\x000"),
        (b"none", b"none\x000\x000\x000\x000\x000"),
        (b"", b"\x000\x000\x000\x000\x000"),
    ):
        bench.queue.unique_status(bench.client, unique)
        bench.commit()
        assert bench.client.answers.pop()[12:] == expected


def test_status_says_progress() -> None:
    bench = Bench()
    bench.put(b"f")
    worker = bench.worker(b"f")
    bench.grab(worker)
    bench.queue.set_status(worker, b"H:h:1", b"5", b"10")
    assert bench.status(b"H:h:1") == b"H:h:1\x001\x001\x005\x0010"
    bench.fail(worker, 1)
    assert bench.status(b"H:h:1") == b"H:h:1\x000\x000\x000\x000"
    bench.commit()
    assert bench.status(b"H:h:1") == b"H:h:1\x000\x000\x000\x000"  # a dead letter is not known


def test_a_client_hears_of_its_job_before_it_hears_the_result() -> None:
    """progress() may come first when it joined a running job: whoever answers has to put that in order."""
    bench = Bench()
    bench.put(b"f", unique=b"u")
    worker = bench.worker(b"f")
    bench.grab(worker)
    bench.queue.submit(bench.client, b"f", 1, b"u", b"", False, 0.0)
    bench.complete(worker, 1, b"done")
    job = bench.client.answers[-1]
    assert job[2] == b"done"
    bench.commit()
    assert bench.client.answers[-1] == 1


# -- rows that are no use ----------------------------------------------------------------------------------------------


class Damaged(MemoryStore):
    """Row 2 makes no sense."""

    def window(self, *arguments: Any, **bounds: Any) -> list[JobRecord]:
        return [self._damage(record) for record in super().window(*arguments, **bounds)]

    def by_due(self, state: int, *, after: tuple[int, int], limit: int) -> list[JobRecord]:
        return [self._damage(record) for record in super().by_due(state, after=after, limit=limit)]

    @staticmethod
    def _damage(record: JobRecord) -> JobRecord:
        return record._replace(payload=None, size=UNREADABLE) if record.id == 2 else record


@pytest.mark.parametrize("due", [0.0, 50.0])
def test_a_row_that_cannot_be_read_is_set_aside(due: float) -> None:
    store = Damaged()
    Bench(store).put(b"f", b"f", b"f", due=due)
    bench = Bench(store)
    bench.tick(100.0)
    worker = bench.worker(b"f")
    assert [bench.grab(worker, 100.0) for _ in range(3)] == [(b"f", 1), (b"f", 3), None]
    assert bench.dead() == {2: b"the stored job cannot be read"}
    assert (bench.queue.dead, bench.queue.jobs) == (1, 2)
    for number in (1, 3):
        bench.complete(worker, number)
    assert bench.queue.functions[b"f"].total == 0
    bench.commit()
    again = Bench(store)
    assert again.grab(again.worker(b"f")) is None


def test_a_row_too_large_to_be_sent_is_set_aside_also_of_a_lane() -> None:
    store = MemoryStore()
    Bench(store).put(LANE, payload=bytes(2000))
    Bench(store).put(LANE, payload=b"small")
    bench = Bench(store, max_packet=1000)
    worker = bench.worker(LANE)
    grabbed = bench.grab(worker)
    assert grabbed
    bench.complete(worker, grabbed[1])
    assert bench.dead() == {1: b"the stored job is too large to be sent: 2000 bytes"}
    assert bench.queue.functions[LANE].group.active == 0


def test_jobs_that_vanished_from_the_store_are_not_waited_for() -> None:
    store = MemoryStore()
    Bench(store).put(*[b"f"] * 5, payload=bytes(5000))
    bench = Bench(store)
    for number in (1, 2, 5):
        del store._jobs[number]
    worker = bench.worker(b"f")
    assert [bench.grab(worker) for _ in range(3)] == [(b"f", 3), (b"f", 4), None]
    assert bench.queue.functions[b"f"].queued == 0


# -- a store that is away ----------------------------------------------------------------------------------------------


def test_while_the_store_is_away_submits_are_refused_without_waiting_for_it() -> None:
    bench = Bench()
    bench.put(b"f")
    worker = bench.worker(b"f")
    bench.grab(worker)
    submit = bench.queue.submit
    submit(bench.client, b"f", 1, b"", b"", True, 0.0)
    batch = bench.queue.take()
    assert batch
    submit(bench.client, b"f", 1, b"", b"", True, 0.0)  # gathers while the commit is under way
    bench.queue.failed(batch, "gone")
    assert bench.client.answers == [1, "gone", "gone"]
    bench.complete(worker, 1)
    attempt = bench.queue.take()
    assert attempt
    assert set(attempt.changes.removes) == {1}
    # Another attempt is under way, for as long as it takes.
    submit(bench.client, b"f", 1, b"", b"", True, 0.0)
    submit(bench.client, b"f", 1, b"", b"", False, 0.0)
    bench.queue.answer(bench.client, b"echo")
    bench.queue.answer_without_store()
    assert bench.client.answers[3] == "gone"
    foreground = bench.client.answers[4]
    assert bench.client.answers[5] == b"echo"
    assert bench.grab(worker) == (b"f", foreground)
    submit(bench.client, b"g", 1, b"u", b"", False, 0.0)
    submit(bench.client, b"g", 1, b"u", b"", True, 0.0)  # cannot make it durable
    bench.queue.answer_without_store()
    assert bench.client.answers[-1] == "gone"
    bench.queue.failed(attempt, "still gone")
    again = bench.queue.take()
    assert again
    assert set(again.changes.removes) == {1}
    assert again.changes.reserve  # so that it shows whether the store can be written
    bench.store.commit(again.changes)
    bench.queue.committed(again)
    assert bench.queue.away == ""
    bench.put(b"f")
    assert isinstance(bench.client.answers[-1], int)
    assert set(bench.stored()) == {bench.client.answers[-1]}


def test_what_happened_while_the_store_was_away_is_written_in_one_piece() -> None:
    """A job that failed, was put off, came due, failed again: the store sees one move from where it left the row."""
    from syncbridge.dispatch.policy import Policies, Policy

    bench = Bench(policies=Policies(Policy(retry_failures=True, attempts=3)))
    bench.put(b"f", b"f")
    worker = bench.worker(b"f")
    now = 0.0
    for _ in range(2):
        for number in (1, 2):
            assert bench.grab(worker, now) == (b"f", number)
            bench.fail(worker, number, now)
        batch = bench.queue.take()
        assert batch
        bench.queue.failed(batch, "gone")
        now += 10.0
        bench.queue.tick(now)
    assert bench.grab(worker, now) == (b"f", 1)
    bench.complete(worker, 1)
    assert bench.stored() == {2: (b"f", SCHEDULED, 2)}


def test_a_run_looks_for_all_its_uniques_in_one_read() -> None:
    store = Counting()
    Bench(store).put(*[b"f"] * 2, unique=b"u")
    bench = Bench(store)
    assert bench.queue.submit_run(bench.client, b"f", 1, [b"t", b"u", b"v"], [b"payload"] * 3, 0.0)
    assert bench.queue.take() is None
    bench.commit()
    new, joined, newer = bench.client.answers
    assert (joined, newer - new, store.lookups) == (1, 1, 1)
    assert bench.queue.batch_size == 0
    assert bench.queue.submit_run(bench.client, b"f", 1, [b""] * 3, [b"payload"] * 3, 0.0)
    bench.commit()
    assert (bench.client.answers[3:], store.lookups) == ([newer + 1, newer + 2, newer + 3], 1)


def test_a_run_joins_what_was_left_to_the_store_while_it_was_looked_for() -> None:
    bench = Bench(MemoryStore(), window=1)
    bench.put(b"f", b"f")
    other = bench.client.__class__()
    bench.queue.submit(other, b"f", 1, b"u", b"", True, 0.0)
    assert bench.read()
    assert bench.queue.submit_run(bench.client, b"f", 1, [b"t", b"u"], [b"", b""], 0.0)
    seen = [(read, read.ask(bench.store)) for read in bench.queue.take_reads()]
    batch = bench.queue.take()
    assert batch
    bench.store.commit(batch.changes)
    bench.queue.committed(batch)
    assert bench.queue.holdings.jobs.keys().isdisjoint(other.answers)
    bench.queue.reads_done(seen, 0.0)
    bench.commit()
    assert (other.answers, bench.client.answers[2:]) == ([3], [4, 3])


def test_a_long_run_that_is_sent_again_at_once_joins_the_first_in_no_time() -> None:
    bench = Bench()
    other = bench.client.__class__()
    bench.put(b"f")
    uniques, payloads = [b"u%d" % n for n in range(20_000)], [b""] * 20_000
    assert bench.queue.submit_run(bench.client, b"f", 1, uniques, payloads, 0.0)
    assert not bench.queue.submit_run(other, b"f", 1, uniques, payloads, 0.0)
    started = time.thread_time()
    for unique in uniques:
        bench.queue.submit(other, b"f", 1, unique, b"", True, 0.0)
    used = time.thread_time() - started
    print(f"{used:.2f} s of processor time for {len(uniques)} joins")
    assert used < 1.0
    bench.commit()
    assert other.answers == bench.client.answers[1:] == list(range(2, 20_002))
    assert bench.queue.jobs == 20_001


def test_a_run_is_nobodys_until_its_commit_is_through() -> None:
    """Its rows may be seen before: whoever looks must not take them for jobs that only the store has."""
    bench = Bench(window=1)
    other = bench.client.__class__()
    bench.put(b"f")
    assert bench.queue.submit_run(bench.client, b"f", 1, [b"u%d" % n for n in range(3)], [b"payload"] * 3, 0.0)
    batch = bench.queue.take()
    assert batch
    bench.store.commit(batch.changes)
    record = bench.store.find(3)
    assert record
    assert bench.queue.control.stored_only(record) is None
    bench.queue.status(other, b"H:h:3")
    bench.queue.unique_status(other, b"u1")
    bench.queue.submit(other, b"f", 1, b"u1", b"", False, 0.0)
    bench.queue.committed(batch)
    assert bench.client.answers == [1, 2, 3, 4]
    assert bench.queue.control.stored_only(bench.store.find(4))
    bench.commit()
    assert [answer[12:] for answer in other.answers[:2]] == [
        b"H:h:3\x001\x000\x000\x000",
        b"u1\x001\x000\x000\x000\x000",
    ]
    assert other.answers[2:] == [3]
    worker = bench.worker(b"f")
    for number in (1, 2, 3, 4):
        assert bench.grab(worker) == (b"f", number)
        bench.complete(worker, number, b"result")
    assert other.answers[3:] == [(WORK_COMPLETE, 3, b"result")]


def test_a_store_that_cannot_be_read_joins_nothing_and_knows_nothing() -> None:
    class Sick(MemoryStore):
        def joinable(self, *arguments: Any) -> Any:
            raise TransientError("cannot be read")

        find = joinable

    store = Sick()
    Bench(store).put(b"f", unique=b"u")
    bench = Bench(store)
    bench.put(b"f", unique=b"u")
    assert bench.client.answers[-1] != 1
    assert bench.status(b"H:h:1") == b"H:h:1\x000\x000\x000\x000"


# -- what people do ----------------------------------------------------------------------------------------------------


def test_a_paused_function_stays_paused_after_a_restart() -> None:
    bench = Bench()
    worker = bench.worker(b"f", asleep=True)
    assert bench.queue.control.pause(b"f")
    bench.put(b"f")
    assert worker.noops == 0
    assert bench.grab(worker) is None
    bench = Bench(bench.store)
    worker = bench.worker(b"f", asleep=True)
    assert bench.grab(worker) is None
    bench.queue.pre_sleep(worker, 0.0)
    assert bench.queue.stats(0.0)[b"f"].paused
    assert bench.queue.control.resume(b"f")
    assert not bench.queue.control.resume(b"f")
    assert worker.noops == 1
    assert bench.grab(worker) == (b"f", 1)
    bench.commit()
    assert bench.store.settings() == {}


def test_a_function_with_jobs_or_workers_is_not_dropped() -> None:
    bench = Bench()
    assert bench.queue.control.drop(b"f") == "unknown"
    assert bench.queue.control.create(b"f")
    assert bench.queue.control.drop(b"f") == "ok"
    bench.queue.submit(bench.client, b"f", 1, b"", b"", True, 0.0)
    assert bench.queue.control.drop(b"f") == "busy"
    bench.commit()
    assert bench.queue.control.drop(b"f") == "busy"
    worker = bench.worker(b"f")
    bench.grab(worker)
    bench.complete(worker, 1)
    assert bench.queue.control.drop(b"f") == "busy"
    bench.queue.reset_abilities(worker)
    assert bench.queue.control.drop(b"f") == "ok"
    assert b"f" not in bench.queue.functions


def test_cancelled_jobs_are_gone_and_their_clients_told() -> None:
    bench = Bench(window=2)
    bench.put(*[b"f"] * 4)
    bench.put(b"f", background=False)
    bench.put(LANE)
    worker = bench.worker(b"f")
    bench.grab(worker)
    assert bench.queue.control.cancel(b"H:h:1", 0.0)
    assert not bench.queue.complete(worker, b"H:h:1", b"")
    assert bench.queue.control.cancel(b"H:h:2", 0.0)
    assert bench.queue.control.cancel(b"H:h:5", 0.0)
    assert bench.client.answers[-1] == (WORK_FAIL, 5, b"")
    for handle in (b"H:h:6", b"H:h:7", b"H:h:1", b"nonsense"):
        assert not bench.queue.control.cancel(handle, 0.0)
    bench.queue.control.cancel_anywhere(bench.client, b"H:h:4", 0.0, done=b"yes", unknown=b"no")
    bench.queue.control.cancel_anywhere(bench.client, b"H:h:6", 0.0, done=b"yes", unknown=b"no")
    bench.commit()
    assert bench.client.answers[-2:] == [b"yes", b"no"]
    assert bench.stored() == {3: (b"f", READY, 0), 6: (LANE, READY, 0)}
    assert bench.grab(worker) == (b"f", 3)
    assert bench.grab(worker) is None


def test_what_is_cancelled_while_it_is_read_stays_cancelled() -> None:
    store = MemoryStore()
    Bench(store).put(*[b"f"] * 3)
    bench = Bench(store)
    worker = bench.worker(b"f")
    assert bench.queue.grab(worker, 0.0) is None
    reads = [(read, read.ask(store)) for read in bench.queue.take_reads()]
    record = store.find(2)
    assert record
    job = bench.queue.holdings.from_record(bench.queue.functions[b"f"], record)
    job.spilled = True
    assert bench.queue.control.cancel_job(job)
    batch = bench.queue.take()
    assert batch
    store.commit(batch.changes)
    bench.queue.committed(batch)
    bench.queue.reads_done(reads, 0.0)
    assert [bench.grab(worker) for _ in range(3)] == [(b"f", 1), (b"f", 3), None]


def test_draining_hands_out_nothing_and_wakes_nobody() -> None:
    bench = Bench()
    bench.put(b"f")
    worker = bench.worker(b"f")
    bench.grab(worker)
    sleeper = bench.worker(b"f", asleep=True)
    bench.queue.drain()
    bench.put(b"f")
    assert sleeper.noops == 0
    assert bench.grab(sleeper) is None
    assert bench.queue.running == 1
    bench.complete(worker, 1)
    assert bench.queue.running == 0


def test_an_empty_core_asks_and_changes_nothing() -> None:
    bench = Bench()
    assert bench.queue.tick(0.0) is None
    bench.commit()
    assert bench.queue.take() is None
    assert bench.queue.take_reads() == []
    assert Changes() == Changes()
