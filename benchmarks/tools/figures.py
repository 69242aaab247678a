"""How benchmarks print what they measured: medians with the range, and whether a floor is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """`12.3k [11.9-12.8]`: the median and the range, in thousands where the median is large."""
    middle = median(values)
    scale, unit = (1e3, "k") if middle >= 1000 else (1.0, "")
    digits = 0 if middle / scale >= 100 else 1 if middle / scale >= 10 else 2
    shown = [f"{value / scale:.{digits}f}" for value in (middle, min(values), max(values))]
    return f"{shown[0]}{unit} [{shown[1]}-{shown[2]}]"


def floor(what: str, found: float, least: float) -> bool:
    """Print a ratio and whether it reaches its floor."""
    met = found >= least
    print(f"  {'pass' if met else 'FAIL'}  {what}: {found:{'.2f' if found < 1 else '.1f'}}x (floor {least:g}x)")
    return met
