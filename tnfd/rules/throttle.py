"""How fast and how many at once: a token bucket, what a server states of its own, the level of concurrency.

Pure arithmetic on records that the ledger keeps; time comes in as a number of seconds, the same clock always.
The bucket is kept as one moment (GCRA): when it would be full again. A request takes one token, which moves
that moment on by ``interval_s``; one may be sent while the bucket lacks at most ``burst - 1`` tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tnfd.rules.faults import go_duration_s

_TOLERANCE_S = 1e-6  # moments are floats of some 1.7e9 s
# A bucket that holds a single request forgives no jitter on the way: two that leave 1 s apart and arrive
# 0.99 s apart are one too many. So they leave a little further apart.
_SMALL_BURST = 2.0
_SPREAD = 1.02

_PERIODS_S = (60.0, 86_400.0, 3600.0)  # limits are stated for a minute; by some (Groq) for a day
_EXACT = 0.02  # of a token
_ROUNDED_S = 0.001  # durations are stated in milliseconds


@dataclass(frozen=True, slots=True)
class Bucket:
    """``burst`` tokens, one more every ``interval_s`` seconds; full at the moment ``full_at``."""

    interval_s: float
    burst: float = 1.0
    full_at: float = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until the next request may be sent; 0: now."""
        wait_s = self._full_at(now) - now - (max(self.burst, 1.0) - 1.0) * self._spaced_s
        return wait_s if wait_s > _TOLERANCE_S else 0.0

    def take(self, now: float) -> Bucket:
        """The bucket after a request was sent."""
        return replace(self, full_at=max(self._full_at(now), now) + self._spaced_s)

    @property
    def _spaced_s(self) -> float:
        return self.interval_s * (_SPREAD if self.burst < _SMALL_BURST else 1.0)

    def _full_at(self, now: float) -> float:
        """Further away than any debt could be: the clock was set back since, and the moment says nothing."""
        most_s = 2 * (max(self.burst, 1.0) + 1) * self._spaced_s + 60.0
        return self.full_at if self.full_at <= now + most_s else now


# Nothing is known of a server: a salvo into a small or empty bucket would only be refused. A refusal comes
# back within a tenth of a second or so. Two requests feel the way, and every tenth of a second twice as many
# may be on it: 20 after 0.33 s, which costs a full crowd next to nothing.
_FEELERS, _DOUBLES_S = 2, 0.1


def careful_wait_s(in_flight: int, first_at: float, now: float) -> float:
    """Seconds until one more may be sent to a server of which no answer is known yet; 0: now.

    ``first_at``: when the first of those in flight was sent.
    """
    if in_flight < _FEELERS:
        return 0.0
    after_s = _DOUBLES_S * math.log2((in_flight + 1) / _FEELERS)
    # Never longer than from the start: the clock may have been set back.
    wait_s = min(first_at + after_s - now, after_s)
    return wait_s if wait_s > _TOLERANCE_S else 0.0


def paced(requests_per_minute: float) -> Bucket:
    """The bucket of a rate that its owner has written down: evenly, never two at once."""
    return Bucket(60.0 / requests_per_minute)


# -- what a server states ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stated:
    """One answer's ``x-ratelimit-*-requests``: ``full_s`` seconds from ``at`` its bucket is full again.

    ``at`` is when the request was sent, or, where it was refused (``refused``), when the refusal came: it was
    counted somewhere between, and refusals come at once. ``interval_s`` 0: the answer states no limit.
    """

    at: float
    interval_s: float = 0.0
    burst: float = 1.0
    full_s: float = 0.0
    refused: bool = False


def stated_in(
    headers: Mapping[str, str], at: float, *, refused: bool = False, retry_s: float | None = None
) -> Stated:
    """Read the headers (lower-case names) of an answer; ``retry_s``: how long a refusal asks to wait.

    The limit is of a bucket that refills continuously (limit 50, remaining 47, reset 3.362 s: facts), for a
    minute or another period: whichever explains the three numbers. Where none does, the bucket is smaller
    than the limit, as servers that spread it over the minute have it. A refusal with tokens left is about
    something else.
    """
    limit = _number(headers.get("x-ratelimit-limit-requests"))
    reset_s = go_duration_s(headers.get("x-ratelimit-reset-requests", ""))
    remaining = _number(headers.get("x-ratelimit-remaining-requests"))
    if limit is None or limit <= 0:
        return Stated(at)
    if reset_s is None or remaining is None:
        # Only the limit: the even pace.
        return Stated(at, 60.0 / limit, 1.0, 60.0 / limit, refused)
    interval_s, burst = _explained(limit, remaining, reset_s)
    refused = refused and remaining < 1
    if refused and retry_s is not None:
        # The next token comes in retry_s, and the bucket is full in reset_s: so much lies between. This tells
        # a small bucket in debt, where refused requests count, from a larger one.
        size = math.ceil(1 + (reset_s - retry_s) / interval_s - _off(interval_s))
        burst = min(burst, float(max(1, size)))
    return Stated(at, interval_s, burst, min(reset_s, (2 * burst + 1) * interval_s), refused)


def _explained(limit: float, remaining: float, reset_s: float) -> tuple[float, float]:
    """Seconds between tokens, and the bucket's size."""
    used = max(0.0, limit - remaining)
    for period_s in _PERIODS_S:
        interval_s = period_s / limit
        # "remaining" leaves out the part of a token that has refilled.
        off = _off(interval_s)
        if used - 1 + off < reset_s / interval_s <= used + off + 0.01 * used:
            return interval_s, limit
    interval_s = 60.0 / limit
    return interval_s, min(
        limit, max(1.0, float(math.ceil(remaining + reset_s / interval_s - _off(interval_s))))
    )


def _off(interval_s: float) -> float:
    """By how much of a token a stated duration may be off."""
    return min(0.5, _EXACT + _ROUNDED_S / interval_s)


def learn(bucket: Bucket | None, stated: Stated, later: int) -> Bucket | None:
    """The bucket as the server's answer corrects ours; ``later``: requests sent since, and not yet answered.

    An answer to a request that was let in is old news by the time it arrives: it may only show that others
    draw on the same bucket. A refusal is fresh and counts whatever we believed.
    """
    if stated.interval_s <= 0:
        return bucket
    full_at = stated.at + stated.full_s + _ROUNDED_S + later * stated.interval_s
    if stated.refused:  # whatever it states, there was no token just now
        full_at = max(full_at, stated.at + (stated.burst - 0.95) * stated.interval_s)
    elif bucket is not None and bucket.interval_s == stated.interval_s:
        full_at = max(full_at, bucket.full_at)
    return Bucket(stated.interval_s, stated.burst, full_at)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


# -- how many at once -------------------------------------------------------------------------------------

_CLOCK_SLACK_S = 5.0
WINDOW_S = 3.0  # without complaint, after which one more is tried


def level_now(level: int | None, set_at: float, now: float, most: int) -> int:
    """How many requests may be in flight at once, at least 1; ``level``: to what it was last lowered."""
    if level is None or set_at > now + _CLOCK_SLACK_S:  # the clock was set back: it says nothing
        return max(1, most)
    clean = max(0.0, now - set_at) // WINDOW_S
    return int(max(1, min(most, level + clean)))


def lowered(level: int | None, set_at: float, sent_at: float, now: float, most: int) -> int | None:
    """Half the present level; None: the complaint is about a request from before the last time."""
    if level is not None and sent_at <= set_at <= now:
        return None
    return max(1, level_now(level, set_at, now, most) // 2)
