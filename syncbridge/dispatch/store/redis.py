"""Queues in Redis or Valkey: as durable as its `appendfsync`, and it says so.

One hash has the heads of all jobs, one their payloads; each place is a sorted set of job ids. A commit is one call of
redis_commit.lua, so it is atomic. Commits are numbered: one whose connection died is sent again and done once, and one
that arrives when a later one was done is not done at all. All keys have the hash tag {prefix}: they live in one slot.

The commit thread, the reader thread and the lease have a connection each.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any

import redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import (
    DEAD,
    READY,
    SCHEDULED,
    UNREADABLE,
    Changes,
    JobKey,
    Promise,
    Result,
    StoredBacklog,
)
from syncbridge.dispatch.store.redis_lease import LEASE, Lease
from syncbridge.dispatch.store.redis_link import Link, Script
from syncbridge.dispatch.store.rows import (
    attempts_bytes,
    pack_head,
    pack_result,
    text,
    unpack_head,
    unpack_result,
    unreadable,
)

logger = logging.getLogger(__name__)

_COMMIT, _WINDOW = Script("redis_commit.lua"), Script("redis_window.lua")
_DUE, _BACKLOGS = Script("redis_due.lua"), Script("redis_backlogs.lua")
#: The keys that redis_commit.lua expects before those of the places.
_NAMES = (
    b"meta", b"lock", b"head", b"payload", b"join", b"scheduled", b"dead", b"places", b"result", b"expiry", b"settings",
)  # fmt: skip
_LISTS = {SCHEDULED: b"scheduled", DEAD: b"dead"}
_ORDER = {Promise.MEMORY: 0, Promise.BATCH: 1, Promise.FULL: 2}
_LONG, _ENTRY = Struct(">q"), Struct(">QQ")


class RedisStore:
    """JobStore in one Redis database: redis://, rediss:// or unix://, `?prefix=` names one of several queues in it.

    A second server on one queue is kept out; one that lost the queue (it was frozen, say) can no longer write. What
    Redis itself loses (it keeps nothing on disk, a failover) is noticed at the next commit: the queue gets a new id
    and goes on with what is there.
    """

    def __init__(self, url: str, durability: Promise = Promise.FULL) -> None:
        self._lease = Lease(url)
        self.queue_id, self.next_id, self._sequence = self._lease.take()
        self._writer, self._reader = Link(url), Link(url)
        self._prefix = self._writer.prefix
        #: The last commit that Redis acknowledged.
        self._acknowledged = self._sequence
        #: Added by commits that raised although Redis may have done them: id -> place. They must not be there.
        self._unsure: dict[int, JobKey] = {}
        self._reserved = self.next_id
        #: What the last commit took beside its execution, where Redis answers after its fsync; see Link.run_timed.
        self.sync_seconds = 0.0
        self._closed = False
        try:
            self.promise = self._reader.read(self._find_promise)
        except BaseException:
            self.close()
            raise
        if _ORDER[self.promise] < _ORDER[durability]:
            logger.warning(
                "queue store %s promises durability %s, not %s: see appendonly, appendfsync, maxmemory-policy of Redis",
                self._writer.place,
                self.promise,
                durability,
            )

    # -- writing (commit thread) ---------------------------------------------------------------------------------

    def commit(self, changes: Changes) -> None:
        changes.unroll()
        try:
            self._commit(changes)
        except (RedisError, OSError) as error:
            full = isinstance(error, OutOfMemoryError) or "OOM" in str(error)  # Redis 6 says it in the script's error
            if full and changes.adds and changes.removes:
                # Full of jobs: those that are done must leave it all the same. Removing them again later is harmless.
                self.commit(Changes(removes=changes.removes))
            raise self._writer.error(error, "written") from error
        self._reserved = max(self._reserved, changes.reserve)

    def _commit(self, changes: Changes) -> None:
        self._sequence += 1
        places = _Places(self._prefix)
        steps = _steps(changes, self._unsure, places)
        grows = bool(changes.adds or changes.results or changes.settings)
        answer = self._send(changes, places, steps, grows=grows)
        if answer == b"LOST":
            self._restore()
            answer = self._send(changes, places, steps, grows=grows)
        if answer != b"OK":
            raise self._lease.lost()
        self._acknowledged = self._sequence
        self._unsure.clear()

    def _send(self, changes: Changes, places: _Places, steps: list[Any], *, grows: bool) -> Any:
        arguments = [self._lease.token, self._sequence, self._acknowledged, int(LEASE * 1000), int(grows)]
        arguments += [changes.reserve, *steps]
        for last in (False, True):
            try:
                if self.promise is not Promise.FULL:
                    return self._writer.run(_COMMIT, places.keys, arguments)
                answer, self.sync_seconds = self._writer.run_timed(_COMMIT, places.keys, arguments)
                return answer
            except ResponseError:
                raise  # Redis said no, and changed nothing
            except (RedisError, OSError) as error:
                self._unsure.update(_added(changes))
                if last or isinstance(error, redis.TimeoutError):
                    raise
        raise AssertionError

    def _restore(self) -> None:
        opened = self._lease.restore(self._reserved)
        logger.error(
            "queue store %s lost commits that it had acknowledged (Redis was emptied, or set back): it is queue %s now",
            self._writer.place,
            opened.queue_id,
        )
        self.queue_id = opened.queue_id
        self._acknowledged = opened.sequence
        self._sequence = max(self._sequence, opened.sequence) + 1

    # -- reading (reader thread) ---------------------------------------------------------------------------------
    # Nobody sees a job of a commit that raised: until the next commit removes it, it is passed over.

    def backlogs(self) -> list[StoredBacklog]:
        answer = self._run(_BACKLOGS, [self._key(b"places")], [])
        found = []
        for place, jobs, size, last_id in _groups(answer, 4):
            state, priority, function = _place_of(place[len(self._prefix) :])
            found.append(StoredBacklog(function, priority, int(jobs), int(size), int(last_id), state))
        return found

    def window(
        self, function: bytes, priority: int, *, after: int, through: int, limit: int, inline: int, state: int = READY
    ) -> list[JobRecord]:
        place = self._prefix + _place(state, priority, function)
        if limit <= 0:
            return []
        answer = self._run(_WINDOW, [place, self._key(b"head"), self._key(b"payload")], [after, through, limit, inline])
        found = []
        for number, head, size, payload in _groups(answer, 4):
            if int(number) in self._unsure:
                continue
            record = _record(int(number), head, size)
            if record is None or (record.function, record.priority, record.state) != (function, priority, state):
                record = unreadable(int(number), function, priority, state)
            if record.size != UNREADABLE and record.size <= inline:
                record = record._replace(payload=payload or b"")
            found.append(record)
        return found

    def by_due(self, state: int, *, after: tuple[int, int], limit: int) -> list[JobRecord]:
        if limit <= 0:
            return []
        lists = [self._key(_LISTS[state]), self._key(b"head"), self._key(b"payload")]
        answer = self._run(_DUE, lists, [_ENTRY.pack(*(max(0, n) for n in after)), limit])
        found = []
        for due, number, head, size in _groups(answer, 4):
            if int(number) in self._unsure:
                continue
            record = _record(int(number), head, size) or unreadable(int(number), state=state)
            found.append(record._replace(due=_LONG.unpack(due)[0], state=state))
        return found

    def payload(self, function: bytes, priority: int, number: int, state: int = READY) -> bytes | None:
        with_payload = self.window(
            function, priority, after=number - 1, through=number, limit=1, inline=1 << 40, state=state
        )
        return with_payload[0].payload if with_payload else None

    def joinable(self, function: bytes, keys: Sequence[bytes]) -> dict[bytes, JobRecord]:
        joins, prefixes = self._key(b"join"), [text(function) + text(key) for key in keys]
        newest = self._pipeline(
            *(
                ("ZREVRANGEBYLEX", joins, b"[" + prefix + b"\xff" * 8, b"[" + prefix, "LIMIT", 0, 1)
                for prefix in prefixes
            )
        )
        numbers = {key: _LONG.unpack(entry[0][-8:])[0] for key, entry in zip(keys, newest, strict=True) if entry}
        found = self._find(list(numbers.values()))
        return {key: record for key, number in numbers.items() if (record := found.get(number)) is not None}

    def find(self, number: int) -> JobRecord | None:
        return self._find([number]).get(number)

    def _find(self, numbers: Sequence[int]) -> dict[int, JobRecord]:
        wanted = [number for number in numbers if number not in self._unsure]
        if not wanted:
            return {}
        heads, payloads = self._key(b"head"), self._key(b"payload")
        answers = self._pipeline(
            *(command for number in wanted for command in (("HGET", heads, number), ("HSTRLEN", payloads, number)))
        )
        return {
            number: _record(number, head, size) or unreadable(number)
            for number, (head, size) in zip(wanted, _groups(answers, 2), strict=True)
            if head is not None
        }

    def result(self, number: int) -> Result | None:
        packed = self._pipeline(("HGET", self._key(b"result"), number))[0]
        return unpack_result(packed) if packed is not None else None

    def settings(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = self._reader.read(lambda: self._reader.client.hgetall(self._key(b"settings")))
        return found

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        self._reader.close()
        self._lease.release()

    def _key(self, name: bytes) -> bytes:
        return self._prefix + name

    def _run(self, script: Script, keys: list[bytes], arguments: list[Any]) -> list[Any]:
        answer: list[Any] = self._reader.read(lambda: self._reader.run(script, keys, arguments))
        return answer

    def _pipeline(self, *commands: tuple[Any, ...]) -> list[Any]:
        def call() -> list[Any]:
            with self._reader.client.pipeline(transaction=True) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                answers: list[Any] = pipeline.execute()
                return answers

        return self._reader.read(call)

    # -- opening -------------------------------------------------------------------------------------------------

    def _find_promise(self) -> Promise:
        """What Redis's own settings make of a commit; where it does not show them, nothing is promised."""
        try:
            known = {
                name: self._reader.client.config_get(name).get(name)
                for name in ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
            }
        except ResponseError:
            return Promise.MEMORY
        evicts = known["maxmemory"] not in ("0", b"0") and str(known["maxmemory-policy"]).startswith("allkeys")
        if known["appendonly"] != "yes" or evicts:
            return Promise.MEMORY
        return Promise.FULL if known["appendfsync"] == "always" else Promise.BATCH


