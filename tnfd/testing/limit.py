"""A rate limit as servers keep one: a bucket of tokens that refills all the time, told in its headers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class RateLimit:
    """``per_minute`` requests; the bucket holds ``burst`` (0: a minute's worth), at first ``tokens``.

    ``tokens`` None: full. ``counts_refused``: a refused request takes a token as well, and runs into debt, at
    most so deep as the bucket. Moments are seconds of one clock.
    """

    per_minute: float
    burst: float = 0.0
    tokens: float | None = None
    counts_refused: bool = False
    granted: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)
    _at: float | None = field(default=None, init=False)

    @property
    def size(self) -> float:
        """How many tokens the bucket holds."""
        return self.burst or self.per_minute

    def ask(self, now: float) -> tuple[bool, dict[str, str]]:
        """Let one request in, or not; and the headers of its answer."""
        tokens = self._refilled(now)
        admitted = tokens >= 1
        if admitted:
            tokens -= 1
            self.granted += 1
        else:
            self.refused += 1
            if self.counts_refused:
                tokens = max(-self.size, tokens - 1)
        self.tokens = tokens
        interval_s = 60 / self.per_minute
        headers = {
            "x-ratelimit-limit-requests": f"{self.per_minute:g}",
            "x-ratelimit-remaining-requests": str(max(0, math.floor(tokens))),
            "x-ratelimit-reset-requests": go_duration((self.size - tokens) * interval_s),
        }
        if not admitted:
            wait_s = (1 - tokens) * interval_s
            headers |= {
                "retry-after": str(math.ceil(wait_s)),
                "retry-after-ms": str(math.ceil(wait_s * 1000)),
            }
        return admitted, headers

    def _refilled(self, now: float) -> float:
        tokens = self.size if self.tokens is None else self.tokens
        since_s = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        return min(self.size, tokens + since_s * self.per_minute / 60)

    def start(self, now: float) -> None:
        """Begin to refill at this moment."""
        self._refilled(now)


def go_duration(seconds: float) -> str:
    """A duration as Go writes it: ``1m2.5s``, ``20ms``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest_s = divmod(round(seconds, 3), 60)
    return (f"{int(minutes)}m" if minutes else "") + f"{rest_s:.3f}".rstrip("0").rstrip(".") + "s"
