"""Commands in this process, on a state database in a folder: what they print, change and answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from syncbridge import __version__
from syncbridge.commands import app as application
from syncbridge.commands import status
from syncbridge.commands.output import printable
from syncbridge.commands.status import Lane, Status, parse_lanes, take_metrics
from syncbridge.errors import TransientError
from syncbridge.state import FailedRow, State


class CommandLine:
    """`syncbridge` on one sync.yaml."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "sync.yaml"
        self.config.write_text(
            f"""
name: shop
source: {{url: "mysql://u:s3cret@127.0.0.1:1"}}
sink: {{url: "redis://127.0.0.1:1"}}
queue: {{listen: "127.0.0.1:1", store: "sqlite:///{folder}/queue.db"}}
http: {{listen: off}}
state: sqlite:///{folder}/state.db
mappings: [{{table: shop.orders}}, {{table: shop.items}}]
"""
        )
        self.state = State.open(f"sqlite:///{folder}/state.db", "shop")

    def run(self, *arguments: object) -> Result:
        application.register()
        return CliRunner().invoke(application.app, [str(a) for a in arguments], prog_name="syncbridge")

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """Standard output of a command on this sync.yaml."""
        done = self.run(*arguments, "--config", self.config)
        assert done.exit_code == code, done.output
        return done.stdout

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    made = CommandLine(tmp_path)
    yield made
    made.state.close()


def bury(line: CommandLine, *keys: int, table: str = "orders", payload: bytes = b'{"op":"u"}') -> list[int]:
    """Dead letters with these keys; their ids."""
    for key in keys:
        row = FailedRow(
            db="shop", table=table, mapping="00c0ffee", key={"id": key}, version=f"{key:040x}", payload=payload,
            error_class="WRONGTYPE", message="[red]not markup[/red]",
        )  # fmt: skip
        line.state.retries.add(row)
        (added,) = line.state.retries.list()
        line.state.retries.bury(added.id, error_class="WRONGTYPE", message=row.message)
    return [row.id for row in line.state.dead_letters.list(table=f"shop.{table}")]


# The application


