"""python3-gearman and pygearman (two forks of one library) as the peer that ../README.md describes."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path

library, action, port, function, *arguments = sys.argv[1:]
gearman = import_module(library)
DataEncoder = import_module(f"{library}.connection_manager").DataEncoder
servers = [f"127.0.0.1:{port}"]
#: A task's name is bytes to pygearman and text to python3-gearman.
task = function.encode() if library == "gearman" else function


def encoded(unique: str) -> bytes | str | None:
    return (unique.encode() if library == "gearman" else unique) or None


class Bytes(DataEncoder):
    """Workloads are bytes here, bytes to pygearman (whose own encoder wants text), and text to python3-gearman."""

    @classmethod
    def encode(cls, data):
        return data if library == "gearman" else data.decode()

    @classmethod
    def decode(cls, data):
        return data if library == "gearman" else data.encode()


class Client(gearman.GearmanClient):
    data_encoder = Bytes


class Worker(gearman.GearmanWorker):
    data_encoder = Bytes

    def on_job_exception(self, current_job, exc_info):
        self.send_job_exception(current_job, str(exc_info[1]).encode())
        return False


def say(*words: object) -> None:
    print(*(word.decode() if isinstance(word, bytes) else word for word in words), flush=True)


def reverse(worker, job):
    return job.data[::-1]


def note(worker, job):
    say(job.data)
    return b"noted"


def steps(worker, job):
    worker.send_job_status(job, 1, 2)
    worker.send_job_data(job, b"half")
    worker.send_job_warning(job, b"mind")
    return b"whole"


def explode(worker, job):
    raise RuntimeError("boom")


def hold(worker, job):
    worker.send_job_status(job, 3, 4)
    gate = Path(job.data.decode())
    say(gate)
    while not gate.exists():
        time.sleep(0.01)
    return b"released"


class Failing(Worker):
    """The library turns every exception of a job into WORK_FAIL."""

    on_job_exception = gearman.GearmanWorker.on_job_exception


def work(role: str) -> None:
    jobs = {"reverse": reverse, "note": note, "steps": steps, "fail": explode, "explode": explode, "hold": hold}
    worker = (Failing if role == "fail" else Worker)(servers)
    worker.set_client_id(f"interop-{function}")
    worker.register_task(task, jobs[role])
    worker.work(poll_timeout=1.0)


def foreground(file: str, unique: str) -> None:
    request = Client(servers).submit_job(task, Path(file).read_bytes(), unique=encoded(unique), poll_timeout=60.0)
    if request.state != gearman.JOB_COMPLETE:
        sys.exit(f"{request.state}")
    sys.stdout.buffer.write(request.result)


def background(workload: str, priority: str, unique: str) -> None:
    priorities = {"high": gearman.PRIORITY_HIGH, "normal": gearman.PRIORITY_NONE, "low": gearman.PRIORITY_LOW}
    request = Client(servers).submit_job(
        task,
        workload.encode(),
        unique=encoded(unique),
        priority=priorities[priority],
        background=True,
        wait_until_complete=False,
    )
    say(request.job.handle)


def events() -> None:
    """The library gathers what arrives, by kind."""
    request = Client(servers).submit_job(task, b"-", poll_timeout=60.0)
    if request.status:
        say("status", request.status["numerator"], request.status["denominator"])
    for data in request.data_updates:
        say("data", data)
    for warning in request.warning_updates:
        say("warning", warning)
    if request.exception is not None:
        say("exception", request.exception)
    say(*(("complete", request.result) if request.state == gearman.JOB_COMPLETE else ("fail",)))


def status(workload: str) -> None:
    client = Client(servers)
    request = client.submit_job(task, workload.encode(), background=True, wait_until_complete=False)
    shown = None
    while shown is None or shown[0]:
        found = client.get_job_status(request, poll_timeout=60.0).status
        now = int(found["known"]), int(found["running"]), found["numerator"], found["denominator"]
        if now != shown:
            say(*now)
        shown = now
        time.sleep(0.01)


def admin() -> None:
    server = gearman.GearmanAdminClient(servers)
    assert server.ping_server() < 60.0
    say("version", server.get_version().removeprefix("OK "))
    for found in server.get_status():
        say("status", found["task"], found["queued"], found["running"], found["workers"])
    for found in server.get_workers():
        if any(found["tasks"]):
            say("worker", found["client_id"], *found["tasks"])


actions = {
    "worker": work,
    "foreground": foreground,
    "background": background,
    "events": events,
    "status": status,
    "admin": admin,
}
actions[action](*arguments)
