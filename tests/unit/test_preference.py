"""Which engine of a list does a transcription."""

from __future__ import annotations

import pytest

from tnfd.rules.preference import Paused, choose_engine

QUOTA, HELD = Paused("engine.no_quota", 100.0), Paused("engine.by_hand", None)
DUE = Paused("engine.down", 50.0, may_probe=True)
NAMES = ("a", "b", "c")


@pytest.mark.parametrize(
    ("paused", "begins", "chosen"),
    [
        ({}, False, ("a", "")),
        ({"b": QUOTA}, False, ("a", "")),
        ({"a": QUOTA}, False, ("b", "a is paused: engine.no_quota")),
        ({"a": HELD, "b": QUOTA}, True, ("c", "a is paused: engine.by_hand; b is paused: engine.no_quota")),
        # Its probe is due: whoever begins now finds out; whoever only waits stays where it is.
        ({"a": DUE}, True, ("a", "")),
        ({"a": DUE}, False, ("b", "a is paused: engine.down")),
        # All are paused: the one that is probed first; by command comes last.
        ({"a": QUOTA, "b": DUE, "c": HELD}, False, ("b", "a is paused: engine.no_quota")),
        ({"a": HELD, "b": HELD, "c": HELD}, False, ("a", "")),
        (
            {"a": HELD, "b": HELD, "c": QUOTA},
            False,
            ("c", "a is paused: engine.by_hand; b is paused: engine.by_hand"),
        ),
    ],
)
def test_first_that_is_not_paused(paused: dict[str, Paused], begins: bool, chosen: tuple[str, str]) -> None:
    assert choose_engine(NAMES, None, paused, begins=begins) == chosen


def test_what_is_paid_stays_where_it_was_paid() -> None:
    assert choose_engine(NAMES, "b", {"b": QUOTA}, begins=True) == ("b", "")
