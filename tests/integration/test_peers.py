"""GearmanClient and GearmanWorker against our job server and against Debian's gearmand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from syncbridge.dispatch import (
    HIGH,
    LOW,
    AcceptanceUnknown,
    GearmanClient,
    GearmanWorker,
    JobFailed,
    JobHandle,
    JobRaised,
    JobRefused,
    JobStatus,
    Kind,
    ResultUnknown,
    Server,
    Tls,
    Update,
    WorkerJob,
)
from syncbridge.dispatch.peers.backoff import Backoff
from syncbridge.errors import ConfigError, PermanentError, TransientError
from tests.integration.test_listeners import TlsService
from tests.servers import free_port
from tests.servers.certificates import make_certificates
from tests.servers.gearmand import Gearmand
from tests.servers.job_server import JobServerProcess, Peer

PATIENCE = 60.0
NewServer = Callable[[], JobServerProcess | Gearmand]


@pytest.fixture(params=[JobServerProcess, Gearmand], ids=["ours", "gearmand"])
def new_server(request: pytest.FixtureRequest) -> Iterator[NewServer]:
    """A factory of servers that end with the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(request.param())


@pytest.fixture
def server(new_server: NewServer) -> JobServerProcess | Gearmand:
    return new_server()


@pytest.fixture
def ours() -> Iterator[JobServerProcess]:
    with JobServerProcess() as started:
        yield started


def at(server: JobServerProcess | Gearmand) -> str:
    return f"127.0.0.1:{server.port}"


@asynccontextmanager
async def working(*workers: GearmanWorker) -> AsyncIterator[None]:
    """They run inside, and stop gracefully at the end."""
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
        for worker in workers:
            worker.stop()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - most conditions have no event
            await asyncio.sleep(0.01)


async def status_until(client: GearmanClient, handle: JobHandle, wanted: Callable[[JobStatus], object]) -> JobStatus:
    async with asyncio.timeout(PATIENCE):
        while not wanted(status := await client.status(handle)):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    return status


def reverse(job: WorkerJob) -> bytes:
    return job.payload[::-1]


async def talkative(job: WorkerJob) -> str:
    job.send_data(b"one\0two")
    job.warning(b"careful")
    job.progress(1, 3)
    job.progress(2.5, 3)
    return "done"


# -- jobs --------------------------------------------------------------------------------------------------------------


async def test_a_foreground_job_reports_and_returns(server: JobServerProcess) -> None:
    worker = GearmanWorker(at(server))
    worker.register("talk", talkative)
    said: list[Update] = []
    async with working(worker), GearmanClient(at(server)) as client:
        task = await client.submit("talk", b"x")
        found = [update async for update in task]
        assert await task == b"done"
        assert task.progress == (2.5, 3)
        assert await client.run("talk", on_update=said.append) == b"done"
    assert found == said
    assert found == [
        Update(Kind.DATA, b"one\0two"),
        Update(Kind.WARNING, b"careful"),
        Update(Kind.STATUS, b"", 1, 3),
        Update(Kind.STATUS, b"", 2.5, 3),
    ]


async def test_a_plain_function_runs_in_a_thread_and_may_report(server: JobServerProcess) -> None:
    threads: set[int] = set()

    def handle(job: WorkerJob) -> bytes:
        threads.add(threading.get_ident())
        job.progress(1, 2)
        job.send_data(b"half")
        time.sleep(0.05)
        return job.payload + job.unique + job.handle

    worker = GearmanWorker(at(server), concurrency=4)
    worker.register("thread", handle)
    async with working(worker), GearmanClient(at(server)) as client:
        tasks = [await client.submit("thread", b"p", unique=f"u{n}") for n in range(4)]
        results = await asyncio.gather(*tasks)
        assert results == [b"pu%d%s" % (n, tasks[n].handle.handle) for n in range(4)]
        assert [update.kind async for update in tasks[0]] == [Kind.STATUS, Kind.DATA]
    assert threading.get_ident() not in threads
    assert len(threads) == 4


