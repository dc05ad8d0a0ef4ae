"""No crowd of clients on one bucket, however it begins, asks for more than there is; none waits for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.faults import patience_s
from tnfd.rules.throttle import Bucket, Stated, careful_wait_s, learn, level_now, lowered, stated_in
from tnfd.testing.limit import RateLimit

NOW = 1_800_000_000.0
WALL = datetime.fromtimestamp(NOW, UTC)
rates = st.integers(1, 3000)  # durations in milliseconds tell no more


@given(
    interval_s=st.floats(0.001, 60),
    burst=st.floats(1, 100),
    gaps=st.lists(st.floats(0, 30), max_size=200),
)
def test_bucket_is_never_exceeded(interval_s: float, burst: float, gaps: list[float]) -> None:
    bucket, now, sent = Bucket(interval_s, burst), NOW, []
    for gap in gaps:
        now += gap
        if bucket.wait_s(now) == 0:
            bucket = bucket.take(now)
            sent.append(now)
    for first, begin in enumerate(sent):
        for count, end in enumerate(sent[first:], 1):
            assert count <= burst + (end - begin) / interval_s + 1e-2


@given(
    interval_s=st.floats(0.001, 60),
    burst=st.floats(1, 100),
    full_in_s=st.floats(-1e6, 1e9),
    at=st.floats(0, 1e6),
)
def test_whoever_waits_as_told_is_served_and_never_waits_long(
    interval_s: float, burst: float, full_in_s: float, at: float
) -> None:
    bucket = Bucket(interval_s, burst, NOW + full_in_s)
    now = NOW + at
    wait_s = bucket.wait_s(now)
    assert 0 <= wait_s <= (burst + 4) * 1.02 * interval_s * 2 + 60
    assert bucket.wait_s(now + wait_s) == 0


@dataclass
class Answer:
    """One request's way: when its answer comes, and what it says."""

    at: float
    stated: Stated


@given(
    per_minute=rates,
    burst=st.integers(1, 60),
    tokens=st.floats(0, 1),
    latency=st.floats(0.0, 3.0),
    workers=st.integers(1, 20),
    counts_refused=st.booleans(),
)
def test_at_most_two_are_refused_by_a_server_that_states_its_limit(
    per_minute: float, burst: int, tokens: float, latency: float, workers: int, counts_refused: bool
) -> None:
    """120 requests of a crowd that always has something to send, from an empty ledger."""
    server = RateLimit(per_minute, min(burst, per_minute), tokens * min(burst, per_minute), counts_refused)
    bucket, heard = None, False
    flying: list[Answer] = []
    now, sent, refused, blocked_until = NOW, 0, 0, NOW
    while sent < 120:
        for answer in sorted((one for one in flying if one.at <= now), key=lambda one: one.at):
            flying.remove(answer)
            bucket = learn(bucket, answer.stated, sum(one.stated.at > answer.stated.at for one in flying))
            heard = True
        waits = [bucket.wait_s(now) if bucket else 0.0]
        waits += [] if heard else [careful_wait_s(len(flying), NOW, now)]
        waits.append(blocked_until - now if blocked_until > now else 0.0)
        if len(flying) < workers and not any(waits):
            admitted, headers = server.ask(now)
            sent, refused = sent + 1, refused + (not admitted)
            bucket = bucket and bucket.take(now)
            retry_s = patience_s(headers, WALL)
            blocked_until = max(blocked_until, now + (retry_s or 0.0))
            stated = stated_in(headers, now, refused=not admitted, retry_s=retry_s)
            flying.append(Answer(now + (latency if admitted else 0.0), stated))
            continue
        ends = [one.at for one in flying]
        ends += [now + max(waits)] if len(flying) < workers else []
        assert ends
        following = min(end for end in ends)
        assert following > now or flying
        now = max(now, following) + 1e-5
    assert refused <= 2


@given(
    most=st.integers(1, 50),
    complaints=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5)), max_size=50),
)
def test_level_stays_within_bounds_and_comes_back(most: int, complaints: list[tuple[float, float]]) -> None:
    level, set_at, now = None, 0.0, NOW
    for gap, ago in complaints:
        now += gap
        new = lowered(level, set_at, now - ago, now, most)
        if new is not None:
            assert new == max(1, level_now(level, set_at, now, most) // 2)
            level, set_at = new, now
        assert 1 <= level_now(level, set_at, now, most) <= most
    assert level_now(level, set_at, now + 3 * most, most) == most
