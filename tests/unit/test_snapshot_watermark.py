"""Placing chunks without rows of ours: what is pure of it."""

from __future__ import annotations

from syncbridge.capture.snapshot.watermark import Place, owned_gtids

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "3e11fa47-71ca-11e1-9e33-c80aa9429563"


def test_owned_gtids_are_named_one_by_one() -> None:
    assert owned_gtids("") == frozenset()
    text = f"{UUID}:5#12:6#13,\n{OTHER}:5#14"
    assert owned_gtids(text) == {f"{UUID}:5#12", f"{UUID}:6#13", f"{OTHER}:5#14"}


def test_places_are_ordered_by_file_number_and_position() -> None:
    assert Place("bin.000009", 900).order < Place("bin.000010", 4).order < Place("bin.000010", 1 << 33).order
    assert Place("bin.1000000", 4).order > Place("bin.999999", 4).order
