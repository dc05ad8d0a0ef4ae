"""When a paused engine is probed: pure arithmetic on how long it has been paused and why."""

from __future__ import annotations

from tnfd.errors import Fault

STREAK = 3  # failures in a row, over all files, that mean the server is down (facts/openai-api)

_DOWN = (15.0, 300.0, 600.0)  # seconds between probes at first, at last, and how long "at first" lasts
_OWNER = (300.0, 1800.0)  # key, quota, model: somebody has to act


def next_probe_s(code: str, paused_for_s: float, probes: int) -> float:
    """Seconds until the next probe of an engine paused with ``code``, after ``probes`` failed ones."""
    if code == "engine.down":
        first, last, patience = _DOWN
        if paused_for_s < patience:
            return first
        return float(min(last, first * 2 ** min(10, 1 + int((paused_for_s - patience) / patience))))
    first, last = _OWNER
    return float(min(last, first * 2 ** min(10, probes)))


def is_charged(fault: Fault, estimate_usd: float) -> bool:
    """Whether a failure counts against the file even while the engine is down.

    A file that always times out would else be paid again at each probe, without end.
    """
    return fault.maybe_paid and estimate_usd > 0
