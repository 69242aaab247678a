"""`status`: lag, lanes, queue depth, snapshots, retries and dead letters, and plainly which part does not answer.

Reads the state database, asks the job server's port, and the running pipeline's /metrics. Each of the three may be
away; the other two are still shown. Changes nothing.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from syncbridge.commands import snapshot
from syncbridge.commands.options import DEFAULT_CONFIG, AsJson, ConfigPath, open_state
from syncbridge.commands.output import console, moment, printable, say_json
from syncbridge.config import Config, load_config
from syncbridge.dispatch.target import Target, own_targets
from syncbridge.errors import SyncbridgeError
from syncbridge.seams import ISOLATED_SUFFIX, LANE_PREFIX

#: Seconds that each part has to answer.
TIMEOUT = 3.0
#: Largest answer of the job server that is read, bytes.
MAX_ANSWER = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane or mapped function as the job server sees it: jobs queued and running, how many run, its workers."""

    name: str
    jobs: int
    running: int
    workers: int


@dataclass(slots=True)
class Status:
    """What was found. None: the part that knows it did not answer; `unreachable` says why."""

    name: str
    #: Whether there is a source: functions alone have no lag and no checkpoint.
    captures: bool = True
    checkpoint: dict[str, Any] | None = None
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    requests: int | None = None
    retries: int | None = None
    dead_letters: int | None = None
    queue_id: str | None = None
    lanes: list[Lane] | None = None
    functions: list[Lane] | None = None
    #: Seconds behind, bytes behind, seconds until unread binlog is purged.
    lag: float | None = None
    lag_bytes: float | None = None
    retention_headroom: float | None = None
    stages: dict[str, bool] | None = None
    unreachable: dict[str, str] = field(default_factory=dict)

    @property
    def jobs(self) -> int | None:
        return None if self.lanes is None else sum(lane.jobs for lane in self.lanes + (self.functions or []))


def register(app: typer.Typer) -> None:
    app.command()(status)


def status(
    config: ConfigPath = DEFAULT_CONFIG,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between refreshes.")] = 1.0,
    json: AsJson = False,
) -> None:
    """Show lag, lanes, queue depth, snapshot progress, retries and dead letters. Exit 1 when a part does not answer."""
    loaded = load_config(config)
    if watch and not json:
        _watch(loaded, interval)
        return
    while True:
        found = collect(loaded)
        if json:
            say_json(asdict(found) | {"jobs": found.jobs})
        else:
            console().print(render(found), soft_wrap=False)
        if not watch:
            raise typer.Exit(1 if found.unreachable else 0)
        time.sleep(interval)


def _watch(config: Config, interval: float) -> None:
    try:
        with Live(render(collect(config)), console=console(), auto_refresh=False, screen=False) as live:
            while True:
                time.sleep(interval)
                live.update(render(collect(config)), refresh=True)
    except KeyboardInterrupt:
        return


