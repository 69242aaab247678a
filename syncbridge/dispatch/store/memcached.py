"""Queues in memcached, for those who come from there: volatile, and it says so.

memcached has no lists, so the store keeps the heads of all jobs in its own memory (some hundred bytes each) and
writes them to memcached in pages of 64 ids; payloads lie only there. After a restart of ours all jobs are back. What
memcached itself forgot is counted and reported: a page that is gone takes its jobs with it, a job whose payload is gone
comes back UNREADABLE. Nothing is atomic there, so a commit writes payloads, then pages, then the meta item, and a page
that may be half a commit is written again with the next one.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from struct import Struct, error, iter_unpack, pack
from typing import Any

import orjson

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import READY, UNREADABLE, Changes, Promise, Result, StoredBacklog
from syncbridge.dispatch.store.memcached_lease import Lease
from syncbridge.dispatch.store.memcached_link import ERRORS, Link
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.dispatch.store.rows import FORMAT, pack_head, pack_result, unpack_head, unpack_result
from syncbridge.errors import ConfigError, TransientError

logger = logging.getLogger(__name__)

#: Job ids per page.
_PAGE = 64
_ENTRY = Struct(">QI")


class MemcachedStore:
    """JobStore in one memcached: memcached://host:port, `?prefix=` names one of several queues in it.

    meta       JSON: format, queue_id, owner (token), next_id, jobs, expired (results until then are gone)
    <space>:   a random name for the rows of one queue, so that a new one never finds old rows
      pages    the numbers of the pages that hold jobs, 8 bytes each
      p<n>     ids 64 n to 64 n + 63: id 8 bytes, length of its head 4 bytes, head (rows.py)
      j<id>    a payload; r<id>: a result; settings: all of them
    """

    promise = Promise.MEMORY
    sync_seconds = 0.0

    def __init__(self, url: str, durability: Promise = Promise.MEMORY) -> None:
        self._writer, self._reader = Link(url), Link(url)
        self._lease = Lease(url)
        self._index = MemoryStore()
        #: Pages that hold jobs, and whether memcached has this list.
        self._pages: set[int] = set()
        self._listed = False
        #: Pages that may hold half a commit.
        self._torn: set[int] = set()
        #: Jobs whose payload is gone.
        self._broken: set[int] = set()
        self._closed = False
        self._lease.take()
        try:
            self._open()
        except ERRORS as error:
            self.close()
            raise self._writer.error(error, "opened") from error
        except BaseException:
            self.close()
            raise
        if durability is not Promise.MEMORY:
            logger.warning(
                "queue store %s promises durability memory, not %s: memcached forgets everything when it ends, and "
                "single jobs when it is full",
                self._writer.place,
                durability,
            )

    @property
    def queue_id(self) -> str:
        return str(self._meta["queue_id"])

    @property
    def next_id(self) -> int:
        return int(self._meta["next_id"])

    # -- opening -------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._writer.measure()
        self._reader.chunk = self._writer.chunk
        found = self._writer.client.get(self._writer.key("meta"))
        self._meta = orjson.loads(found) if found else self._new_meta()
        if self._meta["format"] != FORMAT:
            raise ConfigError(
                f"queue store {self._writer.place} has format {self._meta['format']}, this syncbridge reads "
                f"format {FORMAT}",
                hint="run the syncbridge version that wrote it, or choose another ?prefix=",
            )
        self._space = self._meta["space"]
        self._meta["owner"] = self._lease.token
        if found:
            self._load()
        self._writer.client.set(self._writer.key("meta"), orjson.dumps(self._meta))

    def _new_meta(self) -> dict[str, Any]:
        new = {"queue_id": secrets.token_hex(16), "space": secrets.token_hex(8)}
        return {"format": FORMAT, "next_id": 1, "jobs": 0, "expired": 0, **new}

    def _load(self) -> None:
        """Fill the index with what memcached still has, and say what it has not."""
        directory = self._writer.get([self._name("pages")]).get(self._name("pages"), b"")
        listed = sorted(number for (number,) in iter_unpack(">Q", directory))
        jobs: list[JobRecord] = []
        for packed in self._writer.get(self._name(f"p{page}") for page in listed).values():
            jobs += _unpack_page(packed)
        self._pages = {job.id // _PAGE for job in jobs}
        self._listed = len(self._pages) == len(listed)
        settings = self._writer.get([self._name("settings")]).get(self._name("settings"))
        self._index.commit(Changes(adds=jobs, settings=_unpack_settings(settings or b"")))
        missing = self._meta["jobs"] - len(jobs)
        if missing > 0:
            logger.error("queue store %s lost %d jobs: memcached no longer has them", self._writer.place, missing)
        self._meta["jobs"] = len(jobs)

    # -- writing (commit thread) ---------------------------------------------------------------------------------

    def commit(self, changes: Changes) -> None:
        changes.unroll()
        try:
            self._commit(changes)
        except ERRORS as error:
            raise self._writer.error(error, "written") from error

    def _commit(self, changes: Changes) -> None:
        version = self._own()
        before = {number: self._index.find(number) for number in _touched(changes)}
        after = _applied(changes, before)
        writer = self._writer
        writer.put(
            (self._name(f"j{job.id}"), job.payload)
            for job in changes.adds
            if before[job.id] is None and job.id in after and job.payload is not None
        )
        self._write_pages(before, after)
        if changes.settings:
            merged = self._index.settings() | changes.settings
            writer.put([(self._name("settings"), _pack_settings(merged))])
        writer.put((self._name(f"r{result.id}"), pack_result(result)) for result in changes.results)
        meta = self._meta | {"jobs": self._meta["jobs"] + len(after) - sum(job is not None for job in before.values())}
        meta["next_id"] = max(meta["next_id"], changes.reserve)
        meta["expired"] = max(meta["expired"], changes.expire_results)
        if not writer.client.cas(writer.key("meta"), orjson.dumps(meta), version):
            raise self._taken()
        self._meta = meta
        self._index.commit(_bare(changes))
        self._torn.clear()
        gone = [(number, job) for number, job in before.items() if job is not None and number not in after]
        self._broken.difference_update(number for number, _ in gone)
        writer.drop((self._name(f"j{number}"), job.size) for number, job in gone)

    def _own(self) -> bytes:
        """The version of the meta item, which must still be ours."""
        for _ in range(2):
            found, version = self._writer.client.gets(self._writer.key("meta"))
            if found:
                if orjson.loads(found)["owner"] != self._lease.token:
                    raise self._taken()
                return bytes(version)
            self._restore()
        raise OSError("memcached does not keep what it is given")

    def _restore(self) -> None:
        """memcached was restarted, or is too full: it is another queue now, of the jobs that we know."""
        self._meta["queue_id"] = secrets.token_hex(16)
        self._writer.client.add(self._writer.key("meta"), orjson.dumps(self._meta))
        self._torn |= self._pages
        self._listed = False
        self._writer.put([(self._name("settings"), _pack_settings(self._index.settings()))])
        logger.error(
            "queue store %s lost what it had stored (memcached was restarted, or is full): it is queue %s now",
            self._writer.place,
            self._meta["queue_id"],
        )

    def _taken(self) -> TransientError:
        return TransientError(
            f"queue store {self._writer.place} belongs to another server now",
            hint="one store serves one server: stop the other or give it a ?prefix= of its own, then restart this one",
        )

    def _write_pages(self, before: dict[int, JobRecord | None], after: dict[int, JobRecord]) -> None:
        """Those that this commit touches, and those that one before may have left half written."""
        self._torn |= {number // _PAGE for number in before}
        pages = self._pages | self._torn
        packed = {}
        for page in self._torn:
            numbers = range(page * _PAGE, (page + 1) * _PAGE)
            jobs = [after.get(n) if n in before else self._index.find(n) for n in numbers]
            entries = b"".join(_pack_entry(job) for job in jobs if job is not None)
            if entries:
                packed[self._name(f"p{page}")] = entries
            else:
                pages.discard(page)
        self._writer.put(packed.items())
        if pages != self._pages or not self._listed:
            self._pages, self._listed = pages, False
            self._writer.put([(self._name("pages"), b"".join(pack(">Q", page) for page in sorted(pages)))])
            self._listed = True
            self._writer.drop((self._name(f"p{page}"), 0) for page in self._torn - pages)

    # -- reading (reader thread) ---------------------------------------------------------------------------------

    def backlogs(self) -> list[StoredBacklog]:
        return self._index.backlogs()

    def window(
        self, function: bytes, priority: int, *, after: int, through: int, limit: int, inline: int, state: int = READY
    ) -> list[JobRecord]:
        jobs = self._index.window(
            function, priority, after=after, through=through, limit=limit, inline=inline, state=state
        )
        names = {job.id: self._name(f"j{job.id}") for job in jobs if job.size <= inline and job.id not in self._broken}
        payloads = self._read(names.values())
        found = []
        for job in jobs:
            payload = payloads.get(names.get(job.id, ""))
            if job.id in names and (payload is None or len(payload) != job.size) and self._index.find(job.id) == job:
                self._broken.add(job.id)
            found.append(self._shown(job._replace(payload=payload)))
        return found

    def by_due(self, state: int, *, after: tuple[int, int], limit: int) -> list[JobRecord]:
        return [self._shown(job) for job in self._index.by_due(state, after=after, limit=limit)]

    def payload(self, function: bytes, priority: int, number: int, state: int = READY) -> bytes | None:
        found = self.window(function, priority, after=number - 1, through=number, limit=1, inline=1 << 40, state=state)
        return found[0].payload if found else None

    def joinable(self, function: bytes, keys: Sequence[bytes]) -> dict[bytes, JobRecord]:
        return {key: self._shown(job) for key, job in self._index.joinable(function, keys).items()}

    def find(self, number: int) -> JobRecord | None:
        job = self._index.find(number)
        return self._shown(job) if job is not None else None

    def result(self, number: int) -> Result | None:
        name = self._name(f"r{number}")
        packed = self._read([name]).get(name)
        result = unpack_result(packed) if packed is not None else None
        return result if result is not None and result.expires > self._meta["expired"] else None

    def settings(self) -> dict[bytes, bytes]:
        return self._index.settings()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        self._reader.close()
        self._lease.release()

    def _read(self, names: Iterable[str]) -> dict[str, bytes]:
        try:
            return self._reader.get(names)
        except ERRORS as error:
            raise self._reader.error(error, "read") from error

    def _name(self, name: str) -> str:
        return f"{self._space}:{name}"

    def _shown(self, job: JobRecord) -> JobRecord:
        return job._replace(size=UNREADABLE, payload=None) if job.id in self._broken else job


def _touched(changes: Changes) -> set[int]:
    return {job.id for job in changes.adds} | {*changes.moves, *changes.attempts, *changes.removes}


def _applied(changes: Changes, before: dict[int, JobRecord | None]) -> dict[int, JobRecord]:
    """What becomes of these jobs."""
    scratch = MemoryStore()
    scratch.commit(Changes(adds=[job for job in before.values() if job is not None]))
    scratch.commit(_bare(changes))
    return {number: job for number in before if (job := scratch.find(number)) is not None}


def _bare(changes: Changes) -> Changes:
    """The changes without what the index does not hold."""
    adds = [job._replace(payload=None) for job in changes.adds]
    return Changes(adds, changes.moves, changes.attempts, changes.removes, settings=changes.settings)


def _pack_entry(job: JobRecord) -> bytes:
    head = pack_head(job)
    return _ENTRY.pack(job.id, len(head)) + head


def _unpack_page(packed: bytes) -> list[JobRecord]:
    jobs, at = [], 0
    try:
        while at < len(packed):
            number, length = _ENTRY.unpack_from(packed, at)
            at += _ENTRY.size + length
            if (job := unpack_head(number, packed[at - length : at])) is not None:
                jobs.append(job)
    except error:
        pass  # what is missing is counted
    return jobs


def _pack_settings(settings: Mapping[bytes, bytes | None]) -> bytes:
    pairs = ((name, value) for name, value in settings.items() if value is not None)
    return b"".join(pack(">II", len(name), len(value)) + name + value for name, value in pairs)


def _unpack_settings(packed: bytes) -> dict[bytes, bytes | None]:
    settings: dict[bytes, bytes | None] = {}
    at = 0
    while at + 8 <= len(packed):
        name, value = Struct(">II").unpack_from(packed, at)
        at += 8 + name
        settings[packed[at - name : at]] = packed[at : at + value]
        at += value
    return settings
