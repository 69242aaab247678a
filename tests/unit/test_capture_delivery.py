"""Delivery: how it waits for the queue. Pure but for the clock."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from syncbridge.capture.delivery import Delivery
from syncbridge.capture.stopping import StopFlag
from syncbridge.config import parse_config

CONFIG = """
source: {url: "mysql://u@h:1"}
sink: {url: "redis://h"}
mappings: [{table: shop.t, key: "k:{id}"}]
"""


def test_a_queue_with_nothing_to_say_is_not_asked_without_a_pause() -> None:
    """Its poll() returns at once; the workers that are to empty the lanes need the processor."""
    began, looks = time.monotonic(), 0

    def pending() -> int:
        nonlocal looks
        looks += 1
        return int(time.monotonic() < began + 0.3)

    nothing: Any = SimpleNamespace()
    queue: Any = SimpleNamespace(backlog=0, pending=pending)
    Delivery(parse_config(CONFIG), nothing, queue, StopFlag()).wait_until_empty(lambda timeout: None)
    print(f"looked {looks} times in {time.monotonic() - began:.2f} s")
    assert 5 < looks < 40
