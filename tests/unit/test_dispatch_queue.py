"""Rules of the queue core, one test each; the model test covers their combinations."""

from __future__ import annotations

from typing import Any

import pytest

from syncbridge.dispatch import queue
from syncbridge.dispatch.job import join_key
from syncbridge.dispatch.lanes import group_name
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.errors import TransientError
from tests.unit.queue_bench import LANE, Bench


def test_nothing_is_answered_or_handed_out_before_the_commit() -> None:
    bench = Bench()
    worker = bench.worker(b"f", asleep=True)
    bench.queue.submit(bench.client, b"f", 1, b"", b"x", True, 0.0)
    batch = bench.queue.take()
    assert batch
    assert bench.client.answers == []
    assert bench.grab(worker) is None
    bench.store.commit(batch.changes)
    bench.queue.committed(batch)
    assert bench.client.answers == [1]
    assert bench.grab(worker) == (b"f", 1)


def test_only_jobs_that_are_over_may_wait_for_company() -> None:
    bench = Bench()
    worker = bench.worker(b"f")
    bench.put(b"f", b"f", b"f")
    for number in (1, 2):
        bench.grab(worker)
        bench.complete(worker, number)
    assert bench.queue.leaving == 2
    bench.queue.submit(bench.client, b"f", 1, b"", b"x", True, 0.0)  # its client waits for the commit
    assert bench.queue.leaving == 0
    bench.commit()
    assert bench.queue.leaving == 0
    bench.grab(worker)
    bench.queue.disconnect(worker)  # a delivery without an answer, or a dead letter, is on record at once
    assert bench.queue.leaving == 0
    assert bench.queue.take()


def test_a_volatile_queue_answers_at_once_and_leaves_to_the_store_what_memory_does_not_keep() -> None:
    bench = Bench(volatile=True, window=2)
    for _ in range(4):
        bench.queue.submit(bench.client, b"f", 1, b"", b"x", True, 0.0)
    assert bench.client.answers == [1, 2, 3, 4]
    assert list(bench.stored()) == [3, 4]
    worker = bench.worker(b"f")
    assert bench.grab(worker) == (b"f", 1)
    bench.queue.disconnect(worker)
    other = bench.worker(b"f")
    assert [bench.grab(other) for _ in range(5)] == [(b"f", 1), (b"f", 2), (b"f", 3), (b"f", 4), None]


def test_a_volatile_queue_that_has_nothing_to_commit_reserves_ids_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "RESERVE", 10)
    bench = Bench(volatile=True)
    worker = bench.worker(b"f")
    for number in range(1, 51):
        bench.put(b"f")
        assert bench.grab(worker) == (b"f", number)
        bench.complete(worker, number)


def test_a_failed_commit_refuses_and_keeps_nothing() -> None:
    bench = Bench()
    bench.queue.submit(bench.client, b"f", 1, b"", b"x", True, 0.0)
    bench.queue.submit(bench.client, b"f", 1, b"", b"x", False, 0.0)
    batch = bench.queue.take()
    assert batch
    bench.queue.failed(batch, "disk full")
    assert bench.client.answers == ["disk full", 2]  # a foreground job needs no store
    assert bench.queue.jobs == bench.queue.bytes == bench.queue.holdings.payload_bytes == 0


def test_as_many_sleepers_wake_as_there_are_jobs() -> None:
    bench = Bench()
    workers = [bench.worker(b"f", b"g", asleep=True) for _ in range(5)]
    bench.put(b"f", b"g")
    assert sum(worker.noops for worker in workers) == 2
    bench.put(b"f")
    assert sorted(worker.noops for worker in workers) == [0, 0, 1, 1, 1]


def test_a_sleeper_that_comes_too_late_is_woken_at_once() -> None:
    bench = Bench()
    bench.put(b"f")
    assert bench.worker(b"f", asleep=True).noops == 1
    assert bench.worker(b"other", asleep=True).noops == 0


def test_idle_sleepers_and_a_lane_in_other_hands_cause_no_noop() -> None:
    bench = Bench()
    bench.put(LANE, LANE, LANE)
    one = bench.worker(LANE)
    assert bench.grab(one)
    two = bench.worker(LANE, asleep=True)
    bench.put(LANE)
    assert (one.noops, two.noops) == (0, 0)
    bench.complete(one, 1)
    assert two.noops == 1


def test_functions_take_turns() -> None:
    bench = Bench()
    bench.put(b"f", b"f", b"f", b"g", b"g")
    worker = bench.worker(b"f", b"g")
    assert [bench.grab(worker) for _ in range(6)] == [(b"f", 1), (b"g", 4), (b"f", 2), (b"g", 5), (b"f", 3), None]


