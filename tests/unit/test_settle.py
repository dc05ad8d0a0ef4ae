from __future__ import annotations

from dataclasses import replace

import pytest

from tnfd.model import StatKey
from tnfd.rules.settle import (
    Gone,
    Lease,
    Observation,
    Policy,
    Ready,
    Refuse,
    Settling,
    Verdict,
    Wait,
    decide_settled,
)

WALL_NS = 1_800_000_000_000_000_000
LOCAL = Policy.local(5.0)
NETWORK = Policy.network(5.0)
S = 10**9


def stat(size_bytes: int = 100, age_s: float = 0.0, *, ctime_age_s: float | None = None) -> StatKey:
    mtime_ns = WALL_NS - int(age_s * S)
    ctime_ns = mtime_ns if ctime_age_s is None else WALL_NS - int(ctime_age_s * S)
    return StatKey(1, 2, size_bytes, mtime_ns, ctime_ns)


def look(at: float, key: StatKey | None, lease: Lease = Lease.FREE, **fields: object) -> Observation:
    seen = Observation(began_at=at, ended_at=at, wall_ns=WALL_NS, stat=key, lease=lease)
    return replace(seen, **fields)  # type: ignore[arg-type]


def first_ready(policy: Policy, seen: Observation, limit_s: float = 200.0) -> float | None:
    """Look whenever the verdict asks for it, always seeing the same; seconds until it is Ready."""
    settling: Settling | None = None
    at = seen.began_at
    while at - seen.began_at < limit_s:
        settling, verdict = decide_settled(settling, replace(seen, began_at=at, ended_at=at, moved=False)
                                           if settling else seen, policy)  # fmt: skip
        if isinstance(verdict, Ready):
            return at - seen.began_at
        assert isinstance(verdict, Wait)
        assert verdict.look_again_at > at
        at = verdict.look_again_at
    return None


@pytest.mark.parametrize(
    ("policy", "seen", "quiet_s"),
    [
        (LOCAL, look(0, stat()), 5.0),
        (LOCAL, look(0, stat(), Lease.UNKNOWN), 60.0),
        (LOCAL, look(0, stat(), Lease.BUSY), None),
        (NETWORK, look(0, stat(), Lease.UNKNOWN), 15.0),
        (NETWORK, look(0, stat(), Lease.FREE), 15.0),
        (Policy.network(30.0), look(0, stat(), Lease.UNKNOWN), 30.0),
        (LOCAL, look(0, stat(age_s=3, ctime_age_s=0), moved=True), 0.3),
        (LOCAL, look(0, stat(age_s=3, ctime_age_s=0), Lease.UNKNOWN, moved=True), 60.0),
        (LOCAL, look(0, stat(age_s=3, ctime_age_s=0), moved=True, links=2), 5.0),
        (LOCAL, look(0, stat(), moved=True), 0.3),  # written and renamed in one moment
        (LOCAL, look(0, stat(age_s=0.001, ctime_age_s=0)), 5.0),  # cp: written, then fchmod
        (NETWORK, look(0, stat(age_s=3, ctime_age_s=0), moved=True), 15.0),
        (LOCAL, look(0, stat(age_s=6)), 0.0),
        (LOCAL, look(0, stat(age_s=3)), 2.0),
        (LOCAL, look(0, stat(age_s=600), Lease.UNKNOWN), 60.0),
        (LOCAL, look(0, stat(age_s=600, ctime_age_s=0)), 5.0),  # cp -p sets mtime, nothing sets ctime
        (LOCAL, look(0, stat(age_s=-86400)), 5.0),  # a future mtime is "now"
        (LOCAL, look(0, stat(age_s=600, ctime_age_s=-5)), 5.0),
        (NETWORK, look(0, stat(age_s=600)), 15.0),
    ],
)
def test_quiet_asked_for(policy: Policy, seen: Observation, quiet_s: float | None) -> None:
    ready_s = first_ready(policy, seen)
    if quiet_s is None:
        assert ready_s is None
    else:
        assert ready_s is not None
        assert quiet_s - 1e-6 <= ready_s < quiet_s + 0.1


def test_network_needs_three_equal_looks_however_far_apart() -> None:
    settling, verdict = decide_settled(None, look(0, stat()), NETWORK)
    settling, verdict = decide_settled(settling, look(100, stat()), NETWORK)
    assert isinstance(verdict, Wait)
    settling, verdict = decide_settled(settling, look(101, stat()), NETWORK)
    assert verdict == Ready()


@pytest.mark.parametrize(
    "changed",
    [
        replace(stat(), size_bytes=101),
        replace(stat(), mtime_ns=WALL_NS + 1),
        replace(stat(), ctime_ns=WALL_NS + 1),
        replace(stat(), ino=3),
        replace(stat(), dev=2),
    ],
)
@pytest.mark.parametrize("policy", [LOCAL, NETWORK])
def test_any_change_starts_the_quiet_anew(changed: StatKey, policy: Policy) -> None:
    settling: Settling | None = None
    for at in (0.0, 2.0, 4.9):
        settling, verdict = decide_settled(settling, look(at, stat()), policy)
        assert isinstance(verdict, Wait)
    for at in (5.0, 7.0, 9.9):
        settling, verdict = decide_settled(settling, look(at, changed), policy)
        assert isinstance(verdict, Wait)
    for at in (15.0, 20.0):
        settling, verdict = decide_settled(settling, look(at, changed), policy)
    assert verdict == Ready()


