"""Where a recording is cut: lengths, the quietest place, what is still owed."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.model import SAMPLE_RATE_HZ, Cut
from tnfd.rules.cuts import (
    LONGEST_S,
    OVERLAP,
    SHORTEST_S,
    TINIEST_S,
    Lengths,
    Limits,
    Place,
    Stretch,
    expected,
    limits_for,
    plan_lengths,
    quietest,
    shorter_s,
    uncovered,
    window_s,
)

RATE = SAMPLE_RATE_HZ


def cut(index: int, start: int, end: int, *, before: bool = False, behind: bool = False) -> Cut:
    return Cut(index, start, end, f"{index:04}.ogg", 1, torn_start=before, torn_end=behind)


def lengths(duration_s: float | None, limits: Limits) -> list[float]:
    """The lengths of all pieces, each cut in the middle of its search."""
    plan = Lengths(0, None, duration_s, limits)
    at = 0
    found: list[float] = []
    while len(found) < 1000:
        aim = plan.aim(at)
        assert aim is not None
        if duration_s is not None and aim.latest >= duration_s * RATE:
            return [*found, duration_s - at / RATE]
        if duration_s is None and len(found) == 60:
            return found
        end = (aim.earliest + aim.latest) // 2
        found.append((end - at) / RATE)
        at = end
    raise AssertionError(found)


@pytest.mark.parametrize(
    ("duration_s", "slots", "count"),
    [
        (30, 5, 1),
        (119, 20, 1),
        (300, 1, 1),
        (300, 5, 5),
        (300, 20, 5),
        (900, 1, 2),
        (7200, 1, 13),
        (7200, 5, 30),
    ],
)
def test_pieces_of_a_recording(duration_s: float, slots: int, count: int) -> None:
    assert len(lengths(duration_s, Limits(LONGEST_S, slots))) == count
    assert expected(duration_s, Limits(LONGEST_S, slots)) == count


def test_rounds_of_pieces_grow_and_end_together() -> None:
    planned = list(islice(plan_lengths(7200, Limits(LONGEST_S, 5)), 30))
    rounds = [planned[at : at + 5] for at in range(0, 30, 5)]
    assert all(len(set(one)) == 1 for one in rounds)
    assert rounds[0] == [SHORTEST_S] * 5
    assert planned == sorted(planned)
    assert sum(planned) == pytest.approx(7200)


def test_nobody_knows_how_many_without_a_length() -> None:
    assert expected(None, Limits(LONGEST_S, 5)) == 0
    grown = lengths(None, Limits(LONGEST_S, 5))
    assert grown[0] == SHORTEST_S
    assert grown[-1] <= LONGEST_S


@given(st.floats(0.5, 100_000), st.integers(1, 40), st.floats(TINIEST_S, LONGEST_S))
def test_no_piece_is_longer_than_it_may_be(duration_s: float, slots: int, max_s: float) -> None:
    plan = Lengths(0, None, duration_s, Limits(max_s, slots))
    at = 0
    for _ in range(500):
        aim = plan.aim(at)
        assert aim is not None
        assert at < aim.earliest < aim.latest
        assert (aim.latest - at) / RATE <= max_s - 0.9  # and half an overlap fits behind it
        if aim.latest >= duration_s * RATE:
            break
        at = aim.latest


@given(st.floats(25, 5_000), st.floats(TINIEST_S, LONGEST_S))
def test_a_stretch_in_the_middle_is_cut_evenly_to_its_very_end(length_s: float, max_s: float) -> None:
    start, end = 1000 * RATE, (1000 * RATE) + round(length_s * RATE)
    plan = Lengths(start, end, 7200.0, Limits(max_s, 5))
    at = start
    while (aim := plan.aim(at)) is not None:
        assert at < aim.earliest < aim.latest < end
        at = (aim.earliest + aim.latest) // 2
    assert end - at <= round(max_s * RATE)


def test_aims_do_not_drift_with_where_cuts_came_to_lie() -> None:
    limits = Limits(LONGEST_S, 5)
    early, late = Lengths(0, None, 7200.0, limits), Lengths(0, None, 7200.0, limits)
    at = to = 0
    for _ in range(20):
        one, two = early.aim(at), late.aim(to)
        assert one is not None
        assert two is not None
        assert abs(one.latest - two.latest) <= 20 * RATE
        at, to = one.earliest, two.latest


def test_a_resume_goes_on_with_the_same_aims() -> None:
    limits = Limits(LONGEST_S, 5)
    plan, at = Lengths(0, None, 7200.0, limits), 0
    for _ in range(15):
        aim = plan.aim(at)
        assert aim == Lengths(at, None, 7200.0, limits).aim(at)
        assert aim is not None
        at = aim.earliest + 5 * RATE


@pytest.mark.parametrize(
    ("limits", "expected_s"),
    [
        (limits_for("opus", max_s=14_400, max_bytes=24_000_000, slots=5), LONGEST_S),
        (limits_for("opus", max_s=300, max_bytes=24_000_000, slots=5), 298.0),
        (limits_for("opus", max_s=1400, max_bytes=1_000_000, slots=5), 125.0),
        (limits_for("wav", max_s=1400, max_bytes=3_200_000, slots=5), 100.0),
        (limits_for("opus", max_s=1400, max_bytes=24_000_000, slots=5, learned_s=42.0), 42.0),
        (limits_for("opus", max_s=21, max_bytes=24_000_000, slots=5), TINIEST_S),
    ],
)
def test_limits_of_an_engine_become_one_length(limits: Limits, expected_s: float) -> None:
    assert limits.max_s == expected_s
    assert window_s(limits.max_s) <= 20.0


def test_the_quietest_place_is_the_middle_of_the_longest_quiet() -> None:
    powers = [1e6] * 40 + [100.0] * 6 + [1e6] * 40 + [100.0] * 3 + [1e6] * 11
    assert quietest(powers) == Place(43, quiet=True)


def test_nothing_is_quiet_in_noise_and_everything_in_silence() -> None:
    assert quietest([1e6, 1.1e6] * 50).quiet is False
    assert quietest([0.0] * 100) == Place(50, quiet=True)
    assert quietest([4e6] * 50 + [9e5] * 6 + [4e6] * 50).quiet is False  # 7 dB: noise between words
    assert quietest([16.0] * 10).quiet is True


def test_what_no_cut_covers_is_owed() -> None:
    assert uncovered([], None) == [Stretch(0, None)]
    assert uncovered([], 0) == []
    whole = [cut(0, 0, 100), cut(2, 100, 250)]
    assert uncovered(whole, 250) == []
    assert uncovered(whole, None) == [Stretch(250, None)]
    assert uncovered(whole, 300) == [Stretch(250, 300)]
    assert uncovered([cut(0, 0, 100), cut(3, 200, 250)], 250) == [Stretch(100, 200)]
    assert uncovered([cut(3, 200, 250)], 250) == [Stretch(0, 200)]


def test_what_is_owed_keeps_its_overlaps() -> None:
    a, b, c = OVERLAP * 10, OVERLAP * 20, OVERLAP * 30
    cuts = [
        cut(0, 0, a, behind=True),
        cut(1, a - OVERLAP, b, before=True, behind=True),
        cut(2, b - OVERLAP, c, before=True),
    ]
    assert uncovered(cuts, c) == []
    assert uncovered([cuts[0], cuts[2]], c) == [Stretch(a - OVERLAP, b, torn_start=True, torn_end=True)]
    assert uncovered(cuts[:1], None) == [Stretch(a - OVERLAP, None, torn_start=True)]
    assert uncovered(cuts[1:], c) == [Stretch(0, a, torn_end=True)]


@pytest.mark.parametrize(
    ("length_s", "named_s", "expected_s"),
    [
        (400, None, 200), (30, None, TINIEST_S), (TINIEST_S, None, None), (10, 5.0, None),
        (400, 300.0, 298.0), (400, 500.0, 200), (400, 3.0, 200), (100, 25.0, 23.0),
    ],
)  # fmt: skip
def test_smaller_pieces_for_what_was_too_large(
    length_s: float, named_s: float | None, expected_s: float | None
) -> None:
    assert shorter_s(cut(0, 0, round(length_s * RATE)), named_s) == expected_s
