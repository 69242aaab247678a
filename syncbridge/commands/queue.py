"""`queue list|show|peek|result|cancel|requeue|purge|pause|resume|workers|dead`: look into a job server, and put right
what is in it, through its admin interface. Works for any Gearman client's jobs; the rows of the pipeline itself have
`dead-letter`.
"""

from __future__ import annotations

import base64
import inspect
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from syncbridge.commands.admin import Admin, NotThere
from syncbridge.commands.options import AsJson
from syncbridge.commands.output import count, moment, say, say_json, say_table
from syncbridge.errors import ConfigError, PermanentError


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SCHEDULED = "scheduled"
    DEAD = "dead"


Config = Annotated[Path | None, typer.Option("--config", "-c", help="Take address and token from this sync.yaml.")]
Url = Annotated[str | None, typer.Option(metavar="URL", help="http://HOST:PORT of --admin; or SYNCBRIDGE_ADMIN_URL.")]
TokenFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Holds its token; or SYNCBRIDGE_ADMIN_TOKEN_FILE.")
]
TlsCa = Annotated[Path | None, typer.Option(metavar="PEM", help="Authority to verify an https:// server by.")]
Handle = Annotated[str, typer.Argument(metavar="HANDLE", help="H:host:17, as the client got it.")]
Handles = Annotated[list[str], typer.Argument(metavar="HANDLE...", help="H:host:17, as the client got it.")]
FunctionName = Annotated[str, typer.Argument(metavar="FUNCTION")]
MaybeFunction = Annotated[str | None, typer.Argument(metavar="[FUNCTION]", help="Only this function's.")]
InState = Annotated[State, typer.Option(help="Which of them.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
After = Annotated[int, typer.Option(min=0, help="Only jobs after this number.")]

PRIORITIES = ("high", "normal", "low")
#: Facts of a job that are Unix times.
_MOMENTS = ("submitted", "due", "finished", "kept until")

group = typer.Typer(no_args_is_help=True, help="Jobs of a job server: look at them, cancel, requeue, purge them.")


def _asks(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is the server's admin interface: it gets the options that say where that is."""

    def with_options(
        *arguments: Any,
        config: Path | None,
        url: str | None,
        token_file: Path | None,
        tls_ca: Path | None,
        **options: Any,
    ) -> None:
        command(Admin.find(config, url, token_file, tls_ca), *arguments, **options)

    own = inspect.signature(command, eval_str=True)
    kinds = {"config": Config, "url": Url, "token_file": TokenFile, "tls_ca": TlsCa}
    where = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in kinds.items()
    ]
    parameters = [*list(own.parameters.values())[1:], *where]
    with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="queue")


@group.command("list")
@_asks
def list_jobs(
    admin: Admin,
    function: Annotated[str | None, typer.Argument(metavar="[FUNCTION]", help="Its jobs; else all functions.")] = None,
    state: InState = State.QUEUED,
    limit: Limit = 100,
    after: After = 0,
    json: AsJson = False,
) -> None:
    """List functions, or the jobs of one, oldest first."""
    if function is None:
        _show_functions(admin.get("functions"), json=json)
    else:
        answer = admin.get("jobs", function=function, state=state.value, limit=limit, after=after)
        _show_jobs(answer, limit, f"no {state} jobs of {function}", json=json)


@group.command()
@_asks
def dead(
    admin: Admin,
    function: MaybeFunction = None,
    limit: Limit = 100,
    after: After = 0,
    json: AsJson = False,
) -> None:
    """List dead letters: jobs that nobody tries again until somebody says so."""
    query = {"state": State.DEAD.value, "limit": limit, "after": after} | ({"function": function} if function else {})
    answer = admin.get("jobs", **query)
    _show_jobs(answer, limit, "no dead letters", json=json)


@group.command()
@_asks
def workers(
    admin: Admin,
    json: AsJson = False,
) -> None:
    """List workers: who they are, what they can do and run, when they were last heard of."""
    answer = admin.get("workers")
    if json:
        say_json(answer)
    elif not answer["workers"]:
        say("no workers")
    else:
        say_table(
            ("address", "id", "functions", "runs", "last seen"),
            (
                (
                    worker["address"],
                    text(worker["client_id"]),
                    ", ".join(map(text, worker["functions"])),
                    ", ".join(map(text, worker["running"])),
                    f"{worker['seen']:.0f} s ago",
                )
                for worker in answer["workers"]
            ),
        )


@group.command()
@_asks
def show(
    admin: Admin,
    handle: Handle,
    json: AsJson = False,
) -> None:
    """Show one job: where it is, its workload, its progress or result."""
    job = admin.get("jobs", handle)
    if json:
        say_json(job)
    else:
        _show_job(job)


@group.command()
@_asks
def peek(
    admin: Admin,
    function: FunctionName,
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=100, help="So many jobs.")] = 1,
    state: InState = State.QUEUED,
    json: AsJson = False,
) -> None:
    """Show the next jobs of a function with their workloads; they stay where they are."""
    jobs = []
    for listed in admin.get("jobs", function=function, state=state.value, limit=number, after=0)["jobs"]:
        try:
            jobs.append(admin.get("jobs", text(listed["handle"])))
        except NotThere:
            continue  # done meanwhile
    if json:
        say_json({"jobs": jobs})
    elif not jobs:
        say(f"no {state} jobs of {function}")
    for job in [] if json else jobs:
        _show_job(job)
        say()


