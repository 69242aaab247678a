"""clients/README.md says of every library which features are tested, and nothing else."""

from __future__ import annotations

import importlib

from tests.interop import features
from tests.interop.features import Interop
from tests.interop.peers import PROGRAMS

MODULES = (
    "gearman_tools",
    "php",
    "perl",
    "python3_gearman",
    "pygearman",
    "aiogear",
    "gearmanode",
    "node_gearman",
    "abraxas",
)


def library_tests(module: str) -> type[Interop]:
    found = vars(importlib.import_module(f"tests.interop.test_{module}")).values()
    (tests,) = (value for value in found if isinstance(value, type) and value.__name__.startswith("Test"))
    return tests


def test_the_table_is_what_is_tested() -> None:
    lines = (PROGRAMS / "README.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| library |"))
    columns = [cell.strip() for cell in lines[start].strip("|").split("|")][1:]
    assert {*columns} == {name for name, value in vars(features).items() if _is_feature(value)}
    expected = []
    for tests in map(library_tests, MODULES):
        taken = {base.__name__ for base in tests.__mro__}
        cells = [tests.library.name, *("yes" if column in taken else "no" for column in columns)]
        expected.append(f"| {' | '.join(cells)} |")
    assert lines[start + 2 : start + 2 + len(MODULES)] == expected
    assert not lines[start + 2 + len(MODULES)]


def _is_feature(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Interop) and value is not Interop