async def test_failures_reach_the_client(server: JobServerProcess) -> None:
    worker = GearmanWorker(at(server))

    async def fail(job: WorkerJob) -> None:
        raise JobFailed("no")

    async def raises(job: WorkerJob) -> None:
        raise ValueError("Grüße")

    async def raises_data(job: WorkerJob) -> None:
        raise JobRaised("told", b"a\0b")

    def wrong(job: WorkerJob) -> int:
        return 3

    for function in (fail, raises, raises_data, wrong, reverse):
        worker.register(function.__name__, function)  # type: ignore[arg-type]
    async with working(worker), GearmanClient(at(server)) as client:
        with pytest.raises(JobFailed) as failed:
            await client.run("fail")
        assert type(failed.value) is JobFailed
        with pytest.raises(JobRaised, match="Grüße") as raised:
            await client.run("raises")
        assert raised.value.data == "ValueError: Grüße".encode()
        with pytest.raises(JobRaised) as raised:
            await client.run("raises_data")
        assert raised.value.data == b"a\0b"
        with pytest.raises(JobRaised, match="returned int"):
            await client.run("wrong")
        async with GearmanClient(at(server), exceptions=False) as plain:
            with pytest.raises(JobFailed) as failed:
                await plain.run("raises")
            assert type(failed.value) is JobFailed
        assert await client.run("reverse", b"abc") == b"cba"


async def test_thousands_of_jobs_share_one_connection(server: JobServerProcess) -> None:
    workers = [GearmanWorker(at(server), concurrency=8, prefetch=8, client_id=f"w{n}") for n in range(2)]

    async def double(job: WorkerJob) -> bytes:
        await asyncio.sleep(0)
        return job.payload * 2

    for worker in workers:
        worker.register("double", double)
    async with working(*workers), GearmanClient(at(server)) as client:
        started = time.perf_counter()
        results = await asyncio.gather(*(client.run("double", b"%d." % n) for n in range(3000)))
        print(f"{3000 / (time.perf_counter() - started):.0f} foreground jobs/s")
        assert results == [b"%d.%d." % (n, n) for n in range(3000)]
        with Peer(server.port) as peer:
            lines = peer.text("workers", end=".\n").splitlines()
        assert len([line for line in lines if "double" in line]) == 2
        assert len(lines) <= 5  # with the client, the peer and the dot


async def test_priorities(server: JobServerProcess) -> None:
    seen: list[bytes] = []
    async with GearmanClient(at(server)) as client:
        for number, priority in enumerate((LOW, 1, HIGH, LOW, 1, HIGH)):
            await client.submit_background("order", b"%d" % number, priority=priority)
        worker = GearmanWorker(at(server))

        async def note(job: WorkerJob) -> None:
            seen.append(job.payload)

        worker.register("order", note)
        async with working(worker):
            await until(lambda: len(seen) == 6)
    assert seen == [b"2", b"5", b"1", b"4", b"0", b"3"]


async def test_equal_uniques_are_one_job_with_two_clients(server: JobServerProcess) -> None:
    async with GearmanClient(at(server)) as client, GearmanClient(at(server)) as other:
        tasks = [await client.submit("talk", unique="same") for _ in range(2)]
        tasks.append(await other.submit("talk", unique="same"))
        different = await client.submit("talk", unique="other")
        assert len({task.handle for task in tasks}) == 1
        assert different.handle != tasks[0].handle
        worker = GearmanWorker(at(server))
        ran: list[bytes] = []

        async def talk(job: WorkerJob) -> str:
            ran.append(job.unique)
            return await talkative(job)

        worker.register("talk", talk)
        async with working(worker), asyncio.timeout(PATIENCE):
            for task in (*tasks, different):
                assert await task == b"done"
                assert [update.kind async for update in task] == ["data", "warning", "status", "status"]
    assert sorted(ran) == [b"other", b"same"]


