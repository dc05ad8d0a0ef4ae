"""Is the daemon alive as a whole, and the line that says how it does."""

from __future__ import annotations

from tnfd.rules.health import STALE_S, decide_stale, describe

NOW = 1000.0
OLD = NOW - STALE_S - 1


def test_every_part_is_judged() -> None:
    fine = [("a", False, NOW)]
    assert decide_stale(NOW, fine, NOW, NOW, stopping=False) == []
    assert decide_stale(NOW, [("a", False, OLD)], NOW, NOW, stopping=False) == ["inbox a"]
    assert decide_stale(NOW, fine, OLD, NOW, stopping=False) == ["dispatcher"]
    assert decide_stale(NOW, fine, NOW, OLD, stopping=False) == ["store"]


def test_a_lost_inbox_is_none_of_the_watchdogs() -> None:
    assert decide_stale(NOW, [("a", True, OLD)], NOW, NOW, stopping=False) == []


def test_while_it_stops_only_the_store_is_judged() -> None:
    assert decide_stale(NOW, [("a", False, OLD)], OLD, NOW, stopping=True) == []
    assert decide_stale(NOW, [], OLD, OLD, stopping=True) == ["store"]


def test_the_line_has_figures() -> None:
    line = describe(
        busy=1, workers=5, counts={"queued": 3, "settling": 1, "done": 7}, inboxes=2, lost=1,
        today_usd=0.271, stopping=False,
    )  # fmt: skip
    assert line == "1 of 5 workers busy; 4 waiting; 7 done; 2 inboxes, 1 lost; $0.27 today"
    failed = describe(busy=0, workers=1, counts={"failed": 2}, inboxes=1, lost=0, today_usd=0, stopping=False)
    assert "2 failed; 1 inbox;" in failed
    stopping = describe(busy=2, workers=5, counts={}, inboxes=1, lost=0, today_usd=0, stopping=True)
    assert stopping == "stopping; 2 of 5 workers finish what they have begun"