def test_version_help_and_usage_errors(line: CommandLine) -> None:
    assert line.run("--version").stdout == f"syncbridge {__version__}\n"
    shown = line.run("--help").stdout
    for command in (
        "init", "check", "run", "capture", "server", "worker", "snapshot", "verify", "status", "dead-letter", "explain",
    ):  # fmt: skip
        assert command in shown
    assert line.run("bogus").exit_code == 2
    assert line.run("status", "--bogus").exit_code == 2
    assert line.run("dead-letter", "show", "seven").exit_code == 2


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (TransientError("Redis is away", hint="start it"), 1, "syncbridge: Redis is away\nhint: start it\n"),
        (ZeroDivisionError("s3cret"), 1, "syncbridge: unexpected ZeroDivisionError\nhint: this is a bug"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_a_sentence_and_a_hint(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, sentence: str
) -> None:
    def fail(_: object) -> None:
        raise raised

    monkeypatch.setattr(status, "collect", fail)
    done = line.run("status", "--config", line.config)
    assert done.exit_code == code
    assert done.stderr.startswith(sentence)
    assert "s3cret" not in done.output
    assert "Traceback" not in done.output


# dead-letter


def test_dead_letters_are_listed_and_shown(line: CommandLine) -> None:
    assert "no dead letters" in line("dead-letter", "list")
    first, second = bury(line, 1, 2)
    bury(line, 3, table="items", payload=b"\xff no json")
    text = line("dead-letter", "list")
    assert "shop.orders" in text
    assert "[red]not markup[/red]" in text
    listed = line.json("dead-letter", "list", "--table", "shop.orders")
    assert listed["total"] == 3
    assert [row["id"] for row in listed["rows"]] == [first, second]
    assert line.json("dead-letter", "list", "--limit", 1)["rows"][0]["key"] == {"id": 1}
    shown = line.json("dead-letter", "show", first)
    assert shown["payload"] == {"op": "u"}
    assert shown["attempts"] == 2
    assert "WRONGTYPE" in line("dead-letter", "show", first)
    (broken,) = line.json("dead-letter", "list", "--table", "shop.items")["rows"]
    assert broken["payload"] == "\\xff no json"
    line("dead-letter", "show", 999, code=2)


def test_dead_letters_are_retried_by_id_by_table_and_all(line: CommandLine) -> None:
    first, *_ = bury(line, 1, 2, 3)
    bury(line, 4, table="items")
    assert "1 dead letter moved to the retry table, 3 left" in line("dead-letter", "retry", first)
    (row,) = line.state.retries.list()
    assert (row.stale, row.attempts, row.next_attempt_at) == (True, 0, 0.0)
    assert line.json("dead-letter", "retry", "--all", "--table", "shop.items") == {"done": 1, "left": 2}
    assert line.json("dead-letter", "retry", "--all") == {"done": 2, "left": 0}
    assert line.state.retries.count() == 4


def test_dead_letters_are_discarded(line: CommandLine) -> None:
    first, second = bury(line, 1, 2)
    assert line.json("dead-letter", "discard", first) == {"done": 1, "left": 1}
    assert line.json("dead-letter", "discard", first, second, code=2) == {"done": 1, "left": 0}  # the first is gone
    assert line.state.retries.count() == 0


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_what_to_work_on_must_be_said(line: CommandLine, verb: str) -> None:
    (only,) = bury(line, 1)
    line("dead-letter", verb, code=2)
    line("dead-letter", verb, only, "--all", code=2)
    line("dead-letter", verb, "--all", "--table", "orders", code=2)
    line("dead-letter", verb, only, "--table", "shop.orders", code=2)
    assert line.state.dead_letters.count() == 1


def test_dead_letters_are_exported_as_json_lines(line: CommandLine, tmp_path: Path) -> None:
    ids = bury(line, *range(1, 8))
    exported = [json.loads(text) for text in line("dead-letter", "export").splitlines()]
    assert [row["id"] for row in exported] == ids
    assert exported[0]["payload"] == {"op": "u"}
    line("dead-letter", "export", ids[0], "--output", tmp_path / "out.jsonl")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
    assert line.state.dead_letters.count() == 7  # exporting changes nothing


# snapshot


def test_a_snapshot_is_requested_once(line: CommandLine) -> None:
    assert "every mapped table" in line("snapshot")
    line("snapshot")
    assert line.json("snapshot", "--table", "shop.items") == {"requested": "shop.items"}
    line("snapshot", "--table", "shop.other", code=2)
    asked = [(request.kind, request.db, request.table) for request in line.state.requests.pending()]
    assert asked == [("snapshot", "", ""), ("snapshot", "shop", "items")]


def test_waiting_for_a_capture_that_does_not_run_ends(line: CommandLine) -> None:
    done = line.run("snapshot", "--wait", "--timeout", "0.1", "--config", line.config)
    assert done.exit_code == 1
    assert "syncbridge status" in done.stderr


# output


def test_control_characters_of_a_row_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07\tü\n𝄞\udcff") == "a\\x1b[31mb\\x07\\tü\n𝄞\\udcff"


# status


def test_status_says_what_does_not_answer_and_shows_the_rest(line: CommandLine) -> None:
    bury(line, 1)
    found = line.json("status", code=1)
    assert list(found["unreachable"]) == ["job server"]
    assert (found["dead_letters"], found["retries"], found["requests"]) == (1, 0, 0)
    text = line("status", code=1)
    assert "job server not reachable" in text
    assert "none yet: capture has not run" in text


def test_lanes_of_other_pipelines_and_functions_are_not_ours() -> None:
    answer = (
        "syncbridge.shop.10\t5\t1\t2\nsyncbridge.shop.2\t0\t0\t2\nsyncbridge.shopping.1\t9\t9\t9\n"
        "syncbridge.shop.2.isolated\t1\t0\t2\nresize\t3\t0\t1\n.\n"
    )
    assert parse_lanes(answer, "shop") == [Lane("2", 0, 0, 2), Lane("10", 5, 1, 2), Lane("2.isolated", 1, 0, 2)]
    assert parse_lanes(".\n", "shop") == []


def test_lag_comes_from_the_metrics() -> None:
    found = Status("shop")
    take_metrics(
        "# TYPE syncbridge_lag_seconds gauge\nsyncbridge_lag_seconds 0.25\n"
        "# TYPE syncbridge_lag_bytes gauge\nsyncbridge_lag_bytes 17.0\n"
        '# TYPE syncbridge_stage_up gauge\nsyncbridge_stage_up{stage="capture"} 1.0\n'
        'syncbridge_stage_up{stage="worker-1"} 0.0\n',
        found,
    )
    assert (found.lag, found.lag_bytes, found.stages) == (0.25, 17.0, {"capture": True, "worker-1": False})
    take_metrics("", found)
    assert found.lag is None
    with pytest.raises(ValueError):
        take_metrics("<html>", found)
