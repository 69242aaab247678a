"""All benchmarks, one after the other, and docs/performance.md from what they found.

    python benchmarks/report.py [--only NAME …] [--render]

The words of docs/performance.md are in performance.template.md beside this file; a run puts in the figures, which it
keeps in docs/performance/ with the plots. --only measures again what it names, and --render nothing; scale_long, which
takes an hour, is measured only when it is named. A script that fails, and a peer that is missing, become a line of
their own. Exit: 1 when a script failed or a figure is under its floor.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools import machine
from benchmarks.tools.figures import ROOT, Bound, Figures, Table, spread
from benchmarks.tools.plot import bars

#: Section -> the script and its options. All together take less than 20 minutes on two cores.
STEPS = {
    "decode": "decode.py --scale 0.7",
    "job_server": "job_server.py",
    "apply": "apply.py",
    "snapshot": "snapshot.py --rows 400000",
    "end_to_end": "end_to_end.py --rows 200000 --profile",
    "latency": "latency.py",
    "live": "live.py",
    "scale": "scale.py",
    "triggers": "triggers.py --runs 3 --only mariadb --seconds 0.5",
    "outbox_backlog": "outbox_backlog.py --backlogs 1000,1000000",
    "queue_backlog": "queue_backlog.py --jobs 1000000",
}
#: Sections that are measured only when they are named.
LONG = {"scale_long": "scale.py --long", "snapshot_long": "snapshot.py --long"}
#: Seconds that one script may take.
PATIENCE, LONG_PATIENCE = 600, 7200
TEMPLATE = ROOT / "benchmarks/performance.template.md"
PAGE = ROOT / "docs/performance.md"
FOLDER = ROOT / "docs/performance"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*STEPS, *LONG]
    parser.add_argument("--only", nargs="+", default=list(STEPS), choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--render", action="store_true", help="from the figures that are there")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    began = time.monotonic()
    for name in [] if options.render else options.only:
        print(f"\n== {name}, after {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
        measure(name)
    found = {name: Figures.load(path) for name in names if (path := FOLDER / f"{name}.json").exists()}
    PAGE.write_text(page(found))
    print(f"\n{PAGE.relative_to(ROOT)} is written, after {(time.monotonic() - began) / 60:.1f} minutes")
    failed = [name for name in STEPS if name not in found or name in found[name].missing]
    under = [b.what for name in STEPS if name in found for b in found[name].bounds if not b.reaches(b.floor)]
    for title, lines in (("failed", failed), ("under its floor", under)):
        for line in lines:
            print(f"{title}: {line}")
    return 1 if failed or under else 0


def measure(name: str) -> None:
    """Run one script; what it found, or why it failed, is in its file then."""
    path = FOLDER / f"{name}.json"
    path.unlink(missing_ok=True)
    patience = LONG_PATIENCE if name in LONG else PATIENCE
    command = shlex.split("benchmarks/" + (STEPS | LONG)[name])
    with tempfile.TemporaryFile("w+") as errors:
        try:
            code = subprocess.run(
                [sys.executable, *command, "--json", str(path)], cwd=ROOT, stderr=errors, timeout=patience, check=False
            ).returncode
            reason = f"it ended with {code}"
        except subprocess.TimeoutExpired:
            reason = f"it took more than {patience} s"
        errors.seek(0)
        said = errors.read().strip()
    if said:
        print(said, file=sys.stderr, flush=True)
    if not path.exists():
        failed = Figures(" ".join(["python", *command]), machine.describe(), time.strftime("%Y-%m-%d"))
        failed.missing[name] = f"{reason}: {said.splitlines()[-1]}" if said else reason
        path.write_text(json.dumps(asdict(failed), indent=1))


# The page


def page(found: dict[str, Figures]) -> str:
    """The template with {{machine}}, {{floors}}, {{commands}}, and {{NAME}} of each script replaced."""
    parts = {"machine": machines(found), "floors": floors(found), "commands": commands(found)}
    parts |= {name: section(name, found[name]) if name in found else "Not measured." for name in [*STEPS, *LONG]}
    return re.sub(r"^\{\{(\w+)\}\}$", lambda match: parts[match[1]], TEMPLATE.read_text(), flags=re.MULTILINE)


def machines(found: dict[str, Figures]) -> str:
    return "\n".join(f"- {line}" for line in sorted({f"{f.machine}; {f.date}" for f in found.values()}))


def floors(found: dict[str, Figures]) -> str:
    """What has an aim, over all scripts."""
    return bounds([bound for figures in found.values() for bound in figures.bounds if bound.aim is not None])


def commands(found: dict[str, Figures]) -> str:
    steps = [figures for name, figures in found.items() if name in STEPS]
    rows = [f"| `{f.command}` | {f.seconds:.0f} s | {f.load_average:.1f} |" for f in steps]
    total = sum(figures.seconds for figures in steps)
    return "\n".join(
        ["| command | took | load before |", "|---|--:|--:|", *rows, f"| together | {total / 60:.1f} min | |"]
    )


def section(name: str, figures: Figures) -> str:
    for picture in FOLDER.glob(f"{name}-*.svg"):
        picture.unlink()
    parts = [f"`{figures.command}`"]
    parts += ["\n".join(f"- {note}" for note in figures.notes)] if figures.notes else []
    parts += [f"**Not measured: {peer}.** {reason}" for peer, reason in figures.missing.items()]
    for number, table in enumerate(figures.tables, 1):
        if table.plot:
            picture = FOLDER / f"{name}-{number}.svg"
            picture.write_text(bars(table))
            parts.append(f"![{table.title}]({picture.relative_to(PAGE.parent)})")
        parts.append("\n".join(markdown(table)))
    if plain := [bound for bound in figures.bounds if bound.aim is None]:
        parts.append(bounds(plain))
    return "\n\n".join(parts)


def markdown(table: Table) -> Iterator[str]:
    columns = table.columns
    yield (
        f"| {table.title} | "
        + " | ".join(column or ("median [range]" if table.repeated else "") for column in columns)
        + " |"
    )
    yield "|---|" + "--:|" * len(columns)
    for name, cells in table.rows.items():
        yield f"| {name} | " + " | ".join(spread(cells.get(column, ())) for column in columns) + " |"


def bounds(found: list[Bound]) -> str:
    lines = ["| figure | measured | floor | aim | |", "|---|--:|--:|--:|---|"]
    for bound in found:
        aim = "" if bound.aim is None else bound.limit(bound.aim)
        lines.append(
            f"| {bound.what} | {bound.show(bound.found)} | {bound.limit(bound.floor)} | {aim} | {verdict(bound)} |"
        )
    return "\n".join(lines)


def verdict(bound: Bound) -> str:
    if not bound.reaches(bound.floor):
        return "**under its floor**"
    if bound.aim is None:
        return "good"
    return "aim reached" if bound.reaches(bound.aim) else "between floor and aim"


if __name__ == "__main__":
    sys.exit(main())