def test_a_writer_seen_starts_the_quiet_anew_and_voids_age_and_rename() -> None:
    old = stat(age_s=600, ctime_age_s=100)
    settling, _ = decide_settled(None, look(0, old, Lease.BUSY, moved=True), LOCAL)
    settling, verdict = decide_settled(settling, look(1, old), LOCAL)
    assert isinstance(verdict, Wait)
    # The quiet begins where the writer was first missed, not where it was last seen.
    settling, verdict = decide_settled(settling, look(5.5, old), LOCAL)
    assert isinstance(verdict, Wait)
    assert decide_settled(settling, look(6.1, old), LOCAL)[1] == Ready()


def test_a_change_after_the_rename_loses_the_short_way() -> None:
    renamed = stat(age_s=3, ctime_age_s=0)
    settling, _ = decide_settled(None, look(0, renamed, moved=True), LOCAL)
    appended = replace(renamed, size_bytes=200, mtime_ns=WALL_NS + S, ctime_ns=WALL_NS + S)
    settling, _ = decide_settled(settling, look(0.2, appended), LOCAL)
    settling, verdict = decide_settled(settling, look(1.0, appended), LOCAL)
    assert isinstance(verdict, Wait)


def test_the_time_that_a_look_takes_does_not_count_as_quiet() -> None:
    slow = look(0, stat(), ended_at=14.0)
    settling, _ = decide_settled(None, slow, NETWORK)
    for at in (14.5, 16.0):
        settling, verdict = decide_settled(settling, look(at, stat()), NETWORK)
        assert isinstance(verdict, Wait)


def test_a_busy_file_is_asked_for_often_at_first_and_rarely_later() -> None:
    settling, verdict = decide_settled(None, look(0, stat(), Lease.BUSY), LOCAL)
    assert verdict == Wait(1.0)
    settling, verdict = decide_settled(settling, look(3600, stat(), Lease.BUSY), LOCAL)
    assert verdict == Wait(3605.0)


def test_an_empty_file_is_refused_after_a_minute_and_not_while_a_writer_has_it() -> None:
    empty = stat(size_bytes=0)
    settling: Settling | None = None
    verdict: Verdict
    for at in range(60):
        settling, verdict = decide_settled(settling, look(at, empty), LOCAL)
        assert isinstance(verdict, Wait)
    assert decide_settled(settling, look(60, empty), LOCAL)[1] == Refuse("media.empty")
    settling, verdict = decide_settled(settling, look(60, empty, Lease.BUSY), LOCAL)
    assert isinstance(verdict, Wait)
    settling, verdict = decide_settled(settling, look(61, stat()), LOCAL)
    assert isinstance(verdict, Wait)


@pytest.mark.parametrize(("problem", "quiet_s"), [("source.unreadable", 5.0), ("source.not_regular", 0.0)])
def test_what_cannot_be_opened_is_refused_once_it_rests(problem: str, quiet_s: float) -> None:
    settling: Settling | None = None
    verdict: Verdict = Wait(0.0)
    at = 0.0
    while isinstance(verdict, Wait):
        at = verdict.look_again_at
        seen = look(at, stat(age_s=600), Lease.UNKNOWN, problem=problem)
        settling, verdict = decide_settled(settling, seen, LOCAL)
    assert verdict == Refuse(problem)
    assert quiet_s <= at < quiet_s + 0.1


def test_nothing_there_is_gone_and_nothing_known_waits() -> None:
    settling, _ = decide_settled(None, look(0, stat()), LOCAL)
    assert decide_settled(settling, look(1, None), LOCAL) == (None, Gone())
    after, verdict = decide_settled(settling, look(1, None, problem="source.unreadable"), LOCAL)
    assert after == settling
    assert isinstance(verdict, Wait)


def test_what_comes_by_a_rename_in_the_place_of_a_file_that_was_seen_waits_the_whole_quiet() -> None:
    settling, _ = decide_settled(None, look(0, stat(age_s=9, ctime_age_s=1)), LOCAL)
    renamed = replace(stat(age_s=3, ctime_age_s=0), ino=77)
    settling, _ = decide_settled(settling, look(0.1, renamed, moved=True), LOCAL)
    assert isinstance(decide_settled(settling, look(1.0, renamed), LOCAL)[1], Wait)


@pytest.mark.parametrize("policy", [LOCAL, NETWORK])
def test_a_disk_that_fails_is_no_reason_to_refuse_a_file(policy: Policy) -> None:
    settling: Settling | None = None
    for at in range(0, 100_000, 5):
        seen = look(at, stat(age_s=600), Lease.UNKNOWN, problem="source.io")
        settling, verdict = decide_settled(settling, seen, policy)
        assert isinstance(verdict, Wait)
    batch = replace(policy, io_s=60.0)
    assert decide_settled(settling, look(100_000, stat(age_s=600), problem="source.io"), batch)[1] == Refuse(
        "source.io"
    )


def test_a_file_whose_file_system_is_missing_is_not_gone() -> None:
    settling, _ = decide_settled(None, look(0, stat()), LOCAL)
    assert decide_settled(settling, look(1, None, problem="inbox.lost"), LOCAL) == (settling, Wait(31))
