"""Versions sort as text the way their parts sort as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge.version import WIDTH, ZERO, Version, parse, transaction_prefix

u32 = st.integers(0, 2**32 - 1)
versions = st.builds(Version, u32, u32, st.integers(0, 2**64 - 1), u32)


@given(versions, versions)
def test_text_order_is_the_order_of_the_parts(one: Version, other: Version) -> None:
    assert (str(one) < str(other)) == (one < other)


@given(versions)
def test_a_version_survives_its_text(version: Version) -> None:
    text = str(version)
    assert len(text) == WIDTH
    assert parse(text) == version
    assert text == transaction_prefix(version.epoch, version.file, version.pos) + f"{version.row:08x}"
    assert text >= ZERO


@pytest.mark.parametrize("text", ["", "0" * 39, "0" * 41, "G" * 40, "A" * 40, "-" + "0" * 39, " " + "0" * 39])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a version"):
        parse(text)
