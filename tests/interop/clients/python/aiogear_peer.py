"""aiogear as the peer that ../README.md describes."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from aiogear import Admin, Client, PacketType, Worker
from aiogear.response import WorkComplete, WorkException

action, port, function, *arguments = sys.argv[1:]


def say(*words: object) -> None:
    print(*words, flush=True)


async def connected(protocol):
    await asyncio.get_running_loop().create_connection(lambda: protocol, "127.0.0.1", int(port))
    return protocol


def reverse(job):
    return job.workload[::-1]


def note(job) -> None:
    say(job.workload)


def wait_for(gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.01)


def explode(job) -> None:
    raise RuntimeError("boom")


async def work(role: str) -> None:
    async def hold(job) -> str:
        worker.send(PacketType.WORK_STATUS, job.handle, "3", "4")
        say(job.workload)
        await asyncio.to_thread(wait_for, Path(job.workload))
        return "released"

    jobs = {"reverse": reverse, "note": note, "explode": explode, "fail": explode, "hold": hold}
    worker = await connected(Worker((jobs[role], function)))
    worker.set_client_id(f"interop-{function}")
    await worker.main_task


async def foreground(file: str, unique: str) -> None:
    workload = await asyncio.to_thread(Path(file).read_bytes)
    client = await connected(Client())
    job = await client.submit_job(function, workload, **unique_of(unique))
    result = await client.wait_job(job.handle)
    assert isinstance(result, WorkComplete), result
    sys.stdout.write(result.result)


async def background(workload: str, priority: str, unique: str) -> None:
    client = await connected(Client())
    submit = {"high": client.submit_job_high_bg, "normal": client.submit_job_bg, "low": client.submit_job_low_bg}
    say((await submit[priority](function, workload, **unique_of(unique))).handle)


def unique_of(unique: str) -> dict[str, str]:
    """Without one, the library sends 16 random bytes of its own."""
    return {"uuid": unique} if unique else {}


async def events() -> None:
    client = await connected(Client())
    await client.option_req("exceptions")
    job = await client.submit_job(function, "-")
    result = await client.wait_job(job.handle)
    if isinstance(result, WorkException):
        say("exception", result.exception)
    elif isinstance(result, WorkComplete):
        say("complete", result.result)
    else:
        say("fail")


async def status(workload: str) -> None:
    client = await connected(Client())
    job = await client.submit_job_bg(function, workload)
    shown = None
    while shown is None or shown[0]:
        found = await client.get_status(job.handle)
        now = int(found.known), int(found.running), found.numerator, found.denominator
        if now != shown:
            say(*now)
        shown = now
        await asyncio.sleep(0.01)


async def admin() -> None:
    server = await connected(Admin())
    say("version", (await server.version()).removeprefix("OK "))
    for found in await server.status():
        say("status", found["function"], found["total"], found["running"], found["available_workers"])
    for found in await server.workers():
        if found["functions"]:
            say("worker", found["name"], *found["functions"])


actions = {
    "worker": work,
    "foreground": foreground,
    "background": background,
    "events": events,
    "status": status,
    "admin": admin,
}
asyncio.run(actions[action](*arguments))
