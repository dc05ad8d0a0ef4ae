"""Waits between tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.backoff import full_jitter_s


@pytest.mark.parametrize(
    ("failures", "ceiling_s"), [(1, 2.0), (2, 4.0), (3, 8.0), (8, 256.0), (9, 300.0), (10_000, 300.0)]
)
def test_ceiling_doubles_up_to_the_longest(failures: int, ceiling_s: float) -> None:
    assert full_jitter_s(failures, 2.0, 300.0, 1.0) == ceiling_s
    assert full_jitter_s(failures, 2.0, 300.0, 0.5) == ceiling_s / 2


def test_again_is_never_at_once() -> None:
    assert full_jitter_s(1, 2.0, 300.0, 0.0) == 0.2


@given(st.integers(-5, 10**6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1))
def test_wait_stays_within_its_bounds(failures: int, first_s: float, longest_s: float, chance: float) -> None:
    wait_s = full_jitter_s(failures, first_s, longest_s, chance)
    assert 0 <= wait_s <= longest_s
    assert wait_s >= min(first_s, longest_s) / 10
