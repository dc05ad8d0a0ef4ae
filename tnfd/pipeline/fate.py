"""From an error to what happens to the job: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tnfd.errors import LOST, Fate, Fault
from tnfd.model import Waiting, WaitReason
from tnfd.ports.queue import Fail, LookAgain, Outcome, Retry, Vanished, Wait
from tnfd.rules.backoff import full_jitter_s

_LOOK_AGAIN_S = 30.0  # how often a full disk or a lost share is tried again
_THROTTLED_S = 10.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``max_attempts`` counted failures; waits from ``first_s`` up to ``longest_s`` with full jitter."""

    max_attempts: int
    first_s: float
    longest_s: float


def decide_outcome(
    fault: Fault, *, failures: int, policy: RetryPolicy, now: datetime, chance: float
) -> Outcome:
    """Say what becomes of a job that met ``fault`` after ``failures`` counted ones.

    ``chance`` is uniform in [0, 1) and spreads the retries.
    """
    if fault.fate in LOST:
        return Fail(fault.code, fault.message, fault.hint, fault.retryable)
    if fault.fate is Fate.SOURCE:
        if fault.code == "source.vanished":
            return Vanished()
        return LookAgain() if fault.code == "source.changed" else LookAgain(fault.message)
    if fault.fate is Fate.ENGINE:
        return Wait(Waiting(WaitReason.ENGINE_PAUSED, None, fault.code))
    if fault.fate is Fate.THROTTLE:
        until = now + timedelta(seconds=fault.retry_after_s or _THROTTLED_S)
        return Wait(Waiting(WaitReason.RATE_LIMIT, until, fault.message))
    if fault.fate is Fate.WAIT:
        reason = WaitReason.INBOX_LOST if fault.code == "inbox.lost" else WaitReason.DISK
        return Wait(Waiting(reason, now + timedelta(seconds=_LOOK_AGAIN_S), fault.message))
    if failures + 1 >= policy.max_attempts:
        return Fail(fault.code, fault.message, fault.hint, retryable=True, counted=True)
    after_s = full_jitter_s(failures + 1, policy.first_s, policy.longest_s, chance)
    return Retry(max(after_s, fault.retry_after_s or 0.0), fault.code, fault.message, fault.hint)
