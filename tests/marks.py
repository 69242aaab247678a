"""Marks that several test files share."""

from __future__ import annotations

import pytest

#: For what happens behind the source, where it makes no difference which one it is.
on_mariadb = pytest.mark.parametrize("source", ["mariadb"], indirect=True)
