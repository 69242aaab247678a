"""Waiting in tests: a machine that is slow is no reason to give up early."""

from __future__ import annotations

import time

import pytest

from tests.servers import eventually


def test_a_look_that_outlasts_the_wait_is_followed_by_another() -> None:
    looks = iter([False, True])

    def slow() -> bool:
        time.sleep(0.1)
        return next(looks)

    assert eventually(slow, timeout=0.01)


def test_what_never_comes_true_is_given_up_with_its_last_words() -> None:
    with pytest.raises(AssertionError, match="never"):
        eventually(lambda: False, timeout=0.01, message=lambda: "never")
