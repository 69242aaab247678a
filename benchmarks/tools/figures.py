"""What a benchmark found: printed as it comes, medians with the range, and with `--json FILE` kept for report.py."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.tools import machine
from benchmarks.tools.missing import MissingPeer

ROOT = Path(__file__).resolve().parents[2]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """`12.3k [11.9-12.8]`: the median and the range, in thousands where the median is large; "-" of none."""
    if not values:
        return "-"
    middle = median(values)
    scale, unit = (1e6, "M") if middle >= 1e6 else (1e3, "k") if middle >= 1000 else (1.0, "")
    digits = 0 if middle / scale >= 100 else 1 if middle / scale >= 10 else 2
    shown = [f"{value / scale:.{digits}f}" for value in (middle, min(values), max(values))]
    return f"{shown[0]}{unit}" + (f" [{shown[1]}-{shown[2]}]" if len(values) > 1 else "")


@dataclass(slots=True)
class Table:
    """Row -> column -> a figure of each run. One that is plotted becomes bars in docs/performance.md."""

    title: str
    rows: dict[str, dict[str, list[float]]]
    plot: bool

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(column for cells in self.rows.values() for column in cells if cells[column]))

    @property
    def repeated(self) -> bool:
        """Whether there was more than one run."""
        return any(len(values) > 1 for cells in self.rows.values() for values in cells.values())


@dataclass(slots=True)
class Bound:
    """A figure that has to reach its floor, or stay under it where less is better (`least` False)."""

    what: str
    found: float
    floor: float
    aim: float | None
    unit: str
    least: bool

    def reaches(self, bound: float) -> bool:
        return self.found >= bound if self.least else self.found <= bound

    def show(self, value: float) -> str:
        return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{self.unit}"

    def limit(self, bound: float) -> str:
        return f"{'' if self.least else 'at most '}{bound:g}{self.unit}"


@dataclass(slots=True)
class Figures:
    """All that one script found."""

    command: str
    machine: str
    date: str
    load_average: float = 0.0
    seconds: float = 0.0
    tables: list[Table] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Self:
        data = json.loads(path.read_text())
        tables = [Table(**table) for table in data.pop("tables")]
        return cls(tables=tables, bounds=[Bound(**bound) for bound in data.pop("bounds")], **data)


def arguments(doc: str) -> argparse.ArgumentParser:
    """The parser of a script with this docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write what was found to this file")
    return parser


class Report:
    """Prints each finding at once; `finish` writes the file that was asked for and says how the process exits."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._file: Path | None = options.json
        self._began = time.time()
        self.figures = Figures(_command(), machine.describe(), time.strftime("%Y-%m-%d"), os.getloadavg()[0])
        print(f"{self.figures.machine}; load before the start: {self.figures.load_average:.1f}", flush=True)

    def has(self, peer: str, install: Callable[[], None]) -> bool:
        """Whether a peer can take part; why not is said once."""
        try:
            install()
        except MissingPeer as reason:
            self.missing(peer, str(reason))
            return False
        return True

    def missing(self, peer: str, reason: str) -> None:
        self.figures.missing[peer] = reason
        print(f"{peer} is not measured: {reason}", flush=True)

    def note(self, text: str) -> None:
        """A sentence on how the figures came about."""
        self.figures.notes.append(text)
        print(text)

    def table(
        self, title: str, rows: Mapping[str, Sequence[float] | Mapping[str, Sequence[float]]], *, plot: bool = False
    ) -> None:
        """Row -> its figures, or column -> its figures; one of each run."""
        cells = {name: row if isinstance(row, Mapping) else {"": row} for name, row in rows.items()}
        table = Table(title, {name: {c: list(v) for c, v in row.items()} for name, row in cells.items()}, plot)
        self.figures.tables.append(table)
        lines = [[f"{title}{', median [range]' if table.repeated else ''}", *table.columns]]
        lines += [[f"  {name}", *(spread(row.get(c, ())) for c in table.columns)] for name, row in table.rows.items()]
        widths = [max(map(len, column)) + 2 for column in zip(*lines, strict=True)]
        widths[0] -= 2
        print()
        for first, *others in lines:
            print(first.ljust(widths[0]) + "".join(map(str.rjust, others, widths[1:])))

    def floor(self, what: str, found: float, least: float, aim: float | None = None) -> None:
        """How many times as much as a peer, and at least how many times it has to be."""
        self._bound(Bound(what, found, least, aim, "x", least=True))

    def most(self, what: str, found: float, most: float, aim: float | None = None, unit: str = "") -> None:
        """A figure that has to stay small."""
        self._bound(Bound(what, found, most, aim, unit, least=False))

    def _bound(self, bound: Bound) -> None:
        self.figures.bounds.append(bound)
        verdict = "pass" if bound.reaches(bound.floor) else "FAIL"
        aim = "" if bound.aim is None else f", aim {bound.limit(bound.aim)}"
        print(f"  {verdict}  {bound.what}: {bound.show(bound.found)} (floor {bound.limit(bound.floor)}{aim})")

    def finish(self) -> int:
        """The exit code: 1 when something is on the wrong side of its floor."""
        self.figures.seconds = time.time() - self._began
        if self._file is not None:
            self._file.write_text(json.dumps(asdict(self.figures), indent=1))
        return 0 if all(bound.reaches(bound.floor) for bound in self.figures.bounds) else 1


def _command() -> str:
    """As one would type it at the top of the repository."""
    words = [str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *sys.argv[1:]]
    if "--json" in words:
        del words[words.index("--json") : words.index("--json") + 2]
    return shlex.join(["python", *words])