@group.command()
@_asks
def result(
    admin: Admin,
    handle: Handle,
    json: AsJson = False,
) -> None:
    """Print what a background job answered; exit code 1 when it failed, or is not over."""
    job = admin.get("jobs", handle)
    found = job["result"]
    if json:
        say_json(job)
    elif found is not None:
        sys.stdout.buffer.write(_bytes(found["data"]))
        sys.stdout.flush()
    if found is None:
        raise PermanentError(f"{handle} has no result yet: it is {job['state']}", hint="")
    if found["outcome"] != "completed":
        raise PermanentError(f"{handle} ended with {found['outcome']}")


@group.command()
@_asks
def cancel(
    admin: Admin,
    handles: Handles,
    json: AsJson = False,
) -> None:
    """End jobs, queued or running; clients that wait for them get WORK_FAIL."""
    _each(admin, handles, "cancel", "cancelled", json=json)


@group.command()
@_asks
def requeue(
    admin: Admin,
    handles: Annotated[list[str] | None, typer.Argument(metavar="[HANDLE...]")] = None,
    every: Annotated[str | None, typer.Option("--all", metavar="FUNCTION", help="All dead jobs of a function.")] = None,
    json: AsJson = False,
) -> None:
    """Let dead or scheduled jobs go again, now."""
    if bool(handles) == bool(every):
        raise ConfigError("name handles or write --all FUNCTION", hint="syncbridge queue dead shows handles")
    if handles:
        _each(admin, handles, "requeue", "queued again", json=json)
        return
    done = 0
    while jobs := admin.get("jobs", function=every, state="dead", limit=1000, after=0)["jobs"]:
        before = done
        for job in jobs:
            try:
                done += admin.post("jobs", text(job["handle"]), "requeue")["done"]
            except NotThere:
                continue
        if done == before:
            break  # somebody else does the same
    _report(done, "queued again", json=json)


@group.command()
@_asks
def purge(
    admin: Admin,
    function: FunctionName,
    state: InState = State.QUEUED,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Delete the jobs of a function: queued, scheduled or dead ones."""
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Delete all {state} jobs of {function}?", abort=True)
    _report(admin.post("functions", function, "purge", state=state.value)["done"], "deleted", json=json)


@group.command()
@_asks
def pause(
    admin: Admin,
    function: FunctionName,
    json: AsJson = False,
) -> None:
    """Hand out no more jobs of a function, also after a restart; they are still taken."""
    admin.post("functions", function, "pause")
    _say_done({"paused": function}, f"{function} is paused", json=json)


@group.command()
@_asks
def resume(
    admin: Admin,
    function: FunctionName,
    json: AsJson = False,
) -> None:
    """Hand out jobs of a paused function again."""
    admin.post("functions", function, "resume")
    _say_done({"resumed": function}, f"{function} goes on", json=json)


# -- what is shown -----------------------------------------------------------------------------------------------------


def _show_functions(answer: Any, *, json: bool) -> None:
    if json:
        say_json(answer)
        return
    if not answer["functions"]:
        say("no functions")
        return
    say_table(
        ("function", "high", "normal", "low", "running", "scheduled", "dead", "workers", "oldest", ""),
        (
            (
                text(found["name"]),
                found["high"],
                found["normal"],
                found["low"],
                found["running"],
                found["scheduled"],
                found["dead"],
                found["workers"],
                f"{found['oldest_age']:.0f} s" if found["oldest_age"] else "",
                "paused" if found["paused"] else "",
            )
            for found in answer["functions"]
        ),
    )


def _show_jobs(answer: Any, limit: int, nothing: str, *, json: bool) -> None:
    jobs = answer["jobs"]
    if json:
        say_json(answer)
    elif not jobs:
        say(nothing)
    else:
        say_table(
            ("handle", "function", "priority", "unique", "bytes", "attempts", "submitted", "due or died", "why"),
            (
                (
                    text(job["handle"]),
                    text(job["function"]),
                    PRIORITIES[job["priority"]],
                    text(job["unique"]),
                    job["size"],
                    job["attempts"],
                    moment(job["submitted"]),
                    moment(job["due"]),
                    text(job["note"]),
                )
                for job in jobs
            ),
        )
        if len(jobs) == limit:
            say(f"there may be more: --after {text(jobs[-1]['handle']).rpartition(':')[2]}")


def _show_job(job: dict[str, Any]) -> None:
    rest = dict(job)
    payload, result = rest.pop("payload"), rest.pop("result")
    rest["priority"] = PRIORITIES[rest["priority"]]
    if result is not None:
        rest |= {"outcome": result["outcome"], "finished": result["finished"], "kept until": result["expires"]}
    facts = ((name, _fact(name, value)) for name, value in rest.items() if value not in (None, ""))
    say_table(("field", "value"), facts)
    if payload is not None:
        say()
        say(text(payload))


def _fact(name: str, value: Any) -> str:
    return moment(value) if name in _MOMENTS else text(value)


def _each(admin: Admin, handles: Sequence[str], verb: str, what: str, *, json: bool) -> None:
    done, unknown = 0, []
    for handle in handles:
        try:
            done += admin.post("jobs", handle, verb)["done"]
        except NotThere:
            unknown.append(handle)
    _report(done, what, json=json)
    if unknown:
        raise ConfigError(f"there is no job {', '.join(unknown)} to {verb}", hint="syncbridge queue list shows handles")


def _report(done: int, what: str, *, json: bool) -> None:
    _say_done({"done": done}, f"{count(done, 'job')} {what}", json=json)


def _say_done(facts: dict[str, Any], sentence: str, *, json: bool) -> None:
    if json:
        say_json(facts)
    else:
        say(sentence)


def text(value: Any) -> str:
    """Bytes of an answer as text: what is no UTF-8 is escaped."""
    return _bytes(value).decode("utf-8", "backslashreplace") if isinstance(value, (str, dict)) else str(value)


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict) and set(value) == {"base64"}:
        return base64.b64decode(value["base64"])
    return str(value).encode()
