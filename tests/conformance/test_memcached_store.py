"""What is memcached's own in MemcachedStore: what it forgets is noticed, and one server at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from pymemcache.client.base import Client

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import DEAD, UNREADABLE, Changes, JobKey, Move, Promise
from syncbridge.dispatch.store.memcached import MemcachedStore
from syncbridge.errors import ConfigError, TransientError
from tests.servers import Memcached

NewMemcached = Callable[..., Memcached]


def record(number: int, payload: bytes = b"data", **other: Any) -> JobRecord:
    base = JobRecord(number, b"f", 1, b"", None, 1_700_000_000_000_000, 0, payload, len(payload))
    return base._replace(**other)


def held(store: MemcachedStore, inline: int = 1 << 20) -> list[JobRecord]:
    return store.window(b"f", 1, after=0, through=10**15, limit=100_000, inline=inline)


def test_ten_thousand_jobs_come_back_as_ten_thousand(new_memcached: NewMemcached) -> None:
    server = new_memcached()
    jobs = [record(n, b"%d" % n, unique=b"-" if n % 2 else b"") for n in range(1, 10_001)]
    store = MemcachedStore(server.url())
    for start in range(0, 10_000, 700):
        store.commit(Changes(adds=jobs[start : start + 700]))
    store.close()
    store = MemcachedStore(server.url())
    assert held(store) == jobs
    store.close()


def test_a_killed_server_does_not_keep_the_next_one_out_for_long(new_memcached: NewMemcached) -> None:
    server = new_memcached()
    store = MemcachedStore(server.url())
    store.commit(Changes(adds=[record(1)]))
    with pytest.raises(TransientError, match="in use by another process"):
        MemcachedStore(server.url())
    other = MemcachedStore(server.url() + "?prefix=a b\n")
    assert held(other) == []
    other.close()
    store._lease._over.set()  # it stands still, and its lock expires
    after = MemcachedStore(server.url())
    assert held(after) == [record(1)]
    with pytest.raises(TransientError, match="belongs to another server"):
        store.commit(Changes(adds=[record(2)]))
    assert held(after) == [record(1)]
    store.close()
    with pytest.raises(TransientError, match="in use"):  # closing the old one did not open the door
        MemcachedStore(server.url())
    after.close()


def test_evicted_jobs_are_unreadable_counted_and_no_crash(
    new_memcached: NewMemcached, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_memcached(memory_limit=8)
    store = MemcachedStore(server.url())
    jobs = [record(n, bytes(100_000)) for n in range(1, 201)]
    for start in range(0, 200, 10):
        store.commit(Changes(adds=jobs[start : start + 10]))
    found = held(store)
    lost = [job for job in found if job.size == UNREADABLE]
    assert [job.id for job in found] == list(range(1, 201))
    assert 100 < len(lost) < 200
    assert all(job.payload == bytes(100_000) for job in found if job.size != UNREADABLE)
    aside = {job.id: Move(JobKey(b"f", 1, UNREADABLE), b"f", 0, DEAD, 5, b"gone") for job in lost}
    store.commit(Changes(moves=aside))
    assert [job.id for job in store.by_due(DEAD, after=(0, 0), limit=300)] == [job.id for job in lost]
    store.close()
    after = MemcachedStore(server.url())
    assert len(held(after)) + len(after.by_due(DEAD, after=(0, 0), limit=300)) + missing(caplog) == 200
    after.close()
    print(f"200 jobs of 100 kB in 8 MB: {len(lost)} evicted")


def test_lost_pages_are_counted(new_memcached: NewMemcached, caplog: pytest.LogCaptureFixture) -> None:
    server = new_memcached()
    store = MemcachedStore(server.url())
    store.commit(Changes(adds=[record(n) for n in range(1, 201)]))
    page = store._writer.key(store._name("p1:0"))
    store.close()
    with closing(Client(("127.0.0.1", server.port))) as client:
        client.delete(page, noreply=False)
    after = MemcachedStore(server.url())
    assert missing(caplog) == 64
    assert [job.id for job in held(after)] == [*range(1, 64), *range(128, 201)]
    after.commit(Changes(adds=[record(300)], removes={1: JobKey(b"f", 1, 4)}))
    after.close()
    caplog.clear()
    again = MemcachedStore(server.url())
    assert [job.id for job in held(again)] == [*range(2, 64), *range(128, 201), 300]
    assert not missing(caplog)
    again.close()


def missing(caplog: pytest.LogCaptureFixture) -> int:
    """How many jobs the store said it lost at its last start."""
    counts = [record.args[1] for record in caplog.records if "no longer has them" in record.message and record.args]
    return int(counts[-1]) if counts else 0  # type: ignore[call-overload]


def test_a_memcached_that_was_restarted_is_another_queue(
    new_memcached: NewMemcached, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_memcached()
    store = MemcachedStore(server.url())
    store.commit(Changes(adds=[record(n) for n in range(1, 100)], reserve=1000, settings={b"s": b"1"}))
    before = store.queue_id
    server.kill9()
    server.start()
    try:
        store.commit(Changes(adds=[record(100)]))
    except TransientError:  # the connection of before
        store.commit(Changes(adds=[record(100)]))
    assert store.queue_id != before
    assert "lost what it had stored" in caplog.text
    assert [job.size for job in held(store)] == [UNREADABLE] * 99 + [4]
    store.close()
    after = MemcachedStore(server.url())
    assert (after.queue_id, after.next_id) == (store.queue_id, 1000)
    assert [job.id for job in held(after)] == list(range(1, 101))
    assert after.settings() == {b"s": b"1"}
    after.close()


def test_it_says_that_it_is_volatile(new_memcached: NewMemcached, caplog: pytest.LogCaptureFixture) -> None:
    server = new_memcached()
    for asked in Promise:
        caplog.clear()
        store = MemcachedStore(server.url(), asked)
        assert store.promise is Promise.MEMORY
        assert (f"promises durability memory, not {asked}" in caplog.text) == (asked is not Promise.MEMORY)
        store.close()


@pytest.mark.parametrize("url", ["memcached://", "memcached://u:secret@h", "redis://h", "memcached://h/path"])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MemcachedStore(url)
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_memcached_that_is_not_there(new_memcached: NewMemcached) -> None:
    server = new_memcached()
    server.kill9()
    with pytest.raises(TransientError, match="cannot be opened"):
        MemcachedStore(server.url())
