"""Policies: time-outs, retries, dead letters, limits, results. What each function's jobs may cost, and what then."""

from __future__ import annotations

import pytest

from syncbridge.dispatch.packets import WORK_COMPLETE, WORK_DATA, WORK_EXCEPTION, WORK_FAIL
from syncbridge.dispatch.policy import LANE as LANE_POLICY
from syncbridge.dispatch.policy import Ending, Policies, Policy, next_delivery
from syncbridge.dispatch.store import DEAD, READY, SCHEDULED
from tests.unit.queue_bench import LANE, Bench


def bench_with(lane: Policy = LANE_POLICY, **policy: object) -> Bench:
    return Bench(policies=Policies(Policy(**policy), lane=lane))  # type: ignore[arg-type]


def test_the_first_pattern_that_matches_counts_and_lanes_keep_theirs() -> None:
    mail, rest, default = Policy(attempts=1), Policy(attempts=2), Policy(attempts=3)
    policies = Policies(default, [("mail*", mail), ("*l", rest), ("syncbridge.*", rest)])
    assert [policies.of(name).attempts for name in (b"mail", b"xl", b"Mail", b"other", b"\xff\xfel")] == [1, 2, 2, 3, 2]
    assert policies.of(LANE) is LANE_POLICY


@pytest.mark.parametrize(
    ("policy", "ending", "deliveries", "background", "delay"),
    [
        (Policy(), Ending.FAILED, 1, True, None),
        (Policy(), Ending.TIMED_OUT, 1, True, None),
        (Policy(), Ending.LOST, 1_000_000, True, 0.0),
        (Policy(attempts=3), Ending.LOST, 2, True, 0.0),
        (Policy(attempts=3), Ending.LOST, 3, True, None),
        (Policy(attempts=3, retry_failures=True), Ending.FAILED, 1, True, 1.0),
        (Policy(attempts=3, retry_failures=True), Ending.TIMED_OUT, 2, True, 2.0),
        (Policy(attempts=3, retry_failures=True), Ending.EXCEPTION, 3, True, None),
        (Policy(attempts=3, retry_failures=True), Ending.FAILED, 1, False, None),
        (Policy(durable=True), Ending.FAILED, 1, True, 1.0),
        (Policy(durable=True), Ending.LOST, 3, False, 4.0),
        (Policy(durable=True, max_backoff=5.0), Ending.TIMED_OUT, 10**6, True, 5.0),
        (Policy(durable=True, attempts=2), Ending.EXCEPTION, 2, True, None),
    ],
)
def test_when_a_job_is_delivered_again(
    policy: Policy, ending: Ending, deliveries: int, background: bool, delay: float | None
) -> None:
    assert next_delivery(policy, ending, deliveries, background=background) == delay


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_failed_background_job_is_a_dead_letter_and_a_foreground_job_just_over() -> None:
    bench = Bench()
    bench.put(b"f", b"f")
    bench.put(b"f", background=False)
    worker = bench.worker(b"f")
    for number in (1, 2, 3):
        assert bench.grab(worker) == (b"f", number)
    bench.fail(worker, 1)
    bench.fail(worker, 2, kind=WORK_EXCEPTION, data=b"no such table " + bytes(2000))
    bench.fail(worker, 3)
    dead = bench.dead()
    assert dead[1] == b"delivery 1: its worker reported a failure"
    assert dead[2].startswith(b"delivery 1: its worker reported an exception: no such table \0")
    assert len(dead[2]) == 1000
    assert set(dead) == {1, 2}
    assert bench.client.answers[-1] == (WORK_FAIL, 3, b"")
    assert (bench.queue.jobs, bench.queue.dead) == (0, 2)
    assert bench.grab(worker) is None


def test_a_failed_job_is_deleted_where_dead_letters_are_not_kept() -> None:
    bench = bench_with(keep_dead=0.0)
    bench.put(b"f")
    worker = bench.worker(b"f")
    bench.grab(worker)
    bench.fail(worker, 1)
    assert bench.stored() == {}
    assert bench.queue.dead == 0


