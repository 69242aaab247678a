"""What a greeting of Redis decides: nothing, go back to the marks, or read everything again (DESIGN P7)."""

from __future__ import annotations

import pytest

from syncbridge.errors import ConfigError
from syncbridge.sinks.marks import Greeting, decide

META = {"format": "1", "sink_id": "one", "server": "run:repl"}
MARKS = {"0": "a", "1": "b"}


def test_the_redis_we_filled_needs_nothing() -> None:
    assert decide("one", META, "run:repl", MARKS, 2) == Greeting()


def test_an_empty_redis_is_taken_at_the_first_start_and_filled_again_later() -> None:
    assert decide(None, {}, "run:repl", {}, 2) == Greeting(new_id=True)
    assert decide("one", {}, "run:repl", {}, 2) == Greeting(new_id=True, request="snapshot")


def test_another_redis_is_filled_from_the_start() -> None:
    assert decide("other", META, "run:repl", MARKS, 2) == Greeting(request="snapshot")


def test_a_restarted_redis_says_how_far_it_is() -> None:
    assert decide("one", META, "other:repl", MARKS, 2) == Greeting(request="rewind", version="a")


def test_a_lane_without_a_mark_leaves_only_the_snapshot() -> None:
    assert decide("one", META, "other:repl", {"0": "a"}, 2) == Greeting(request="snapshot")


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="format 2"):
        decide("one", META | {"format": "2"}, "run:repl", MARKS, 2)
