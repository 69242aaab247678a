"""Policies: what a function's jobs may cost, and what becomes of one that failed. Values in, values out.

Lanes have a policy of their own; whatever a pattern says, they keep their rules (lanes.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from math import inf

from syncbridge.dispatch.lanes import is_lane

#: Doublings of a backoff after which it is at its maximum anyway.
_MAX_DOUBLINGS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of one function. Times are seconds, 0: none, unless said otherwise."""

    #: A job leaves only on WORK_COMPLETE: fail, exception, time-out and a lost worker give it back, after the backoff.
    durable: bool = False
    #: Deliveries a job gets at most; then it is a dead letter. 0: no limit.
    attempts: int = 0
    #: Before the second delivery of a job that failed; doubled for each further one, up to `max_backoff`.
    backoff: float = 1.0
    max_backoff: float = 600.0
    #: A background job that failed or timed out is tried again, while `attempts` allow.
    retry_failures: bool = False
    #: Time a worker has for a job; CAN_DO_TIMEOUT says it per worker. Lanes: without any answer from their worker.
    timeout: float = 0.0
    #: Jobs running at the same time. 0: no limit.
    running: int = 0
    #: Jobs started per second. 0: no limit.
    rate: float = 0.0
    #: How long the result of a background job can be read.
    keep_result: float = 0.0
    #: How long a dead letter is kept; 0: it is deleted instead.
    keep_dead: float = 7 * 86400.0
    #: Jobs of the function beyond which a submit of this priority (high, normal, low) is refused. 0: no limit.
    max_queued: tuple[int, int, int] = (0, 0, 0)


#: Lanes: the rules of lanes.py say the rest. Only a row that is no use becomes a dead letter; it stays for a human.
LANE = Policy(durable=True, keep_dead=inf)


@dataclass(frozen=True, slots=True)
class Policies:
    """Which policy a function has: that of the first pattern (fnmatch, case counts) it matches, else the default."""

    default: Policy = field(default_factory=Policy)
    by_pattern: Sequence[tuple[str, Policy]] = ()
    lane: Policy = LANE

    def of(self, function: bytes) -> Policy:
        if is_lane(function):
            return self.lane
        name = function.decode(errors="surrogateescape")
        return next((policy for pattern, policy in self.by_pattern if fnmatchcase(name, pattern)), self.default)


class Ending(Enum):
    """How a delivery ended that did not complete its job; the value is what a dead letter's note says."""

    FAILED = "its worker reported a failure"
    EXCEPTION = "its worker reported an exception"
    TIMED_OUT = "its worker took too long"
    LOST = "its worker went away"


def next_delivery(policy: Policy, ending: Ending, deliveries: int, *, background: bool) -> float | None:
    """Seconds until a job is handed out again, `deliveries` of which ended badly; None: that was the last one."""
    if policy.attempts and deliveries >= policy.attempts:
        return None
    if not policy.durable:
        if ending is Ending.LOST:
            return 0.0
        if not background or not policy.retry_failures:
            return None
    return min(policy.max_backoff, policy.backoff * 2.0 ** min(deliveries - 1, _MAX_DOUBLINGS))