def test_retries_wait_longer_and_longer_and_survive_a_restart() -> None:
    policies = Policies(Policy(retry_failures=True, attempts=4, backoff=1.0))
    bench = Bench(policies=policies)
    bench.put(b"f", payload=b"data")
    worker, now = bench.worker(b"f"), 0.0
    for attempt, delay in enumerate((1.0, 2.0, 4.0), start=1):
        assert bench.grab(worker, now) == (b"f", 1)
        bench.fail(worker, 1, now)
        assert bench.stored() == {1: (b"f", SCHEDULED, attempt)}
        assert bench.queue.functions[b"f"].scheduled == 1
        bench = Bench(bench.store, policies)  # a restart
        worker = bench.worker(b"f", asleep=True)
        due = bench.tick(now)
        assert due == pytest.approx(now + delay)
        assert bench.grab(worker, now) is None
        bench.queue.pre_sleep(worker, now)
        now += delay
        bench.tick(now)
        assert worker.noops == 1
    assert bench.grab(worker, now) == (b"f", 1)
    assert worker.running[b"H:h:1"].attempts == 3
    bench.fail(worker, 1, now)
    assert bench.dead() == {1: b"delivery 4: its worker reported a failure"}


def test_a_retried_job_keeps_its_foreground_clients() -> None:
    bench = bench_with(retry_failures=True, attempts=2)
    bench.put(b"f", unique=b"u")
    bench.put(b"f", unique=b"u", background=False)
    worker = bench.worker(b"f")
    assert bench.grab(worker) == (b"f", 1)
    bench.fail(worker, 1)
    bench.tick(1.0)
    assert bench.client.answers == [1, 1]
    assert bench.grab(worker, 1.0) == (b"f", 1)
    bench.complete(worker, 1, b"done")
    assert bench.client.answers == [1, 1, (WORK_COMPLETE, 1, b"done")]


def test_a_durable_function_gives_back_whatever_happens() -> None:
    bench = bench_with(durable=True, timeout=5.0)
    bench.put(b"f")
    now = 0.0
    for step in range(4):
        worker = bench.worker(b"f")
        assert bench.grab(worker, now) == (b"f", 1), step
        if step == 0:
            bench.fail(worker, 1, now)
        elif step == 1:
            bench.fail(worker, 1, now, WORK_EXCEPTION, b"x")
        elif step == 2:
            bench.tick(now + 5.0)
        else:
            bench.queue.disconnect(worker)
        assert bench.stored() == {1: (b"f", SCHEDULED, step + 1)}
        now += 100.0
        bench.tick(now)
    worker = bench.worker(b"f")
    assert bench.grab(worker, now) == (b"f", 1)
    bench.complete(worker, 1)
    assert bench.stored() == {}


def test_a_job_that_takes_its_workers_down_dies_once_attempts_are_set() -> None:
    bench = bench_with(attempts=2)
    bench.put(b"f")
    bench.put(b"f", background=False)
    for _ in range(2):
        worker = bench.worker(b"f")
        assert bench.grab(worker) == (b"f", 1)
        assert bench.grab(worker) == (b"f", 2)
        bench.queue.disconnect(worker)
        bench.commit()
    assert bench.dead() == {1: b"delivery 2: its worker went away"}
    assert bench.client.answers[-1] == (WORK_FAIL, 2, b"")
    assert bench.grab(bench.worker(b"f")) is None


# -- time-outs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_worker", [True, False])
def test_a_job_that_takes_too_long_fails_and_its_client_is_told(by_worker: bool) -> None:
    bench = bench_with(timeout=0.0 if by_worker else 3.0)
    bench.put(b"f", background=False)
    bench.put(b"f")
    worker = bench.worker(b"f", timeout=3.0 if by_worker else 0.0)
    assert bench.grab(worker, 10.0) == (b"f", 1)
    assert bench.grab(worker, 11.0) == (b"f", 2)
    assert bench.tick(12.9) == pytest.approx(13.0)
    assert bench.client.answers == [1, 2]
    assert bench.tick(13.0) == pytest.approx(14.0)
    assert bench.client.answers == [1, 2, (WORK_FAIL, 1, b"")]
    assert not bench.queue.complete(worker, b"H:h:1", b"late")
    bench.complete(worker, 2)
    assert bench.tick(14.0) is None
    assert bench.queue.functions[b"f"].tallies[1].timed_out == 1
    assert bench.stored() == {}


