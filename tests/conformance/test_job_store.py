"""What every job store must do, run against each of them (stores.py)."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import (
    DEAD,
    READY,
    SCHEDULED,
    UNREADABLE,
    Changes,
    JobKey,
    JobStore,
    Move,
    Promise,
    Result,
    StoredBacklog,
)
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.errors import ConfigError, TransientError
from tests.conformance.stores import BACKENDS, Backend

NOW = 1_700_000_000_000_000
STATES = (READY, SCHEDULED, DEAD)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    backend = BACKENDS[request.param](request)
    yield backend
    backend.close()


def stores_that_are(what: str) -> pytest.MarkDecorator:
    """Runs a test against those stores only of which this attribute of Backend is true."""
    names = [name for name, backend in BACKENDS.items() if getattr(backend, what)]
    return pytest.mark.parametrize("backend", names, indirect=True)


def record(
    number: int, function: bytes = b"f", priority: int = 1, payload: bytes = b"data", **other: object
) -> JobRecord:
    base = JobRecord(number, function, priority, b"", None, NOW, 0, payload, len(payload))
    return base._replace(**other)  # type: ignore[arg-type]


def key(job: JobRecord) -> JobKey:
    """Where it lies."""
    return JobKey(job.function, job.priority, job.size, job.state)


def bare(job: JobRecord) -> JobRecord:
    """As stores give it back without its payload."""
    return job._replace(payload=None)


def window(
    store: JobStore, function: bytes = b"f", priority: int = 1, *, state: int = READY, **bounds: int
) -> list[JobRecord]:
    bounds = {"after": 0, "through": 10**15, "limit": 100, "inline": 1000} | bounds
    return store.window(function, priority, state=state, **bounds)


def ids(jobs: list[JobRecord]) -> list[int]:
    return [job.id for job in jobs]


def due(store: JobStore, state: int, limit: int = 100) -> list[JobRecord]:
    return store.by_due(state, after=(0, 0), limit=limit)


def before_and_after(backend: Backend, store: JobStore) -> Iterator[JobStore]:
    """The open store, then the one of the next process."""
    yield store
    yield backend.open()


def holds(store: JobStore, jobs: list[JobRecord]) -> None:
    """The store has exactly these jobs, whichever way one asks."""
    places = defaultdict[tuple[bytes, int, int], list[JobRecord]](list)
    for job in sorted(jobs, key=lambda job: job.id):
        places[job.function, job.priority, job.state].append(job)
        assert store.payload(job.function, job.priority, job.id, job.state) == job.payload
        assert store.find(job.id) == bare(job)
    for (function, priority, state), expected in places.items():
        assert window(store, function, priority, state=state, inline=4 << 20, limit=1000) == expected
    for state in (SCHEDULED, DEAD):
        expected = sorted((job for job in jobs if job.state == state), key=lambda job: (job.due, job.id))
        assert due(store, state, 1000) == [bare(job) for job in expected]
    assert sorted(store.backlogs()) == sorted(
        StoredBacklog(function, priority, len(held), sum(job.size for job in held), held[-1].id, state)
        for (function, priority, state), held in places.items()
    )


# -- jobs ------------------------------------------------------------------------------------------------------------

AWKWARD = [
    record(1, payload=b""),
    record(2, payload=b"\0a\0"),
    record(3, unique=b"-", join_key=b"-\0" + bytes(16)),
    record(4, unique=b"-", join_key=b"-\0" + bytes(16)),
    record(5, unique=b"-", join_key=b"-\0" + bytes(range(240, 256))),
    record(6),
    record(7),
    record(8, unique=bytes(range(64)), join_key=bytes(range(64))),
    record(9, unique=b"-a-b-", join_key=b"-a-b-"),
    record(10, unique=b"with space", join_key=b"with space", payload=b"\xff\xfe\x80"),
    record(11, b"my-func-x"),
    record(12, b"-"),
    record(13, b'it\'s "quoted" \\ `x` % _ {tag} \xff\x01', payload=b"' \" \\ ; -- %s ? :x"),
    record(14, priority=0),
    record(15, priority=2),
    record(16, "snö ☃".encode(), payload="snö ☃ \U0001f600".encode(), unique="ü".encode(), join_key="ü".encode()),
    record(17, payload=bytes(range(256)) * 4096),
    record(18, payload=b"\0" * (3 << 20)),
    record(19, reducer=b"my-reducer \xff"),
    record(20, state=SCHEDULED, due=NOW + 5),
    record(21, state=SCHEDULED, due=9_000_000_000_000_000, attempts=3, reducer=b"r", unique=b"u", join_key=b"u"),
    record(22, state=DEAD, due=NOW, note=b"it failed: \0\xff " + b"n" * 980),
    record(23, attempts=2_000_000_000, submitted=0),
    # What a collation would take for the same name.
    record(24, b"F"),
    record(25, b"f "),
    record(26, b"F", unique=b"U", join_key=b"U"),
    record(27, b"F", unique=b"u", join_key=b"u"),
    record(28, b"F", unique=b"u ", join_key=b"u "),
    record(29, b"x" * 512),
    record(8_000_000_000_000),
]


def test_awkward_jobs_survive_unchanged(backend: Backend) -> None:
    backend.open().commit(Changes(adds=AWKWARD, reserve=8_000_000_000_001))
    holds(backend.open(), AWKWARD)
    store = backend.open()
    assert store.joinable(b"f", [b"-\0" + bytes(16)]).get(b"-\0" + bytes(16)) == bare(AWKWARD[3])
    for unique in (b"U", b"u", b"u "):
        found = store.joinable(b"F", [unique]).get(unique)
        assert found is not None
        assert found.unique == unique
    store.commit(Changes(removes={job.id: key(job) for job in AWKWARD}))
    holds(store, [])
    holds(backend.open(), [])


@pytest.mark.parametrize("unique", [b"", b"-", b"same"])
def test_equal_uniques_stay_as_many_jobs(backend: Backend, unique: bytes) -> None:
    jobs = [record(n, unique=unique, join_key=unique or None) for n in range(1, 10)]
    store = backend.open()
    for job in jobs[:4]:
        store.commit(Changes(adds=[job]))
    store.commit(Changes(adds=jobs[4:]))
    holds(backend.open(), jobs)


def test_window_is_bounded_ordered_and_leaves_big_payloads_out(backend: Backend) -> None:
    store = backend.open()
    store.commit(Changes(adds=[record(n, payload=bytes(n)) for n in range(1, 30)]))
    assert ids(window(store, after=3, through=9)) == [4, 5, 6, 7, 8, 9]
    assert ids(window(store, limit=2)) == [1, 2]
    assert [(job.id, job.size, job.payload) for job in window(store, after=9, through=11, inline=10)] == [
        (10, 10, bytes(10)),
        (11, 11, None),
    ]
    assert window(store, b"other") == []
    assert window(store, priority=0) == []
    assert window(store, state=DEAD) == []


def test_a_long_queue_is_read_window_by_window(backend: Backend) -> None:
    store = backend.open()
    for start in range(0, 5000, 1000):
        store.commit(Changes(adds=[record(n, unique=b"%d" % n) for n in range(start + 1, start + 1001)]))
    seen: list[int] = []
    while found := window(store, after=seen[-1] if seen else 0, through=4900, limit=512):
        assert len(found) <= 512
        seen += ids(found)
        store.commit(Changes(removes={job.id: key(job) for job in found}))
    assert seen == list(range(1, 4901))
    holds(store, [record(n, unique=b"%d" % n) for n in range(4901, 5001)])


def test_an_older_job_may_come_later(backend: Backend) -> None:
    """A foreground job becomes durable when a background submit joins it."""
    store = backend.open()
    store.commit(Changes(adds=[record(5), record(9)]))
    store.commit(Changes(adds=[record(7), record(3)]))
    assert ids(window(store)) == [3, 5, 7, 9]
    holds(backend.open(), [record(n) for n in (3, 5, 7, 9)])


# -- moves, attempts, removes ----------------------------------------------------------------------------------------


def test_moved_noted_and_removed(backend: Backend) -> None:
    store = backend.open()
    store.commit(Changes(adds=[record(n) for n in (1, 2, 3)]))
    store.commit(
        Changes(
            adds=[record(4), record(5)],
            moves={1: Move(JobKey(b"f", 1, 4), b"f.isolated", 3)},
            attempts={2: (JobKey(b"f", 1, 4), 1)},
            removes={3: JobKey(b"f", 1, 4), 4: JobKey(b"f", 1, 4)},
        )
    )
    store = backend.open()
    holds(store, [record(1, b"f.isolated", attempts=3), record(2, attempts=1), record(5)])
    assert store.find(3) is None
    assert store.payload(b"f", 1, 3) is None
    store.commit(Changes(moves={5: Move(JobKey(b"f", 1, 4), b"g", 3)}, removes={5: JobKey(b"g", 1, 4)}))
    holds(store, [record(1, b"f.isolated", attempts=3), record(2, attempts=1)])
    holds(backend.open(), [record(1, b"f.isolated", attempts=3), record(2, attempts=1)])


@pytest.mark.parametrize("payload", [b"", b"data", bytes(100_000)], ids=["empty", "small", "large"])
@pytest.mark.parametrize("old", STATES)
@pytest.mark.parametrize("new", STATES)
def test_moves_between_all_states(backend: Backend, old: int, new: int, payload: bytes) -> None:
    job = record(2, state=old, unique=b"u", join_key=b"u", reducer=b"r", payload=payload)
    if old != READY:
        job = job._replace(due=NOW + 1, note=b"why" if old == DEAD else b"")
    others = [record(1, state=old, due=NOW if old else 0), record(3, state=new, due=NOW if new else 0)]
    store = backend.open()
    store.commit(Changes(adds=[others[0], job, others[1]]))
    move = Move(key(job), b"g", 7, new, NOW + 2 if new else 0, b"because" if new == DEAD else b"")
    store.commit(Changes(moves={2: move}))
    moved = job._replace(function=b"g", attempts=7, state=new, due=move.due, note=move.note)
    for opened in before_and_after(backend, store):
        holds(opened, [*others, moved])
        assert opened.joinable(b"g", [b"u"]).get(b"u") == (bare(moved) if new != DEAD else None)
        assert opened.joinable(b"f", [b"u"]).get(b"u") is None
    opened.commit(
        Changes(
            moves={2: Move(key(moved), b"f", 0)},
            attempts={2: (JobKey(b"f", 1, len(payload)), 8)},
        )
    )
    holds(backend.open(), [*others, job._replace(state=READY, due=0, note=b"", attempts=8)])


def test_a_job_added_in_any_state_may_move_and_leave_in_the_same_transaction(backend: Backend) -> None:
    store = backend.open()
    jobs = [record(n, state=state, due=NOW if state else 0) for n, state in enumerate(STATES, 1)]
    store.commit(
        Changes(
            adds=jobs,
            moves={job.id: Move(key(job), b"g", 1, DEAD, NOW, b"note") for job in jobs},
            removes={job.id: JobKey(b"g", 1, 4, DEAD) for job in jobs[1:]},
        )
    )
    holds(backend.open(), [jobs[0]._replace(function=b"g", attempts=1, state=DEAD, due=NOW, note=b"note")])


def test_emptied_functions_leave_nothing_behind(backend: Backend) -> None:
    store = backend.open()
    store.commit(Changes(adds=[record(1)]))
    store.commit(Changes(removes={1: JobKey(b"f", 1, 4)}))
    assert store.backlogs() == []
    store = backend.open()
    assert store.backlogs() == []
    store.commit(Changes(adds=[record(2)]))
    assert ids(window(store)) == [2]


def test_the_same_changes_twice_are_harmless(backend: Backend) -> None:
    """A store whose connection died in the middle of a commit tries it again."""
    store = backend.open()
    store.commit(Changes(adds=[record(n) for n in range(1, 5)]))
    changes = Changes(
        adds=[record(5), record(6, unique=b"u", join_key=b"u"), record(7, state=SCHEDULED, due=NOW), record(8)],
        moves={1: Move(JobKey(b"f", 1, 4), b"g", 2, DEAD, NOW, b"n"), 5: Move(JobKey(b"f", 1, 4), b"g", 1)},
        attempts={2: (JobKey(b"f", 1, 4), 9)},
        removes={3: JobKey(b"f", 1, 4), 8: JobKey(b"f", 1, 4)},
        results=[Result(3, b"f", b"", 13, b"1", b"2", b"x", NOW, NOW + 5)],
        settings={b"s": b"1"},
        reserve=100,
    )
    expected = [
        record(1, b"g", attempts=2, state=DEAD, due=NOW, note=b"n"),
        record(2, attempts=9),
        record(4),
        record(5, b"g", attempts=1),
        record(6, unique=b"u", join_key=b"u"),
        record(7, state=SCHEDULED, due=NOW),
    ]
    for _ in range(2):
        store.commit(changes)
        holds(store, expected)
    holds(backend.open(), expected)
    assert backend.open().result(3) == changes.results[0]


def test_what_is_not_there_is_no_error(backend: Backend) -> None:
    store = backend.open()
    store.commit(Changes(adds=[record(1)]))
    elsewhere = JobKey(b"g", 1, 4)
    store.commit(
        Changes(
            moves={1: Move(elsewhere, b"h", 1), 2: Move(JobKey(b"f", 1, 4, DEAD), b"h", 1)},
            attempts={1: (JobKey(b"f", 1, 4, SCHEDULED), 5), 3: (elsewhere, 1)},
            removes={1: JobKey(b"f", 0, 4), 4: elsewhere},
            expire_results=1,
            settings={b"never": None},
        )
    )
    holds(store, [record(1)])
    store = backend.open()
    holds(store, [record(1)])
    assert store.payload(b"f", 0, 1) is None
    assert store.payload(b"f", 1, 1, DEAD) is None
    assert store.payload(b"nobody", 1, 1) is None
    assert store.find(2) is None
    assert store.result(1) is None


def test_an_empty_commit_is_one(backend: Backend) -> None:
    store = backend.open()
    store.commit(Changes())
    holds(store, [])


# -- by time, by key -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [SCHEDULED, DEAD])
def test_by_due_is_ordered_by_time_then_id_and_goes_page_by_page(backend: Backend, state: int) -> None:
    jobs = [
        record(n, b"f%d" % (n % 7), n % 3, state=state, due=NOW + n * 37 % 20, payload=bytes(n)) for n in range(1, 101)
    ]
    other = record(101, state=SCHEDULED + DEAD - state, due=NOW)
    store = backend.open()
    store.commit(Changes(adds=[*jobs[:50], record(200)]))
    store.commit(Changes(adds=[*jobs[50:], other]))
    store = backend.open()
    expected = [bare(job) for job in sorted(jobs, key=lambda job: (job.due, job.id))]
    pages: list[JobRecord] = []
    while page := store.by_due(state, after=(pages[-1].due, pages[-1].id) if pages else (0, 0), limit=9):
        assert len(page) <= 9
        pages += page
    assert pages == expected
    assert store.by_due(state, after=(NOW + 3, 0), limit=3) == [job for job in expected if job.due >= NOW + 3][:3]
    gone = expected[:30]
    store.commit(Changes(removes={job.id: key(job) for job in gone}))
    assert due(store, state, 1000) == expected[30:]
    moved = expected[99]
    store.commit(Changes(moves={moved.id: Move(key(moved), moved.function, 1, state, NOW - 1, b"x")}))
    assert due(store, state, 1)[0].id == moved.id


def test_joinable_finds_the_newest_of_its_function_only(backend: Backend) -> None:
    store = backend.open()
    jobs = [record(n, join_key=b"k", priority=3 - n, payload=bytes(5000)) for n in (1, 2, 3)]
    store.commit(Changes(adds=[*jobs, record(4, b"g", join_key=b"k"), record(5, join_key=b"l", state=DEAD)]))
    assert store.joinable(b"f", [b"k"]).get(b"k") == bare(jobs[2])
    store.commit(Changes(removes={3: key(jobs[2])}))
    assert store.joinable(b"f", [b"k"]).get(b"k") == bare(jobs[1])
    store.commit(Changes(moves={2: Move(key(jobs[1]), b"f", 1, SCHEDULED, NOW)}))
    assert store.joinable(b"f", [b"k"]).get(b"k") == bare(jobs[1])._replace(state=SCHEDULED, due=NOW, attempts=1)
    store.commit(Changes(moves={2: Move(JobKey(b"f", 1, 5000, SCHEDULED), b"f", 2, DEAD, NOW)}))
    assert store.joinable(b"f", [b"k"]).get(b"k") == bare(jobs[0])
    assert store.joinable(b"f", [b"l"]).get(b"l") is None
    assert store.joinable(b"f", [b"other"]).get(b"other") is None
    assert store.joinable(b"nobody", [b"k"]).get(b"k") is None


def test_many_join_keys_are_looked_for_at_once(backend: Backend) -> None:
    store = backend.open()
    keys = [b"key %d" % n for n in range(1, 1201)]
    store.commit(Changes(adds=[record(n, join_key=key) for n, key in enumerate(keys, 1) if n % 3]))
    store.commit(Changes(adds=[record(2000, join_key=keys[0], priority=2), record(2001, b"g", join_key=keys[2])]))
    asked = [*keys, b"other", keys[0]]
    found = store.joinable(b"f", asked)
    assert {key: job.id for key, job in found.items()} == {
        key: 2000 if n == 1 else n for n, key in enumerate(keys, 1) if n % 3
    }
    assert found[keys[1]] == store.find(2)
    assert store.joinable(b"f", []) == {}


# -- results, settings, identity -------------------------------------------------------------------------------------


def result(number: int, expires: int = NOW + 100, **other: object) -> Result:
    base = Result(number, b"my-f\xff", b"\0u\xff", 13, b"3", b"4", b"done \0\xff", NOW, expires)
    return base._replace(**other)  # type: ignore[arg-type]


def test_results_are_kept_until_they_expire(backend: Backend) -> None:
    store = backend.open()
    results = [result(1), result(2, NOW + 50, data=b""), result(3, data=bytes(3 << 20), outcome=14), result(4, NOW + 9)]
    store.commit(Changes(adds=[record(1)], removes={1: JobKey(b"f", 1, 4)}, results=results[:2]))
    store.commit(Changes(results=results[2:]))
    store = backend.open()
    assert [store.result(n) for n in (1, 2, 3, 4, 5)] == [*results, None]
    store.commit(Changes(expire_results=NOW + 50))
    assert [store.result(n) for n in (1, 2, 3, 4)] == [results[0], None, results[2], None]
    again = result(1, NOW + 500, data=b"newer")
    store.commit(Changes(results=[again], expire_results=NOW + 100))
    store = backend.open()
    assert [store.result(n) for n in (1, 2, 3, 4)] == [again, None, None, None]


def test_settings_are_remembered(backend: Backend) -> None:
    store = backend.open()
    assert store.settings() == {}
    store.commit(Changes(settings={b"pause:my-f \xff\0": b"\0\xff", b"empty": b"", b"b": b"x" * 10_000}))
    store = backend.open()
    assert store.settings() == {b"pause:my-f \xff\0": b"\0\xff", b"empty": b"", b"b": b"x" * 10_000}
    store.commit(Changes(settings={b"b": b"2", b"empty": None, b"B": b"3"}))
    assert backend.open().settings() == {b"pause:my-f \xff\0": b"\0\xff", b"b": b"2", b"B": b"3"}


def test_identity_and_counter_survive(backend: Backend) -> None:
    store = backend.open()
    identity, first = store.queue_id, store.next_id
    assert len(identity) == 32
    assert first == 1
    store.commit(Changes(reserve=500))
    store.commit(Changes(adds=[record(7)]))
    store = backend.open()
    assert (store.queue_id, store.next_id) == (identity, 500)
    assert backend.open().queue_id == identity


def test_what_it_promises(backend: Backend) -> None:
    assert (backend.open().promise is Promise.MEMORY) == (not backend.durable)


@stores_that_are("formatted")
def test_another_format_is_refused_in_one_sentence(backend: Backend) -> None:
    backend.open()
    backend.set_format(99)
    for _ in range(2):  # refused again, not "in use": whatever it held was let go
        with pytest.raises(ConfigError, match=r"has format 99, this syncbridge reads format \d") as caught:
            backend.open()
        assert caught.value.hint


# -- trouble ---------------------------------------------------------------------------------------------------------


@stores_that_are("corruptible")
@pytest.mark.parametrize("state", STATES)
def test_a_row_that_makes_no_sense_comes_back_unreadable(backend: Backend, state: int) -> None:
    store = backend.open()
    jobs = [record(n, state=state, due=NOW if state else 0, unique=b"u", join_key=b"%d" % n) for n in (1, 2, 3)]
    store.commit(Changes(adds=jobs))
    backend.corrupt(jobs[1])
    for opened in before_and_after(backend, store):
        found = window(opened, state=state)
        assert ids(found) == [1, 2, 3]
        assert [found[0], found[2]] == [jobs[0], jobs[2]]
        assert (found[1].size, found[1].payload) == (UNREADABLE, None)
        assert opened.payload(b"f", 1, 2, state) is None
        alone = opened.find(2)
        assert alone is not None
        assert alone.size == UNREADABLE
        if state:
            assert [(job.id, job.size) for job in due(opened, state)] == [(1, 4), (2, UNREADABLE), (3, 4)]
    broken = JobKey(b"f", 1, UNREADABLE, state)
    opened.commit(Changes(moves={2: Move(broken, b"f", 0, DEAD, NOW + 1, b"unreadable")}))
    assert [(job.id, job.size, job.note) for job in due(opened, DEAD) if job.id == 2] == [
        (2, UNREADABLE, b"unreadable")
    ]
    opened.commit(Changes(removes={2: broken._replace(state=DEAD), 1: key(jobs[0]), 3: key(jobs[2])}))
    assert opened.find(2) is None
    assert backend.open().backlogs() == []


def test_readers_see_whole_commits_while_they_happen(backend: Backend) -> None:
    """Each commit replaces ten jobs by the next ten; a reader in another thread never sees a mixture."""
    store = backend.open()
    store.commit(Changes(adds=[record(n) for n in range(1, 11)]))
    done, errors, reads = threading.Event(), [], 0

    def read() -> None:
        nonlocal reads
        try:
            while not done.is_set():
                numbers = ids(window(store, limit=1000))
                assert len(numbers) == 10, numbers
                assert all(b - a == 1 for a, b in pairwise(numbers)), numbers
                assert numbers[0] % 10 == 1, numbers
                assert [(b.jobs, b.bytes) for b in store.backlogs()] == [(10, 40)]
                store.find(numbers[0])
                store.payload(b"f", 1, numbers[0])
                reads += 1
        except BaseException as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 20
    rounds = 0
    while not errors and (rounds < 50 or reads < 10) and time.monotonic() < deadline:
        first = rounds * 10 + 1
        store.commit(
            Changes(
                adds=[record(n) for n in range(first + 10, first + 20)],
                removes={n: JobKey(b"f", 1, 4) for n in range(first, first + 10)},
            )
        )
        rounds += 1
    done.set()
    reader.join()
    assert not errors, errors
    assert reads >= 10
    print(f"{rounds} commits, {reads} reads beside them")


@stores_that_are("remote")
def test_a_store_that_goes_away_is_waited_for(backend: Backend) -> None:
    store = backend.open()
    store.commit(Changes(adds=[record(n) for n in (1, 2, 3)]))
    backend.cut()
    started = time.monotonic()
    with pytest.raises(TransientError) as caught:
        store.commit(Changes(adds=[record(4)], removes={1: JobKey(b"f", 1, 4)}))
    assert "\n" not in str(caught.value)
    with pytest.raises(TransientError):
        window(store)
    with pytest.raises(TransientError):
        store.payload(b"f", 1, 1)
    assert time.monotonic() - started < 15, "a store that is away must say so within seconds"
    backend.mend()
    deadline = time.monotonic() + 20
    while True:
        try:
            store.commit(Changes(adds=[record(5)], removes={2: JobKey(b"f", 1, 4)}))
            break
        except TransientError:
            assert time.monotonic() < deadline, "it did not reconnect"
            time.sleep(0.05)
    # The commit that raised is either undone or was tried again by the store itself, never half of it.
    assert ids(window(store)) in ([1, 3, 5], [3, 4, 5])
    assert ids(window(backend.open())) in ([1, 3, 5], [3, 4, 5])


def test_close_is_idempotent(backend: Backend) -> None:
    store = backend.open()
    store.close()
    store.close()


# -- any sequence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_changes_leaves_what_it_says(backend: Backend, seed: int) -> None:
    dice = random.Random(seed)
    store, oracle = backend.open(), MemoryStore()
    next_id, jobs = 1, dict[int, JobRecord]()
    functions = [b"f", b"g", b"my-func", b"f.isolated"]
    for step in range(40):
        changes = Changes()
        for _ in range(dice.choice((0, 1, 20))):
            state = dice.choice((READY, READY, READY, SCHEDULED, DEAD))
            unique = dice.choice((b"", b"-", b"u1", b"u2"))
            job = record(
                next_id,
                dice.choice(functions),
                dice.randrange(3),
                dice.randbytes(dice.choice((0, 3, 200, 20_000))),
                unique=unique,
                join_key=unique if len(unique) > 1 else None,
                state=state,
                due=NOW + dice.randrange(50) if state else 0,
                reducer=dice.choice((b"", b"", b"r")),
                note=b"why" if state == DEAD else b"",
            )
            changes.adds.append(job)
            jobs[next_id] = job
            next_id += 1
        for number in dice.sample(sorted(jobs), min(len(jobs), dice.choice((0, 1, 8)))):
            state = dice.choice(STATES)
            due_at, note = NOW + dice.randrange(50) if state else 0, b"moved" if state == DEAD else b""
            job = jobs[number]
            changes.moves[number] = Move(key(job), dice.choice(functions), job.attempts + 1, state, due_at, note)
            function, attempts = changes.moves[number][1:3]
            jobs[number] = job._replace(function=function, attempts=attempts, state=state, due=due_at, note=note)
        for number in dice.sample(sorted(jobs), min(len(jobs), dice.choice((0, 1, 5)))):
            changes.attempts[number] = key(jobs[number]), 50 + step
            jobs[number] = jobs[number]._replace(attempts=50 + step)
        for number in dice.sample(sorted(jobs), min(len(jobs), dice.choice((0, 1, 15)))):
            changes.removes[number] = key(jobs.pop(number))
        for _ in range(dice.choice((1, 2) if step == 7 else (1,))):
            store.commit(changes)
            oracle.commit(changes)
        if step == 20:
            store = backend.open()
        if step % 10 == 9:
            holds(store, list(jobs.values()))
            holds(oracle, list(jobs.values()))
            for function in functions:
                for unique in (b"u1", b"u2"):
                    assert store.joinable(function, [unique]) == oracle.joinable(function, [unique])
