"""docs/performance.md: figures survive their file, ratios are judged, the template has a place for every benchmark."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.tools.figures import Bound, Figures, Table, spread
from benchmarks.tools.plot import bars
from benchmarks.tools.profile import summary

RATIO = Bound("decode", 9.5, 8, 12, "x", least=True)
LATENCY = Bound("latency, p50", 12.0, 10, 4, " ms", least=False)
SPEEDS = Table("rows/s", {"ours": {"a": [1000, 3000, 2000], "b": [5]}, "peer <1>": {"a": [500]}}, plot=True)


def figures() -> Figures:
    found = Figures("python benchmarks/decode.py", "2 x processor", "2026-01-01", 0.5, 61)
    found.tables.append(SPEEDS)
    found.bounds += [RATIO, LATENCY]
    found.missing["zongji"] = "there is no npm"
    return found


@pytest.mark.parametrize(
    ("values", "shown"),
    [([1234.0], "1.23k"), ([1000, 3000, 2000], "2.00k [1.00-3.00]"), ([0.5, 0.25], "0.38 [0.25-0.50]"), ([], "-")],
)
def test_a_spread_is_the_median_with_the_range(values: list[float], shown: str) -> None:
    assert spread(values) == shown


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "decode.json"
    path.write_text(json.dumps(asdict(figures())))
    assert Figures.load(path) == figures()


def test_what_has_to_stay_small_is_judged_from_the_other_side() -> None:
    assert report.verdict(RATIO) == "between floor and aim"
    assert report.verdict(LATENCY) == "**under its floor**"
    LATENCY_MET = Bound("latency, p50", 3.0, 10, 4, " ms", least=False)
    assert report.verdict(LATENCY_MET) == "aim reached"


def test_bars_are_as_long_as_their_medians() -> None:
    picture = ElementTree.fromstring(bars(SPEEDS))
    rects = [rect for rect in picture.iter("{http://www.w3.org/2000/svg}rect") if rect.get("x")]
    lengths = [float(rect.get("width", 0)) for rect in rects]
    assert lengths[0] / lengths[1] == pytest.approx(4, rel=0.01)
    assert len(lengths) == 3


def test_the_page_has_every_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path / "performance")
    monkeypatch.setattr(report, "PAGE", tmp_path / "performance.md")
    report.FOLDER.mkdir()
    places = re.findall(r"^\{\{(\w+)\}\}$", report.TEMPLATE.read_text(), flags=re.MULTILINE)
    assert sorted(places) == sorted([*report.STEPS, *report.LONG, "machine", "floors", "commands"])
    text = report.page({"decode": figures()})
    assert "| decode | 9.50x | 8x | 12x | between floor and aim |" in text
    assert "**Not measured: zongji.** there is no npm" in text
    assert "| ours | 2.00k [1.00-3.00] | 5.00 |" in text
    assert (report.FOLDER / "decode-1.svg").exists()
    assert text.count("Not measured.\n") == len(report.STEPS) + len(report.LONG) - 1


def test_a_profile_counts_a_function_once_in_a_stack_and_its_own_time_apart() -> None:
    found = summary("process 1:x;main (a.py);work (a.py);work (a.py) 3\nmain (a.py) 1\n")
    assert found["work (a.py)"] == {"its own, %": [75.0], "with what it calls, %": [75.0]}
    assert found["main (a.py)"] == {"its own, %": [25.0], "with what it calls, %": [100.0]}
