"""Lag that cannot lie, and the supervisor's pauses."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from syncbridge.metrics import current_lag, with_lag
from syncbridge.stage import FIRST_PAUSE, LONGEST_PAUSE, TRUSTED_AFTER, describe_exit, next_pause


def test_lag_is_what_was_measured_while_heartbeats_come_through() -> None:
    assert current_lag(measured=0.02, proved_at=100.0, interval=1.0, now=101.0) == 0.02


def test_lag_grows_with_the_silence() -> None:
    assert current_lag(measured=0.02, proved_at=100.0, interval=1.0, now=160.0) == 58.0


def test_no_heartbeat_no_claim() -> None:
    source = CollectorRegistry()
    Gauge("syncbridge_heartbeat_lag_seconds", "x", registry=source).set(0.0)
    assert [family.name for family in with_lag(source).collect()] == ["syncbridge_heartbeat_lag_seconds"]


def test_a_crashing_stage_is_started_less_and_less_often() -> None:
    pause = FIRST_PAUSE
    for _ in range(20):
        pause = next_pause(pause, lived=0.1)
    assert pause == LONGEST_PAUSE
    assert next_pause(pause, lived=TRUSTED_AFTER) == FIRST_PAUSE


def test_exits_are_described() -> None:
    assert describe_exit(1) == "exit code 1"
    assert describe_exit(-9) == "signal SIGKILL"
