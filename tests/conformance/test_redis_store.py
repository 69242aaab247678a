"""What is Redis's own in RedisStore: the owner's lease, numbered commits, what it promises, and its ways to refuse."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import Changes, JobKey, Promise, StoredBacklog
from syncbridge.dispatch.store.redis import RedisStore
from syncbridge.errors import ConfigError, TransientError
from tests.servers import Redis, eventually, free_port

NewRedis = Callable[..., Redis]


def record(number: int, function: bytes = b"f", payload: bytes = b"data", **other: Any) -> JobRecord:
    base = JobRecord(number, function, 1, b"", None, 1_700_000_000_000_000, 0, payload, len(payload))
    return base._replace(**other)


def key(function: bytes = b"f") -> JobKey:
    return JobKey(function, 1, 4)


def held(store: RedisStore, function: bytes = b"f") -> list[int]:
    return [job.id for job in store.window(function, 1, after=0, through=10**15, limit=1000, inline=0)]


# -- one server at a time --------------------------------------------------------------------------------------------


def test_a_second_server_is_kept_out_at_once(redis_server: Redis) -> None:
    store = RedisStore(redis_server.url())
    with pytest.raises(TransientError, match="in use by another process"):
        RedisStore(redis_server.url())
    other = RedisStore(redis_server.url() + "?prefix=other")  # a queue of its own
    other.commit(Changes(adds=[record(1)]))
    assert held(store) == []
    assert other.queue_id != store.queue_id
    other.close()
    store.close()
    RedisStore(redis_server.url()).close()


def test_a_server_that_lost_the_queue_can_no_longer_write(redis_server: Redis) -> None:
    frozen = RedisStore(redis_server.url())
    frozen.commit(Changes(adds=[record(1)]))
    frozen._lease._over.set()  # it stands still, so nobody prolongs its lock
    frozen._lease._thread.join()  # type: ignore[union-attr]
    with redis_server.client() as client:
        client.delete("syncbridge:queue:{default}:lock")
    owner = RedisStore(redis_server.url())
    for _ in range(2):
        with pytest.raises(TransientError, match="belongs to another server"):
            frozen.commit(Changes(adds=[record(2)], removes={1: key()}))
    assert held(owner) == [1]
    frozen.close()
    with pytest.raises(TransientError, match="in use"):  # closing the old one did not open the door
        RedisStore(redis_server.url())
    owner.close()


def test_an_expired_lock_that_nobody_took_is_no_loss(redis_server: Redis) -> None:
    store = RedisStore(redis_server.url())
    with redis_server.client() as client:
        client.delete("syncbridge:queue:{default}:lock")
        store.commit(Changes(adds=[record(1)]))
        assert client.pttl("syncbridge:queue:{default}:lock") > 0
    with pytest.raises(TransientError, match="in use"):
        RedisStore(redis_server.url())
    store.close()


# -- numbered commits ------------------------------------------------------------------------------------------------


class Wire:
    """Stands between a store and its Redis, and loses answers."""

    def __init__(self, store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.lose, self.before = store._writer.run, 0, 0
        self.sent: list[tuple[Any, ...]] = []
        monkeypatch.setattr(store._writer, "run", self)

    def __call__(self, *call: Any) -> Any:
        self.sent.append(call)
        if self.before:
            self.before -= 1
            raise redis.ConnectionError("lost before it was sent")
        answer = self.run(*call)
        if self.lose:
            self.lose -= 1
            raise redis.ConnectionError("lost before the answer")
        return answer


def test_a_commit_whose_answer_is_lost_is_done_once(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RedisStore(redis_server.url())
    store.commit(Changes(adds=[record(1)]))
    wire = Wire(store, monkeypatch)
    wire.lose = 1
    store.commit(Changes(adds=[record(2)], removes={1: key()}))
    assert len(wire.sent) == 2
    assert store.backlogs() == [StoredBacklog(b"f", 1, 1, 4, 2)]
    store.close()


@pytest.mark.parametrize("arrived", [True, False])
def test_what_a_commit_added_that_raised_does_not_stay(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    """Its submitters were told that it failed, and nobody would look for these jobs."""
    store = RedisStore(redis_server.url())
    store.commit(Changes(adds=[record(1)]))
    wire = Wire(store, monkeypatch)
    wire.lose, wire.before = (2, 0) if arrived else (0, 2)
    with pytest.raises(TransientError, match="lost before"):
        store.commit(Changes(adds=[record(2), record(3, b"g")], removes={1: key()}))
    assert held(store) == ([] if arrived else [1])
    store.commit(Changes(adds=[record(4)], removes={1: key()}))
    assert held(store) == [4]
    assert store.backlogs() == [StoredBacklog(b"f", 1, 1, 4, 4)]
    wire.run(*wire.sent[0])  # it arrives now: too late
    assert held(store) == [4]
    store.close()


def test_a_redis_that_was_emptied_is_another_queue(redis_server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    store = RedisStore(redis_server.url())
    store.commit(Changes(adds=[record(1)], reserve=1000))
    before = store.queue_id
    with redis_server.client() as client:
        client.flushall()
    store.commit(Changes(adds=[record(2)]))
    assert "lost commits that it had acknowledged" in caplog.text
    assert store.queue_id != before
    assert held(store) == [2]
    store.close()
    after = RedisStore(redis_server.url())
    assert (after.queue_id, after.next_id) == (store.queue_id, 1000)
    after.close()


def test_a_redis_that_was_set_back_is_another_queue(redis_server: Redis) -> None:
    store = RedisStore(redis_server.url())
    store.commit(Changes(adds=[record(1)]))
    before = store.queue_id
    with redis_server.client() as client:
        client.hincrby("syncbridge:queue:{default}:meta", "seq", -1)  # as a replica that lacked the last commit
    store.commit(Changes(adds=[record(2)]))
    assert store.queue_id != before
    assert held(store) == [1, 2]
    store.close()


# -- what it promises, and refuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "promise"),
    [
        ({"appendonly": True, "appendfsync": "always"}, Promise.FULL),
        ({"appendonly": True, "appendfsync": "everysec"}, Promise.BATCH),
        ({"appendonly": True, "appendfsync": "no"}, Promise.BATCH),
        ({"appendonly": False}, Promise.MEMORY),
        ({"appendonly": True, "appendfsync": "always", "maxmemory": "1gb"}, Promise.FULL),
        (
            {"appendonly": True, "appendfsync": "always", "maxmemory": "1gb", "maxmemory_policy": "allkeys-lru"},
            Promise.MEMORY,
        ),
        ({"appendonly": True, "appendfsync": "always", "rename_command": 'CONFIG ""'}, Promise.MEMORY),
    ],
)
def test_it_promises_what_redis_is_set_to(
    new_redis: NewRedis, caplog: pytest.LogCaptureFixture, options: dict[str, object], promise: Promise
) -> None:
    server = new_redis(**options)
    for asked in Promise:
        caplog.clear()
        store = RedisStore(server.url(), asked)
        assert store.promise is promise
        less = asked is not promise and promise in (Promise.MEMORY, Promise.BATCH) and asked is not Promise.MEMORY
        warned = [line for line in caplog.messages if f"promises durability {promise}, not {asked}" in line]
        assert len(warned) == less
        store.close()


@pytest.mark.parametrize("promise", [Promise.FULL, Promise.BATCH])
def test_it_tells_how_long_its_fsync_took_where_a_commit_waits_for_it(new_redis: NewRedis, promise: Promise) -> None:
    server = new_redis(appendonly=True, appendfsync="always" if promise is Promise.FULL else "everysec")
    store = RedisStore(server.url(), promise)
    store.commit(Changes(adds=[record(1)]))
    with server.client() as client:
        started = time.perf_counter()
        store.commit(Changes(adds=[record(n, payload=bytes(100_000)) for n in range(2, 52)]))
        taken = time.perf_counter() - started
        assert (0 < store.sync_seconds < taken) if promise is Promise.FULL else store.sync_seconds == 0
        client.script_flush()  # as after a restart
        store.commit(Changes(removes={1: key()}))
        client.execute_command("ACL", "SETUSER", "default", "-time")
        store.commit(Changes(removes={2: key()}))
        assert store.sync_seconds == 0
    assert held(store) == list(range(3, 52))
    store.close()


def test_a_full_redis_refuses_jobs_but_lets_finished_ones_go(new_redis: NewRedis) -> None:
    server = new_redis()
    store = RedisStore(server.url(), Promise.MEMORY)
    store.commit(Changes(adds=[record(n, payload=bytes(100_000)) for n in range(1, 11)]))
    with server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        with pytest.raises(TransientError, match="maxmemory"):
            store.commit(Changes(adds=[record(11)], removes={1: key()}))
        assert 11 not in held(store)
        store.commit(Changes(removes={n: key() for n in range(1, 6)}))
        assert held(store) == [6, 7, 8, 9, 10]
        client.config_set("maxmemory", 0)
    store.commit(Changes(adds=[record(12)]))
    assert held(store) == [6, 7, 8, 9, 10, 12]
    store.close()


def test_a_replica_refuses_until_it_is_one_no_longer(new_redis: NewRedis, caplog: pytest.LogCaptureFixture) -> None:
    server, source = new_redis(), new_redis()
    store = RedisStore(server.url(), Promise.MEMORY)
    with server.client() as client:
        client.config_set("replica-read-only", "yes")
        client.replicaof("127.0.0.1", source.port)
        with pytest.raises(TransientError):
            store.commit(Changes(adds=[record(1)]))
        client.replicaof("no", "one")
    store.commit(Changes(adds=[record(2)]))
    assert held(store) == [2]
    store.close()


def test_one_slot_of_a_cluster_will_do(new_redis: NewRedis) -> None:
    server = new_redis(cluster_enabled=True, cluster_port=free_port())
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", timeout=20)
    store = RedisStore(server.url() + "?prefix=shop", Promise.MEMORY)
    store.commit(Changes(adds=[record(1, b"{a}-\0:"), record(2, b"}{")]))
    assert sorted(store.backlogs()) == [StoredBacklog(b"{a}-\0:", 1, 1, 4, 1), StoredBacklog(b"}{", 1, 1, 4, 2)]
    assert held(store, b"{a}-\0:") == [1]
    store.close()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://127.0.0.1:{port}/99", "DB index"),
        ("redis://:wrong-secret@127.0.0.1:{port}/0", "refuses this user"),
        ("redis://127.0.0.1:{port}/0?prefix=a{{b", "without braces"),
        ("redis://127.0.0.1:{port}/0?nonsense=1", "cannot be used"),
        ("mysql://127.0.0.1:{port}/0", "no Redis"),
    ],
)
def test_a_wrong_url_is_refused_in_one_sentence(new_redis: NewRedis, url: str, text: str) -> None:
    server = new_redis(requirepass="secret") if "wrong" in url else new_redis()
    with pytest.raises(ConfigError, match=text) as caught:
        RedisStore(url.format(port=server.port))
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_passwords_unix_sockets_and_a_server_that_is_not_there(new_redis: NewRedis) -> None:
    server = new_redis(requirepass="a-secret")
    for url in (server.url(password="a-secret"), f"unix://:a-secret@{server.folder}/s.sock?db=1&prefix=u"):
        store = RedisStore(url, Promise.MEMORY)
        store.commit(Changes(adds=[record(1)]))
        assert held(store) == [1]
        store.close()
    server.kill9()
    with pytest.raises(TransientError, match="cannot be opened") as caught:
        RedisStore(server.url(password="a-secret"))
    assert "secret" not in str(caught.value)


def test_a_user_of_few_rights_will_do(new_redis: NewRedis) -> None:
    server = new_redis(appendonly=True, appendfsync="always")
    with server.client() as client:
        rules = "on >secret ~syncbridge:queue:* +@all -@admin -@dangerous -client -config -info"
        client.execute_command("ACL", "SETUSER", "queue", *rules.split())
        store = RedisStore(server.url(user="queue", password="secret"))
        store.commit(Changes(adds=[record(1, join_key=b"k")]))
        assert held(store) == [1]
        assert store.promise is Promise.MEMORY  # CONFIG GET would show that it is more
        store.close()
        client.execute_command("ACL", "SETUSER", "queue", "-@write")
    with pytest.raises(ConfigError, match="refuses this user") as caught:
        RedisStore(server.url(user="queue", password="secret"))
    assert "ACL" in caught.value.hint


def test_a_key_of_somebody_else_is_refused(redis_server: Redis) -> None:
    with redis_server.client() as client:
        client.set("syncbridge:queue:{default}:meta", "not ours")
    with pytest.raises(ConfigError, match="cannot be used: WRONGTYPE"):
        RedisStore(redis_server.url())