def test_an_idle_colleague_gets_his_share_of_the_lanes() -> None:
    lanes = [b"syncbridge.shop.%d" % n for n in range(4)]
    bench = Bench()
    bench.put(*lanes * 3)
    greedy = bench.worker(*lanes)
    held = [bench.grab(greedy) for _ in range(4)]
    assert {function for function, _ in filter(None, held)} == set(lanes)
    late = bench.worker(*lanes, asleep=True)
    assert late.noops == 0
    assert bench.grab(greedy) is None  # it holds more than its half
    bench.complete(greedy, 1)
    bench.complete(greedy, 2)
    assert late.noops == 1
    assert bench.grab(late) == (lanes[0], 5)
    assert bench.grab(late) == (lanes[1], 6)
    assert bench.grab(greedy) == (lanes[2], 7)


def test_a_lane_beyond_the_share_of_whoever_was_woken_is_offered_to_his_colleague() -> None:
    a, b, c, d = (b"syncbridge.shop.%d" % n for n in range(4))
    bench = Bench()
    bench.put(a, a, b, c, d)
    one, two = bench.worker(a, b, c, d), bench.worker(d, a, b, c)
    assert bench.grab(two) == (d, 5)
    assert [bench.grab(one) for _ in range(3)] == [(a, 1), (b, 3), (c, 4)]
    bench.queue.pre_sleep(two, 0.0)
    bench.queue.pre_sleep(one, 0.0)
    bench.complete(one, 1)
    assert (one.noops, two.noops) == (0, 1)
    bench.complete(one, 3)
    bench.complete(one, 4)  # two lanes are left, and whoever was woken has one of them already
    assert bench.grab(two) is None
    bench.queue.pre_sleep(two, 0.0)
    assert (one.noops, two.noops) == (1, 1)
    assert bench.grab(one) == (a, 2)


def test_a_lane_left_to_a_colleague_who_gets_busy_is_offered_again() -> None:
    lanes = [b"syncbridge.shop.%d" % n for n in range(2)]
    bench = Bench()
    bench.put(*lanes)
    one, two = bench.worker(*lanes), bench.worker(*lanes, asleep=True)
    assert two.noops == 1
    assert bench.grab(one) == (lanes[0], 1)
    assert bench.grab(one) is None  # the second lane is left to the other, who was woken for it
    bench.queue.pre_sleep(one, 0.0)
    bench.put(b"plain")
    bench.queue.can_do(two, b"plain")
    two.functions.reverse()
    assert bench.grab(two) == (b"plain", 3)
    assert one.noops == 1
    assert bench.grab(one) == (lanes[1], 2)


def test_a_lane_rests_after_a_failure_and_longer_after_each() -> None:
    bench = Bench()
    bench.put(LANE)
    worker = bench.worker(LANE)
    now = 0.0
    for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        assert bench.grab(worker, now) == (LANE, 1)
        assert bench.queue.fail(worker, b"H:h:1", now)
        bench.queue.pre_sleep(worker, now)
        noops = worker.noops
        assert bench.queue.tick(now) == pytest.approx(now + pause)
        assert worker.noops == noops
        now += pause
        assert bench.queue.tick(now) is None
        assert worker.noops == noops + 1
    assert bench.grab(worker, now)
    bench.complete(worker, 1)
    assert bench.queue.functions[LANE].failures == 0


def test_a_worker_that_leaves_gives_back_without_a_rest() -> None:
    bench = Bench()
    bench.put(LANE)
    worker = bench.worker(LANE)
    assert bench.grab(worker)
    bench.queue.reset_abilities(worker)
    assert bench.queue.fail(worker, b"H:h:1", 0.0)
    assert bench.grab(bench.worker(LANE)) == (LANE, 1)


def test_an_isolated_job_stays_isolated_however_often_it_kills() -> None:
    bench = Bench()
    bench.put(LANE)
    for _ in range(8):
        worker = bench.worker(LANE, LANE + b".isolated")
        assert bench.grab(worker)
        bench.queue.disconnect(worker)
        bench.commit()
    assert [(b.function, b.jobs) for b in bench.store.backlogs()] == [(LANE + b".isolated", 1)]


def test_a_failed_plain_job_is_over_and_a_lost_one_is_not() -> None:
    bench = Bench()
    bench.put(b"f", b"f")
    worker = bench.worker(b"f")
    assert bench.grab(worker) == (b"f", 1)
    assert bench.queue.fail(worker, b"H:h:1", 0.0)
    assert bench.grab(worker) == (b"f", 2)
    bench.queue.disconnect(worker)
    bench.commit()
    assert [record.id for record in bench.store.window(b"f", 1, after=0, through=99, limit=9, inline=0)] == [2]


def test_memory_knows_a_window_and_a_budget_not_the_queue() -> None:
    bench = Bench(window=10, memory=1000)
    for _ in range(100):
        bench.put(b"f", payload=bytes(300))
    assert len(bench.queue.holdings.jobs) == 10
    assert bench.queue.holdings.payload_bytes <= 1300
    worker = bench.worker(b"f")
    for number in range(1, 101):
        assert bench.grab(worker) == (b"f", number)
        bench.complete(worker, number)
    bench.commit()
    assert bench.store.backlogs() == []


