"""When a paused engine is probed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.pauses import next_probe_s

OWNERS = ("engine.bad_key", "engine.no_key", "engine.no_quota", "engine.no_model", "engine.not_installed")


@pytest.mark.parametrize(
    ("paused_for_s", "expected_s"),
    [(-60, 15), (0, 15), (599, 15), (600, 30), (1199, 30), (1200, 60), (1800, 120), (2400, 240), (3000, 300)],
)
def test_server_that_is_down_is_probed_often_at_first(paused_for_s: float, expected_s: float) -> None:
    assert next_probe_s("engine.down", paused_for_s, 3) == expected_s


@pytest.mark.parametrize("code", OWNERS)
def test_what_somebody_must_mend_is_probed_every_five_to_thirty_minutes(code: str) -> None:
    assert [next_probe_s(code, 0, probes) for probes in range(5)] == [300, 600, 1200, 1800, 1800]


@given(st.sampled_from(["engine.down", *OWNERS]), st.floats(-1e9, 1e9), st.integers(0, 10**9))
def test_probe_is_never_further_than_half_an_hour(code: str, paused_for_s: float, probes: int) -> None:
    assert 15 <= next_probe_s(code, paused_for_s, probes) <= (300 if code == "engine.down" else 1800)
