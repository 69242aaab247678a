"""A process of ours ends with the one that started it, even when that one is killed: it would hold what the next needs.

(Foreign programs cannot call this: demo/process.py starts them through setpriv, to the same effect.)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable


def end_with_parent(
    parent: int, number: signal.Signals = signal.SIGTERM, *, on_end: Callable[[], None] | None = None
) -> None:
    """Send this process the signal `number` when process `parent`, which started it, is gone."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, number)

    def watch() -> None:  # elsewhere than on Linux, and for a parent that was gone before the call above
        while os.getppid() == parent:
            time.sleep(0.5)
        (on_end or (lambda: os.kill(os.getpid(), number)))()

    threading.Thread(target=watch, name="parent", daemon=True).start()