class _Places:
    """The KEYS of a commit: places are told as indexes into them."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self.keys = [prefix + name for name in _NAMES]
        self._indexes: dict[tuple[int, int, bytes], int] = {}

    def index(self, state: int, priority: int, function: bytes) -> int:
        place = state, priority, function
        found = self._indexes.get(place)
        if found is None:
            self.keys.append(self._prefix + _place(*place))
            found = self._indexes[place] = len(self.keys)  # Lua counts from 1
        return found

    def of(self, key: JobKey) -> int:
        return self.index(key.state, key.priority, key.function)


def _steps(changes: Changes, undone: dict[int, JobKey], places: _Places) -> list[Any]:
    """The changes as redis_commit.lua takes them, after the removal of what was added in vain."""
    steps: list[Any] = []
    _remove(steps, undone.items(), places)
    added: defaultdict[int, list[Any]] = defaultdict(list)
    for job in changes.adds:
        added[places.index(job.state, job.priority, job.function)] += (job.id, pack_head(job), job.payload)
    for place, rows in added.items():
        steps += ("A", place, len(rows) // 3, *rows)
    for number, (old, function, attempts, state, due, note) in changes.moves.items():
        new = places.index(state, old.priority, function)
        steps += ("M", places.of(old), new, number, bytes((state,)), attempts_bytes(attempts), _LONG.pack(due))
        steps += (text(function), text(note))
    for number, (key, attempts) in changes.attempts.items():
        steps += ("T", places.of(key), number, attempts_bytes(attempts))
    _remove(steps, changes.removes.items(), places)
    for result in changes.results:
        steps += ("O", result.id, pack_result(result), result.expires)
    if changes.expire_results:
        steps += ("X", changes.expire_results)
    for name, value in changes.settings.items():
        steps += ("D", name) if value is None else ("S", name, value)
    return steps


def _remove(steps: list[Any], removes: Iterable[tuple[int, JobKey]], places: _Places) -> None:
    by_place: defaultdict[int, list[int]] = defaultdict(list)
    for number, key in removes:
        by_place[places.of(key)].append(number)
    for place, numbers in by_place.items():
        steps += ("R", place, len(numbers), *numbers)


def _added(changes: Changes) -> dict[int, JobKey]:
    """Where the jobs that it adds lie once it is done."""
    added = {job.id: JobKey(job.function, job.priority, job.size, job.state) for job in changes.adds}
    for number in added.keys() & changes.moves.keys():
        move = changes.moves[number]
        added[number] = added[number]._replace(function=move.function, state=move.state)
    return {number: key for number, key in added.items() if number not in changes.removes}


def _place(state: int, priority: int, function: bytes) -> bytes:
    return b"jobs:%d:%d:%b" % (state, priority, function)


def _place_of(name: bytes) -> tuple[int, int, bytes]:
    """State, priority and function; the function may hold any byte."""
    _, state, priority, function = name.split(b":", 3)
    return int(state), int(priority), function


def _record(number: int, head: bytes | None, size: int) -> JobRecord | None:
    """The job of a head whose payload has so many bytes; None for a head that is none."""
    record = unpack_head(number, head) if head is not None else None
    if record is not None and record.size != size:
        return record._replace(size=UNREADABLE)
    return record


def _groups(answer: list[Any], n: int) -> Iterable[tuple[Any, ...]]:
    """A flat reply, n elements at a time."""
    return zip(*(answer[start::n] for start in range(n)), strict=True)
