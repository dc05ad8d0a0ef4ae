"""How long to wait before trying again: exponential with full jitter (AWS architecture blog, 2015)."""

from __future__ import annotations


def full_jitter_s(failures: int, first_s: float, longest_s: float, chance: float) -> float:
    """Seconds to wait after the n-th failure (from 1); ``chance`` is uniform in [0, 1).

    Never less than a tenth of the ceiling, so that "again" is never "at once".
    """
    ceiling = min(longest_s, first_s * 2.0 ** min(60, max(0, failures - 1)))
    return max(ceiling / 10, ceiling * chance)