def collect(config: Config) -> Status:
    """Ask every part; never raises for one that is away."""
    found = Status(config.name, captures=config.source.named)
    for part, ask in (("state", _ask_state), ("job server", _ask_queue), ("metrics", _ask_metrics)):
        try:
            ask(config, found)
        except SyncbridgeError as error:
            found.unreachable[part] = str(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            found.unreachable[part] = str(error) or type(error).__name__
    return found


def _ask_state(config: Config, found: Status) -> None:
    state = open_state(config)
    try:
        checkpoint = state.checkpoints.load()
        if checkpoint is not None:
            found.checkpoint = asdict(checkpoint)
        found.snapshots = [snapshot.describe(row) for row in state.snapshots.all()]
        found.requests = len(state.requests.pending())
        found.retries = state.retries.count()
        found.dead_letters = state.dead_letters.count()
    finally:
        state.close()


def _ask_queue(config: Config, found: Status) -> None:
    found.queue_id = text_command(own_targets(config), "queue id").removeprefix("OK ").strip()
    answer = text_command(own_targets(config), "status")
    found.lanes = parse_lanes(answer, config.name)
    found.functions = parse_functions(answer, config.functions)


def text_command(targets: Sequence[Target], command: str) -> str:
    """Send one text command to a job server; its answer: one line, or lines up to a lone '.'. Raises OSError."""
    answer = b""
    with _connect(targets) as connection:
        connection.sendall(command.encode() + b"\n")
        while not (answer.endswith(b".\n") if command == "status" else answer.endswith(b"\n")):
            received = connection.recv(65536)
            if not received or len(answer) > MAX_ANSWER:
                raise OSError(f"{targets[-1]} does not answer as a job server does")
            answer += received
    return answer.decode("utf-8", "replace")


def _connect(targets: Sequence[Target]) -> socket.socket:
    for target in targets[:-1]:
        with suppress(OSError):
            return target.connect(TIMEOUT)
    return targets[-1].connect(TIMEOUT)


def parse_lanes(answer: str, pipeline: str) -> list[Lane]:
    """The lanes of a pipeline out of a `status` answer, in lane order. Pure."""
    prefix = f"{LANE_PREFIX}{pipeline}."
    lanes = [
        Lane(one.name.removeprefix(prefix), one.jobs, one.running, one.workers)
        for one in _lines(answer)
        if one.name.startswith(prefix)
    ]
    return sorted(lanes, key=lambda lane: (lane.name.endswith(ISOLATED_SUFFIX), len(lane.name), lane.name))


def parse_functions(answer: str, functions: Sequence[str]) -> list[Lane]:
    """The mapped functions out of a `status` answer; one that nobody has named yet has no jobs and no workers. Pure."""
    known = {one.name: one for one in _lines(answer)}
    return [known.get(name, Lane(name, 0, 0, 0)) for name in functions]


def _lines(answer: str) -> Iterator[Lane]:
    for line in answer.splitlines():
        parts = line.split("\t")
        if len(parts) == 4:
            yield Lane(parts[0], int(parts[1]), int(parts[2]), int(parts[3]))


def _ask_metrics(config: Config, found: Status) -> None:
    if config.http.listen is None:
        return
    address = config.http.listen.reachable
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read(MAX_ANSWER).decode()
    finally:
        connection.close()
    if answer.status != 200:
        raise OSError(f"{config.http.listen} answers /metrics with {answer.status}")
    take_metrics(text, found)


def take_metrics(text: str, found: Status) -> None:
    """Fill in what the metrics say. Pure. Raises ValueError for text that is not metrics."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {sample.name: sample.value for sample in samples}
    found.lag = values.get("syncbridge_lag_seconds")
    found.lag_bytes = values.get("syncbridge_lag_bytes")
    found.retention_headroom = values.get("syncbridge_binlog_retention_headroom_seconds")
    found.stages = {
        sample.labels["stage"]: bool(sample.value) for sample in samples if sample.name == "syncbridge_stage_up"
    }


def render(found: Status) -> Group:
    """The same for people."""
    facts = Table.grid(padding=(0, 2))
    for label, value in _facts(found):
        facts.add_row(label, value)
    parts: list[Any] = [facts]
    busy = [lane for lane in found.lanes or [] if lane.jobs or not lane.workers]
    if busy:
        parts += ["", _table(("lane", "jobs", "running", "workers"), (asdict(lane).values() for lane in busy))]
    if found.functions:
        lines = (asdict(function).values() for function in found.functions)
        parts += ["", _table(("function", "jobs", "running", "workers"), lines)]
    if found.snapshots:
        rows = (
            (row["table"], row["status"], row["rows_done"], row["rows_estimate"], row["reason"])
            for row in found.snapshots
        )
        parts += ["", _table(("table", "snapshot", "rows", "of about", "reason"), rows)]
    for part, reason in found.unreachable.items():
        parts.append(Text(f"{part} not reachable: {reason}", style="bold red"))
    return Group(*parts)


def _facts(found: Status) -> Iterable[tuple[str, str]]:
    yield "pipeline", found.name
    if found.stages:
        down = [name for name, up in found.stages.items() if not up]
        yield "stages", f"not running: {', '.join(down)}" if down else f"{len(found.stages)} running"
    if found.captures and "metrics" not in found.unreachable:
        yield "lag", "unknown: no heartbeat has come through" if found.lag is None else f"{found.lag:.3f} s"
    if found.lag_bytes is not None:
        yield "unread binlog", f"{found.lag_bytes:,.0f} bytes"
    if found.retention_headroom is not None:
        yield "purged in", f"{found.retention_headroom / 3600:.1f} h, what is unread"
    if (at := found.checkpoint) is not None:
        yield "checkpoint", f"{at['file']}:{at['pos']} (epoch {at['epoch']}, saved {moment(at['updated_at'])})"
    elif found.captures and "state" not in found.unreachable:
        yield "checkpoint", "none yet: capture has not run"
    if found.lanes is not None:
        workers = max((lane.workers for lane in found.lanes), default=0)
        yield "queue", f"{found.jobs} jobs in {len(found.lanes)} lanes, {workers} workers"
    for label, value in (
        ("requests", found.requests),
        ("retries", found.retries),
        ("dead letters", found.dead_letters),
    ):
        if value is not None:
            yield label, str(value)


def _table(headings: Iterable[str], rows: Iterable[Iterable[Any]]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
    return table
