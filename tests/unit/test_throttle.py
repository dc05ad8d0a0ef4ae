"""The rate and the number of requests at once: what headers say, what is learned, what is lowered."""

from __future__ import annotations

import pytest

from tnfd.rules.throttle import (
    WINDOW_S,
    Bucket,
    Stated,
    careful_wait_s,
    learn,
    level_now,
    lowered,
    paced,
    stated_in,
)

NOW = 1_800_000_000.0


def headers(limit: str, remaining: str = "", reset: str = "") -> dict[str, str]:
    pairs = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{name}-requests": value for name, value in pairs.items() if value}


# -- the bucket -------------------------------------------------------------------------------------------


def test_full_bucket_gives_its_burst_and_then_the_rate() -> None:
    bucket = Bucket(1.0, 3.0)
    for _ in range(3):
        assert bucket.wait_s(NOW) == 0
        bucket = bucket.take(NOW)
    assert bucket.wait_s(NOW) == pytest.approx(1.0, abs=1e-5)
    assert bucket.wait_s(NOW + 1) == 0


def test_written_rate_is_never_two_at_once() -> None:
    bucket = paced(30).take(NOW)
    assert bucket.wait_s(NOW) == pytest.approx(
        2.04, abs=1e-5
    )  # a little more than 2 s: no jitter may make it less


def test_careful_start_lets_two_feel_the_way_and_doubles_every_tenth_of_a_second() -> None:
    assert [careful_wait_s(count, NOW, NOW) for count in (0, 1)] == [0, 0]
    waits = {count: round(careful_wait_s(count, NOW, NOW), 3) for count in (3, 7, 15, 19)}
    assert waits == {3: 0.1, 7: 0.2, 15: 0.3, 19: 0.332}
    assert careful_wait_s(3, NOW, NOW + 0.04) == pytest.approx(0.06, abs=1e-5)
    assert careful_wait_s(3, NOW, NOW + 0.2) == 0
    assert careful_wait_s(3, NOW, NOW - 86_400) == pytest.approx(0.1, abs=1e-5)  # the clock was set back


def test_clock_set_back_does_not_stop_the_bucket() -> None:
    bucket = Bucket(1.0, 3.0).take(NOW)
    assert bucket.wait_s(NOW - 86_400) == 0
    assert bucket.take(NOW - 86_400).full_at == pytest.approx(NOW - 86_399)


def test_moment_of_the_next_token_is_one_at_which_it_is_given() -> None:
    bucket = Bucket(0.7, 1.0).take(NOW + 0.123)
    wait_s = bucket.wait_s(NOW + 0.2)
    assert wait_s > 0
    assert bucket.wait_s(NOW + 0.2 + wait_s) == 0


# -- what a server states ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "interval_s", "burst", "full_s"),
    [
        (headers("50", "47", "3.362s"), 1.2, 50, 3.362),  # seen in public: 47.2 tokens of 50
        (headers("60", "59", "1s"), 1.0, 60, 1.0),
        (headers("60", "0", "59.4s"), 1.0, 60, 59.4),
        (headers("10000", "9999", "6ms"), 0.006, 10_000, 0.006),
        (headers("14400", "14370", "2m59.56s"), 6.0, 14_400, 179.56),  # Groq counts a day
        (headers("3", "2", "20s"), 20.0, 3, 20.0),
        (headers("60", "0", "1s"), 1.0, 1, 1.0),  # a bucket of one
        (headers("60", "2", "2s"), 1.0, 4, 2.0),
        (headers("60", "0", "1m55s"), 1.0, 60, 115.0),  # in debt: refused requests count
        (headers("60", "0", "3h"), 1.0, 60, 121.0),  # which is believed only so far
        (headers("60"), 1.0, 1, 1.0),
        (headers("60", "59"), 1.0, 1, 1.0),
    ],
)
def test_limits_as_servers_state_them(
    given: dict[str, str], interval_s: float, burst: float, full_s: float
) -> None:
    stated = stated_in(given, NOW)
    assert stated.interval_s == pytest.approx(interval_s)
    assert stated.burst == burst
    assert stated.full_s == pytest.approx(full_s)