async def test_status_of_a_background_job(server: JobServerProcess) -> None:
    go_on = asyncio.Event()

    async def wait(job: WorkerJob) -> None:
        job.progress(2, 5)
        await go_on.wait()

    worker = GearmanWorker(at(server))
    worker.register("wait", wait)
    async with GearmanClient(at(server)) as client:
        handle = await client.submit_background("wait", unique="u")
        assert isinstance(handle, JobHandle)
        assert str(handle).startswith("H:")
        assert await client.status(handle) == (True, False, 0, 0, 0)
        async with working(worker):
            status = await status_until(client, handle, lambda status: status.numerator)
            assert status == (True, True, 2, 5, 0)
            assert await client.status(str(handle)) == status
            go_on.set()
            await status_until(client, handle, lambda status: not status.running)
        assert not (await client.status(b"H:nowhere:1")).known


async def test_what_a_server_refuses_is_said(server: JobServerProcess) -> None:
    async with GearmanClient(at(server)) as client:
        with pytest.raises(PermanentError, match="ARGUMENT_TOO_LARGE"):
            await client.submit_background("f", unique="u" * 200)
        with pytest.raises(PermanentError, match="NUL"):
            await client.run("a\0b")
        with pytest.raises(PermanentError, match="priority"):
            await client.submit_background("f", delay=10, priority=HIGH)
        assert await client.submit_background("f", b"goes on")


async def test_a_full_queue_refuses_and_keeps_nothing() -> None:
    with JobServerProcess(max_jobs=2) as server:
        async with GearmanClient(at(server)) as client:
            outcomes = await asyncio.gather(
                *(client.submit_background("f", b"%d" % n) for n in range(5)), return_exceptions=True
            )
        assert [type(outcome) for outcome in outcomes] == [JobHandle] * 2 + [JobRefused] * 3
        assert server.total("f") == 2


async def test_start_times_reducers_and_status_by_unique(server: JobServerProcess) -> None:
    worker = GearmanWorker(at(server), heartbeat=0.2)
    done: dict[bytes, tuple[bytes, float]] = {}

    async def note(job: WorkerJob) -> None:
        done[job.payload] = (job.reducer, time.time())

    worker.register("note", note)
    async with GearmanClient(at(server)) as client, working(worker):
        started = time.time()
        await client.submit_background("note", b"late", delay=1.2)
        await client.submit_background("note", b"early", at=started - 5)
        await client.submit_background("note", b"reduced", reducer="sum")
        assert await client.run("note", b"fg", reducer="sum") == b""
        await until(lambda: len(done) == 4)
        assert done[b"late"][1] >= started + 1.2
        assert done[b"reduced"][0] == b"sum"
        assert done[b"fg"][0] == b"sum"
        await client.submit_background("elsewhere", unique="waits")
        assert await client.status_of_unique("waits") == (True, False, 0, 0, 0)
        assert not (await client.status_of_unique("unheard of")).known


# -- servers that go away ----------------------------------------------------------------------------------------------


async def test_failover_and_work_on_all_servers(new_server: NewServer) -> None:
    first, second = new_server(), new_server()
    both = [at(first), at(second)]
    worker = GearmanWorker(both, concurrency=2)
    worker.register("reverse", reverse)
    async with working(worker), GearmanClient(both, timeout=PATIENCE) as client:
        assert await client.run("reverse", b"abc") == b"cba"
        old = await client.submit_background("sleeps", b"")
        assert old.server == Server.parse(at(first))
        first.kill9()
        async with asyncio.timeout(PATIENCE):
            assert await client.run("reverse", b"abc", at_least_once=True) == b"cba"
        assert await client.ping() == Server.parse(at(second))
        first.start()
        known = (await client.status(old)).known  # asked there, not on the current server
        assert known == isinstance(first, JobServerProcess)  # gearmand in memory forgot
        async with GearmanClient(at(first), timeout=PATIENCE) as direct, asyncio.timeout(PATIENCE):
            assert await direct.run("reverse", b"again") == b"niaga"  # the worker came back and said what it can do


async def test_no_server_is_said_after_the_time(ours: JobServerProcess) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    started = time.monotonic()
    async with GearmanClient(nobody, timeout=0.5) as client:
        with pytest.raises(TransientError, match="cannot be reached"):
            await client.run("f")
    assert time.monotonic() - started < 20
    async with GearmanClient([nobody, at(ours)]) as client:
        assert await client.ping() == Server.parse(at(ours))


