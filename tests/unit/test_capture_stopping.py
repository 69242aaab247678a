"""A stop asked for in a signal handler is heard, whatever the main thread was doing."""

from __future__ import annotations

import signal
import threading
import time

from syncbridge.capture.stopping import StopFlag


def test_signals_at_any_moment_of_a_wait_never_block() -> None:
    heard = 0
    flag = StopFlag()

    def on_alarm(*_: object) -> None:
        nonlocal heard
        heard += 1
        if heard >= 3000:
            flag.set()

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        deadline = time.monotonic() + 60
        while not flag.wait(0.001) and time.monotonic() < deadline:
            pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert flag.is_set()
    print(f"{heard} signals")


def test_it_waits_as_long_as_it_is_told_and_no_longer_once_set() -> None:
    flag = StopFlag()
    started = time.monotonic()
    assert not flag.wait(0.1)
    assert time.monotonic() - started >= 0.1
    threading.Timer(0.1, flag.set).start()
    assert flag.wait(60)
    assert time.monotonic() - started < 30