def test_a_background_job_that_takes_too_long_has_failed() -> None:
    bench = bench_with(timeout=3.0)
    bench.put(b"f")
    worker = bench.worker(b"f")
    bench.grab(worker)
    bench.tick(3.0)
    assert bench.dead() == {1: b"delivery 1: its worker took too long"}


def test_many_jobs_in_time_leave_no_alarms() -> None:
    bench = bench_with(timeout=3600.0)
    worker = bench.worker(b"f")
    for number in range(1, 1001):
        bench.put(b"f", background=False)
        assert bench.grab(worker) == (b"f", number)
        bench.complete(worker, number)
    assert len(bench.queue._deadlines._heap) < 200


def test_a_lane_whose_worker_hangs_goes_to_another() -> None:
    bench = bench_with(lane=Policy(durable=True, timeout=10.0))
    bench.put(LANE, LANE, LANE)
    hung = bench.worker(LANE)
    assert [bench.grab(hung, 0.0) for _ in range(2)] == [(LANE, 1), (LANE, 2)]
    other = bench.worker(LANE, asleep=True)
    bench.queue.now = 8.0
    bench.complete(hung, 1)  # heard of: the time counts from here
    assert bench.tick(17.9) == pytest.approx(18.0)
    assert other.noops == 0
    bench.tick(18.0)
    assert other.noops == 1
    assert not bench.queue.complete(hung, b"H:h:2", b"late")
    assert bench.grab(other, 18.0) == (LANE, 2)
    assert other.running[b"H:h:2"].attempts == 1
    assert bench.grab(hung, 18.0) is None
    assert bench.stored() == {2: (LANE, READY, 1), 3: (LANE, READY, 0)}


def test_a_lane_job_that_hangs_three_workers_is_isolated() -> None:
    bench = bench_with(lane=Policy(durable=True, timeout=10.0))
    bench.put(LANE)
    for step in range(3):
        assert bench.grab(bench.worker(LANE), step * 10.0) == (LANE, 1)
        bench.tick(step * 10.0 + 10.0)
    assert bench.stored() == {1: (LANE + b".isolated", READY, 3)}


# -- limits ------------------------------------------------------------------------------------------------------------


def test_so_many_jobs_of_a_function_run_at_a_time() -> None:
    bench = bench_with(running=2)
    workers = [bench.worker(b"f", asleep=True) for _ in range(4)]
    bench.put(*[b"f"] * 6)
    assert [bench.grab(worker) for worker in workers] == [(b"f", 1), (b"f", 2), None, None]
    for worker in workers[2:]:
        bench.queue.pre_sleep(worker, 0.0)
    noops = sum(worker.noops for worker in workers)
    bench.complete(workers[0], 1)
    assert sum(worker.noops for worker in workers) == noops + 1
    assert bench.grab(workers[3]) == (b"f", 3)
    bench.queue.disconnect(workers[1])
    assert bench.grab(workers[2]) == (b"f", 2)
    assert bench.grab(workers[0]) is None


def test_jobs_start_at_a_rate() -> None:
    bench = bench_with(rate=10.0)
    bench.put(*[b"f"] * 50)
    worker, now, started = bench.worker(b"f", asleep=True), 100.0, 0
    while now < 102.0:
        while (found := bench.grab(worker, now)) is not None:
            bench.complete(worker, found[1])
            started += 1
        bench.queue.pre_sleep(worker, now)
        noops = worker.noops
        due = bench.tick(now)
        assert due is not None
        assert due > now
        assert worker.noops == noops
        now = due
        bench.tick(now)
        assert worker.noops == noops + 1
    assert started == pytest.approx(20, abs=1)