def test_a_start_counts_and_loads_nothing() -> None:
    store = MemoryStore()
    Bench(store).put(*[b"f"] * 500, payload=b"12345678")
    bench = Bench(store)
    assert (bench.queue.jobs, bench.queue.bytes, len(bench.queue.holdings.jobs)) == (500, 4000, 0)
    assert bench.queue.stats(5.0)[b"f"].total == 500
    assert bench.queue.pending(b"f") == 500
    assert bench.grab(bench.worker(b"f")) == (b"f", 1)


def test_ids_are_never_used_again() -> None:
    store = MemoryStore()
    first = Bench(store)
    first.put(b"f", background=False)
    (used,) = first.client.answers
    second = Bench(store)
    second.put(b"f", background=False)
    assert second.client.answers[0] > used
    second.queue._intake.next_id = second.queue._intake.reserved
    second.put(b"f", background=False)
    assert second.client.answers[-1] == "Job queue is full"  # rather than a handle that may come again
    second.put(b"f")
    assert isinstance(second.client.answers[-1], int)  # the refusal's own commit reserved more


def test_clients_that_come_and_go_leave_nothing() -> None:
    bench = Bench()
    for _ in range(1000):
        bench.queue.submit(bench.client, b"f", 1, b"", b"x", False, 0.0)
        bench.commit()
        bench.queue.abandon(bench.client, bench.queue.holdings.jobs[bench.client.answers[-1]])
    assert len(bench.queue.functions[b"f"].lines[1].ready) < 200
    assert bench.queue.holdings.foreground_bytes == 0
    assert bench.grab(bench.worker(b"f")) is None


def test_functions_are_bounded() -> None:
    bench = Bench(max_functions=3)
    bench.put(b"a", b"b", b"c", b"d")
    assert bench.client.answers == [1, 2, 3, "Job queue is full"]
    worker = bench.worker(b"a")
    assert bench.grab(worker)
    bench.complete(worker, 1)
    bench.queue.reset_abilities(worker)
    bench.put(b"d")
    assert bench.client.answers[-1] == 4
    assert set(bench.queue.functions) == {b"b", b"c", b"d"}


def test_a_store_that_cannot_be_read_makes_jobs_wait() -> None:
    class Sick(MemoryStore):
        def window(self, *arguments: Any, **bounds: Any) -> Any:
            if sick:
                raise TransientError("cannot be read")
            return super().window(*arguments, **bounds)

    store = Sick()
    sick = False
    Bench(store).put(b"f")
    sick = True
    bench = Bench(store)
    worker = bench.worker(b"f")
    assert bench.grab(worker) is None
    deadline = bench.queue.tick(0.0)
    assert deadline
    sick = False
    assert bench.grab(worker) is None
    assert bench.queue.tick(deadline) is None
    assert bench.grab(worker, deadline) == (b"f", 1)


def test_oldest_age_counts_from_the_submit() -> None:
    bench = Bench()
    for now in (10.0, 20.0):
        bench.queue.submit(bench.client, b"f", 1, b"", b"", True, now)
    bench.commit()
    assert bench.queue.stats(25.0)[b"f"].oldest_age == pytest.approx(15.0)
    worker = bench.worker(b"f")
    bench.grab(worker)
    assert bench.queue.stats(25.0)[b"f"][:4] == (2, 1, 1, pytest.approx(15.0))
    bench.complete(worker, 1)
    bench.queue.submit(bench.client, b"f", 2, b"", b"", True, 24.0)
    bench.commit()
    found = bench.queue.stats(25.0)[b"f"]
    assert (found.oldest_age, found.in_hands) == (pytest.approx(5.0), (0, 0, 0))
    assert found.ages == pytest.approx((0.0, 5.0, 1.0))


def test_status_of_a_job_on_disk_is_known() -> None:
    bench = Bench(window=1)
    bench.put(b"f", b"f", b"f")
    assert bench.status(b"H:h:3") == b"H:h:3\x001\x000\x000\x000"
    assert bench.status(b"H:h:4") == b"H:h:4\x000\x000\x000\x000"
    for nonsense in (b"", b"H:h:", b"H:other:1", b"H:h:x", b"H:h:" + b"9" * 400, b"\xff"):
        assert bench.status(nonsense) == nonsense + b"\x000\x000\x000\x000"


@pytest.mark.parametrize(
    ("unique", "payload", "key"),
    [(b"", b"x", None), (b"u", b"x", b"u"), (b"u", b"", b"u"), (b"-", b"", None)],
)
def test_what_a_later_submit_must_equal(unique: bytes, payload: bytes, key: bytes | None) -> None:
    assert join_key(unique, payload) == key


def test_a_dash_compares_payloads() -> None:
    assert join_key(b"-", b"a") == join_key(b"-", b"a") != join_key(b"-", b"b")


def test_lanes_of_a_pipeline_are_one_group_and_isolated_ones_another() -> None:
    assert group_name(b"syncbridge.shop.3") == group_name(b"syncbridge.shop.4") == b"syncbridge.shop"
    assert group_name(b"syncbridge.shop.3.isolated") == b"syncbridge.shop.isolated"
    assert group_name(b"plain") == b""