@pytest.mark.parametrize(
    "given", [{}, headers("0"), headers("many"), headers("nan"), headers("-5"), headers("", "0", "1s")]
)
def test_what_is_no_limit_states_none(given: dict[str, str]) -> None:
    assert stated_in(given, NOW) == Stated(NOW)


def test_refusal_tells_a_small_bucket_in_debt_from_a_larger_one() -> None:
    given = headers("60", "0", "3s")
    assert stated_in(given, NOW, refused=True, retry_s=3.0).burst == 1
    assert stated_in(given, NOW, refused=True, retry_s=1.0).burst == 3
    assert stated_in(given, NOW, refused=True).burst == 3


def test_refusal_with_tokens_left_is_about_something_else() -> None:
    stated = stated_in(headers("14400", "14370", "2m59.56s"), NOW, refused=True, retry_s=2.0)
    assert not stated.refused
    assert stated.burst == 14_400


def test_first_answer_makes_the_bucket() -> None:
    bucket = learn(None, Stated(NOW, 1.0, 60.0, 59.0), later=1)
    assert bucket == Bucket(1.0, 60.0, NOW + 60.001)  # one more is on its way
    assert learn(None, Stated(NOW), later=0) is None


def test_answer_that_knows_less_than_we_do_changes_nothing() -> None:
    known = Bucket(1.0, 60.0, NOW + 30)
    assert learn(known, Stated(NOW, 1.0, 60.0, 10.0), later=0) == known
    assert learn(known, Stated(NOW), later=0) == known


def test_others_on_the_same_bucket_are_seen() -> None:
    assert learn(Bucket(1.0, 60.0, NOW + 5), Stated(NOW, 1.0, 60.0, 40.0), later=2) == Bucket(
        1.0, 60.0, NOW + 42.001
    )


def test_refusal_counts_whatever_was_believed() -> None:
    known = Bucket(1.0, 60.0, NOW + 61)
    stated = Stated(NOW, 1.0, 60.0, 59.5, refused=True)
    assert learn(known, stated, later=0) == Bucket(1.0, 60.0, NOW + 59.501)


def test_refusal_is_never_followed_at_once() -> None:
    bucket = learn(None, Stated(NOW, 1.0, 1.0, 0.0, refused=True), later=0)
    assert bucket is not None
    assert bucket.wait_s(NOW) > 0.04


def test_changed_limit_is_taken_over() -> None:
    bucket = learn(Bucket(1.0, 60.0, NOW + 50), Stated(NOW, 0.1, 600.0, 0.1), later=0)
    assert bucket is not None
    assert (bucket.interval_s, bucket.burst) == (0.1, 600.0)


# -- how many at once -------------------------------------------------------------------------------------


def test_level_halves_and_comes_back_one_by_one() -> None:
    level = lowered(None, 0.0, NOW - 1, NOW, most=20)
    assert level == 10
    assert level_now(level, NOW, NOW, 20) == 10
    assert level_now(level, NOW, NOW + WINDOW_S, 20) == 11
    assert level_now(level, NOW, NOW + 100 * WINDOW_S, 20) == 20
    assert lowered(level, NOW, NOW + 1, NOW + 2 * WINDOW_S, 20) == 6


def test_complaints_about_what_was_sent_before_count_once() -> None:
    assert lowered(10, NOW, NOW - 0.1, NOW + 1, 20) is None


def test_level_is_never_below_one_nor_above_what_was_asked_for() -> None:
    assert lowered(1, NOW - 9, NOW - 1, NOW, 20) == 2  # it had come back to 4
    assert lowered(None, 0.0, NOW, NOW, 1) == 1
    assert level_now(None, 0.0, NOW, 0) == 1
    assert level_now(50, NOW, NOW, 3) == 3


def test_clock_set_back_does_not_hold_the_level_down() -> None:
    assert level_now(1, NOW, NOW - 3600, 20) == 20