def test_a_high_rate_is_kept_with_coarse_timers() -> None:
    bench = bench_with(rate=5000.0)
    bench.put(*[b"f"] * 1000)
    worker, started = bench.worker(b"f"), 0
    for step in range(10):
        bench.tick(100.0 + step / 100)
        while (found := bench.grab(worker, 100.0 + step / 100)) is not None:
            bench.complete(worker, found[1])
            started += 1
    assert 450 <= started <= 650


@pytest.mark.parametrize("by_command", [True, False])
def test_a_function_takes_so_many_jobs_of_a_priority(by_command: bool) -> None:
    bench = bench_with(max_queued=(0, 0, 0) if by_command else (0, 2, 0))
    if by_command:
        bench.queue.control.set_max_queued(b"f", 0, 2, -1)
    for _ in range(3):
        bench.queue.submit(bench.client, b"f", 1, b"", b"", True, 0.0)  # all in one batch
    bench.commit()
    assert bench.client.answers == [1, 2, "Job queue is full"]
    bench.queue.submit(bench.client, b"f", 0, b"", b"", True, 0.0)
    bench.commit()
    assert bench.client.answers[-1] == 3
    bench.queue.control.set_max_queued(b"f", 0, 0, 0)
    bench.put(b"f")
    assert bench.client.answers[-1] == 4


# -- results -----------------------------------------------------------------------------------------------------------


def test_the_result_of_a_background_job_is_kept_for_a_time() -> None:
    bench = Bench(policies=Policies(Policy(keep_result=60.0)), max_result=20)
    bench.put(b"f", unique=b"u")
    bench.put(b"f", b"f")
    bench.put(b"f", background=False)
    worker = bench.worker(b"f")
    for number in range(1, 5):
        assert bench.grab(worker) == (b"f", number)
    bench.queue.now = 5.0
    bench.queue.set_status(worker, b"H:h:1", b"3", b"4")
    for part in (b"one ", b"two "):
        assert bench.queue.progress(worker, b"H:h:1", WORK_DATA, part)
    bench.complete(worker, 1, b"three")
    bench.complete(worker, 2, b"x" * 100)
    bench.fail(worker, 3, 5.0, WORK_EXCEPTION, b"why")
    bench.complete(worker, 4, b"foreground")
    bench.commit()
    kept = bench.store.result(1)
    assert kept
    assert kept[1:] == (b"f", b"u", WORK_COMPLETE, b"3", b"4", b"one two three", 5_000_000, 65_000_000)
    second, third = bench.store.result(2), bench.store.result(3)
    assert second
    assert third
    assert second.data == b"x" * 20
    assert (third.outcome, third.data) == (WORK_EXCEPTION, b"why")
    assert bench.store.result(4) is None
    assert bench.tick(6.0) is not None
    bench.tick(200.0)
    assert bench.store.result(1) is None


def test_dead_letters_go_after_their_time_and_the_oldest_when_there_are_too_many() -> None:
    policies = Policies(Policy(keep_dead=100.0), [("long", Policy(keep_dead=1e6))])
    bench = Bench(policies=policies, max_dead=3)
    worker = bench.worker(b"f", b"long")
    bench.queue.tick(0.0)
    for function, now in ((b"long", 1.0), (b"f", 2.0), (b"f", 90.0)):
        bench.put(function)
        grabbed = bench.grab(worker, now)
        assert grabbed
        bench.fail(worker, grabbed[1], now)
    assert set(bench.dead()) == {1, 2, 3}
    bench.tick(110.0)
    assert set(bench.dead()) == {1, 3}
    for _ in range(3):
        bench.put(b"long")
        grabbed = bench.grab(worker, 111.0)
        assert grabbed
        bench.fail(worker, grabbed[1], 111.0)
    bench.tick(180.0)
    assert set(bench.dead()) == {4, 5, 6}
    assert bench.queue.dead == 3
    restarted = Bench(bench.store, policies, max_dead=3)
    assert restarted.queue.dead == 3
    assert all(state == DEAD for _, state, _ in restarted.stored().values())