async def test_a_client_waits_for_a_server_that_restarts(ours: JobServerProcess) -> None:
    async with GearmanClient(at(ours), timeout=PATIENCE) as client:
        await client.ping()
        ours.kill9()
        submitted = asyncio.create_task(client.submit_background("f", b"", at_least_once=True))
        await asyncio.sleep(0.2)
        ours.start()
        await submitted
        assert ours.total("f") == 1


class Gate:
    """Forwards connections to a server until told to swallow its answers or to cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        #: Bytes the server would have answered with.
        self.swallowed = 0
        self.swallow = False

    async def __aenter__(self) -> Gate:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer, answers=True))
        for end in (writer, back):
            end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool = False) -> None:
        while data := await source.read(1 << 16):
            if answers and self.swallow:
                self.swallowed += len(data)
                continue
            sink.write(data)
            await sink.drain()
        sink.close()


@pytest.mark.parametrize("at_least_once", [False, True])
async def test_a_submit_without_an_answer_is_unknown_unless_it_may_run_twice(
    ours: JobServerProcess, at_least_once: bool
) -> None:
    with JobServerProcess() as second:
        async with Gate(ours.port) as gate, GearmanClient([gate.address, at(second)]) as client:
            await client.ping()
            gate.swallow = True
            submit = asyncio.create_task(client.submit_background("f", at_least_once=at_least_once))
            await until(lambda: gate.swallowed)
            gate.cut()
            if at_least_once:
                assert (await submit).server == Server.parse(at(second))
            else:
                with pytest.raises(AcceptanceUnknown, match="lost"):
                    await submit
        assert (ours.total("f"), second.total("f")) == (1, int(at_least_once))


async def test_a_lost_connection_ends_the_wait_for_a_result(ours: JobServerProcess) -> None:
    async with Gate(ours.port) as gate, GearmanClient(gate.address) as client:
        task = await client.submit("nobody does it")
        gate.cut()
        with pytest.raises(ResultUnknown, match="lost"):
            await task
        assert [update async for update in task] == []
        await client.submit("nobody does it")


async def test_a_frozen_server_is_given_up(ours: JobServerProcess) -> None:
    with JobServerProcess() as second:
        both = [at(ours), at(second)]
        worker = GearmanWorker(both, heartbeat=0.3)
        worker.register("reverse", reverse)
        async with working(worker), GearmanClient(both, heartbeat=0.3, timeout=PATIENCE) as client:
            assert await client.run("reverse", b"abc") == b"cba"
            task = await client.submit("nobody does it")
            ours.freeze()
            with pytest.raises(AcceptanceUnknown, match="silent"):
                await client.submit_background("f")
            with pytest.raises(ResultUnknown, match="silent"):
                await task
            assert await client.run("reverse", b"abc") == b"cba"
            assert await client.ping() == Server.parse(at(second))
            ours.thaw()
            async with GearmanClient(at(ours), timeout=PATIENCE) as direct, asyncio.timeout(PATIENCE):
                assert await direct.run("reverse", b"again") == b"niaga"


async def test_a_full_worker_leaves_the_wakeup_to_others(new_server: NewServer) -> None:
    """It sleeps on both servers and is busy with the first one's job: the second one's must go to somebody idle."""
    first, second = new_server(), new_server()
    busy = GearmanWorker([at(first), at(second)], client_id="busy")
    idle = GearmanWorker(at(second), client_id="idle")
    release, held = asyncio.Event(), asyncio.Event()

    async def hold(job: WorkerJob) -> None:
        held.set()
        await release.wait()

    busy.register("hold", hold)
    busy.register("quick", lambda job: b"busy")
    idle.register("quick", lambda job: b"idle")
    async with working(busy), GearmanClient(at(first)) as one, GearmanClient(at(second)) as two:
        assert await two.run("quick") == b"busy"
        holding = await one.submit("hold")
        await held.wait()
        async with working(idle), asyncio.timeout(PATIENCE):
            for _ in range(3):
                assert await two.run("quick") == b"idle"
        quick = await two.submit("quick")
        assert not quick.done
        release.set()
        async with asyncio.timeout(PATIENCE):
            assert (await holding, await quick) == (b"", b"busy")


# -- workers that stop -------------------------------------------------------------------------------------------------


async def test_restarts_under_load_lose_and_repeat_nothing(server: JobServerProcess) -> None:
    jobs, restarts = 4000, 20
    ran: Counter[bytes] = Counter()

    async def count(job: WorkerJob) -> None:
        await asyncio.sleep(0.002)
        ran[job.payload] += 1

    def new_worker(number: int) -> GearmanWorker:
        worker = GearmanWorker(at(server), concurrency=4, prefetch=4 * (number % 2))
        worker.register("count", count)
        return worker

    async with GearmanClient(at(server)) as client:
        unfinished = asyncio.create_task(
            asyncio.wait([asyncio.create_task(client.submit_background("count", b"%d" % n)) for n in range(jobs)])
        )
        workers = [new_worker(n) for n in range(3)]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        for number in range(restarts):
            target = min(jobs - 1, len(ran) + 100)
            await until(lambda: len(ran) >= target)  # noqa: B023 - called at once
            turn = number % 3
            workers[turn].stop()
            async with asyncio.timeout(PATIENCE):
                await running[turn]
            assert workers[turn].in_hand == 0
            workers[turn] = new_worker(number)
            running[turn] = asyncio.create_task(workers[turn].run())
        await unfinished
        await until(lambda: len(ran) == jobs)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)
    with Peer(server.port) as peer:
        assert "count\t0\t0" in peer.text("status", end=".\n") or isinstance(server, Gearmand)
    print(f"{restarts} restarts, {jobs} jobs, most runs of one job: {max(ran.values())}")
    assert set(ran.values()) == {1}


async def test_a_second_stop_gives_the_job_to_somebody_else(server: JobServerProcess) -> None:
    began: list[str] = []
    cancelled: list[str] = []

    def new_worker(name: str) -> GearmanWorker:
        async def handle(job: WorkerJob) -> str:
            began.append(name)
            try:
                await asyncio.sleep(0 if name == "second" else 3600)
            except asyncio.CancelledError:
                cancelled.append(name)
                raise
            return name

        worker = GearmanWorker(at(server))
        worker.register("long", handle)
        return worker

    first, second = new_worker("first"), new_worker("second")
    async with GearmanClient(at(server)) as client:
        task = await client.submit("long")
        running = asyncio.create_task(first.run())
        await until(lambda: began)
        first.stop()
        done, _ = await asyncio.wait([running], timeout=0.2)
        assert not done  # it finishes what it has in hand
        first.stop()
        async with asyncio.timeout(PATIENCE):
            await running
        assert cancelled == ["first"]
        async with working(second), asyncio.timeout(PATIENCE):
            assert await task == b"second"


async def test_a_job_outlives_its_server_and_says_so(ours: JobServerProcess) -> None:
    lost: list[bool] = []
    release = asyncio.Event()

    async def hold(job: WorkerJob) -> None:
        lost.append(job.lost)
        await release.wait()
        lost.append(job.lost)

    worker = GearmanWorker(at(ours))
    worker.register("hold", hold)
    async with working(worker), GearmanClient(at(ours)) as client:
        await client.submit_background("hold")
        await until(lambda: lost)
        ours.kill9()
        await asyncio.sleep(0.1)
        release.set()
        await until(lambda: lost == [False, True])
        ours.start()
        await until(lambda: lost == [False, True, False, False])  # the server gave it out once more
        await until(lambda: ours.total("hold") == 0)


async def test_functions_may_be_added_while_it_runs(server: JobServerProcess) -> None:
    worker = GearmanWorker(at(server))
    worker.register("reverse", reverse)
    async with working(worker), GearmanClient(at(server)) as client:
        assert await client.run("reverse", b"ab") == b"ba"
        worker.register("upper", lambda job: job.payload.upper())
        async with asyncio.timeout(PATIENCE):
            assert await client.run("upper", b"ab") == b"AB"


async def test_a_handler_that_takes_too_long_is_cancelled(server: JobServerProcess) -> None:
    cancelled: list[bool] = []

    async def slow(job: WorkerJob) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.append(True)

    worker = GearmanWorker(at(server))
    worker.register("slow", slow, timeout=1)
    async with working(worker), GearmanClient(at(server)) as client:
        with pytest.raises(JobRaised, match="TimeoutError"):
            await client.run("slow")
        await until(lambda: cancelled)


def test_what_a_worker_is_asked_must_make_sense() -> None:
    worker = GearmanWorker("127.0.0.1", prefetch=1)
    with pytest.raises(ConfigError, match="prefetch"):
        worker.register("slow", reverse, timeout=1)
    with pytest.raises(ConfigError, match="function name"):
        worker.register("", reverse)
    with pytest.raises(ConfigError, match="0 jobs"):
        GearmanWorker("127.0.0.1", concurrency=0)


# -- TLS and Unix sockets ----------------------------------------------------------------------------------------------


async def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    tls = Tls(ca=files.ca, cert=files.cert, key=files.key)
    with TlsService(files, "--tls-ca", files.ca) as server:
        address = f"127.0.0.1:{server.port}"
        worker = GearmanWorker(address, tls=tls)
        worker.register("reverse", reverse)
        async with working(worker), GearmanClient(address, tls=tls) as client:
            assert await client.run("reverse", b"secret" * 100_000) == b"terces" * 100_000
        async with GearmanClient(address, tls=Tls(ca=files.ca), timeout=0.5) as client:
            with pytest.raises(TransientError):  # without a certificate of ours
                await client.ping()
        async with GearmanClient(address, timeout=0.5) as client:
            with pytest.raises(TransientError):  # in plain text
                await client.ping()
        async with GearmanClient(address, tls=Tls()) as client:
            with pytest.raises(ConfigError, match="certificate verify failed"):
                await client.ping()
        refused = GearmanWorker(address, tls=Tls())
        refused.register("reverse", reverse)
        with pytest.raises(ConfigError, match="certificate verify failed"):
            await refused.run()
        worker = GearmanWorker(f"unix:{server.folder / 'ready.sock'}")
        worker.register("reverse", reverse)
        async with working(worker), GearmanClient(f"unix:{server.folder / 'ready.sock'}") as client:
            assert await client.run("reverse", b"abc") == b"cba"


async def test_tls_never_falls_back_to_plain_text(ours: JobServerProcess) -> None:
    async with GearmanClient(at(ours), tls=Tls(), timeout=0.5) as client:
        with pytest.raises(TransientError, match="cannot be reached"):
            await client.ping()


def test_tls_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TLS files"):
        GearmanClient("127.0.0.1", tls=Tls(ca=tmp_path / "missing.pem"))


# -- small parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "server", "shown"),
    [
        ("db1", Server("db1", 4730), "db1:4730"),
        ("db1:99", Server("db1", 99), "db1:99"),
        ("gearman://db1:99/", Server("db1", 99), "db1:99"),
        ("[::1]:99", Server("::1", 99), "[::1]:99"),
        ("::1", Server("::1", 4730), "[::1]:4730"),
        ("[::1]", Server("::1", 4730), "[::1]:4730"),
        ("unix:/run/q", Server(path="/run/q"), "unix:/run/q"),
        ("unix:///run/q", Server(path="/run/q"), "unix:/run/q"),
    ],
)
def test_servers_are_parsed(text: str, server: Server, shown: str) -> None:
    assert Server.parse(text) == server
    assert str(server) == shown


@pytest.mark.parametrize("text", ["", ":4730", "db1:0", "db1:x", "db1:65536", "unix:q", "http://db1"])
def test_wrong_servers_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Server.parse(text)


def test_backoff_doubles_with_jitter() -> None:
    backoff = Backoff(1.0, 10.0)
    for most in (1, 2, 4, 8, 10, 10):
        assert most / 2 <= backoff.next() <= most
    backoff.reset()
    assert backoff.next() <= 1
    assert len({Backoff(1.0).next() for _ in itertools.repeat(None, 10)}) > 1
