"""Sessions, one after another: what ends one, and how long to wait before the next."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from syncbridge.capture.delivery import Stopped
from syncbridge.capture.stopping import StopFlag
from syncbridge.errors import PositionLost, TransientError

log = logging.getLogger(__name__)

#: Pause after a failure, seconds: doubled with each one in a row, up to the maximum.
_PAUSE, _MAX_PAUSE = 0.5, 15.0
#: A session that lasted this long had nothing wrong with it.
_SOUND = 30.0


def run_sessions(stop: StopFlag, session: Callable[[], None], lost: Callable[[PositionLost], None]) -> None:
    """Run `session()` until stopped, again and again: with backoff and jitter while the source or the queue is away.

    `lost`: the source refuses our place; it makes the next session start otherwise, or raises.
    """
    pause = _PAUSE
    while not stop.is_set():
        began = time.monotonic()
        try:
            session()
        except Stopped:
            return
        except PositionLost as error:
            lost(error)
        except TransientError as error:
            pause = _PAUSE if time.monotonic() - began > _SOUND else min(2 * pause, _MAX_PAUSE)
            log.warning("%s (%s)", error, error.hint or "trying again")
            stop.wait(pause * (0.5 + random.random()))  # noqa: S311 - jitter
