"""What a batch decides without touching anything: order, giving up, lengths, patterns, words."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from tnfd.batch.halt import decide_halt
from tnfd.batch.report import clock, dollars, hours
from tnfd.batch.targets import anchored
from tnfd.model import StatKey
from tnfd.ports.batch import Waits
from tnfd.rules.estimate import estimate_audio_s
from tnfd.rules.ignore import Ignore, NameRules, decide_name
from tnfd.rules.order import plan_order
from tnfd.rules.settle import Lease, Observation, Policy, Ready, Wait, decide_settled


def makespan(order: list[int], lengths: list[float], slots: int) -> float:
    ends = [0.0] * slots
    for index in order:
        ends[ends.index(min(ends))] += lengths[index]
    return max(ends)


@pytest.mark.parametrize(("count", "slots"), [(0, 5), (1, 5), (5, 5), (7, 3), (50, 20), (51, 1)])
def test_every_file_has_its_turn_once(count: int, slots: int) -> None:
    order = plan_order([float(number % 7) for number in range(count)], slots)
    assert sorted(order) == list(range(count))


def test_the_longest_come_first_where_files_share_out_evenly() -> None:
    assert plan_order([1.0, 5.0, 3.0, 4.0], 2) == [1, 3, 2, 0]


def test_short_ones_begin_the_slots_that_get_one_more() -> None:
    lengths = [2.5 + (number % 10) / 10 for number in range(50)]
    falling = sorted(range(50), key=lambda index: -lengths[index])
    assert makespan(plan_order(lengths, 20), lengths, 20) < makespan(falling, lengths, 20)


def test_one_very_long_file_is_hardly_held_up() -> None:
    lengths = [60.0] * 30 + [10_000.0]
    assert makespan(plan_order(lengths, 20), lengths, 20) == 10_000.0


# -- giving up -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "waits",
    [
        [],
        [Waits("", "", 1), Waits("engine_paused", "engine.bad_key", 4)],
        [Waits("retry", "engine.timeout", 1), Waits("budget", "$1 of $1", 1)],
        [Waits("rate_limit", "", 3)],
        [Waits("original", "", 3)],
    ],
)
def test_what_goes_on_by_itself_is_waited_for(waits: list[Waits]) -> None:
    assert decide_halt(waits, 1e6) is None


@pytest.mark.parametrize(
    ("wait", "stuck_s", "final"),
    [
        (Waits("engine_paused", "engine.bad_key", 3), 0.0, True),
        (Waits("engine_paused", "engine.no_quota", 3), 0.0, True),
        (Waits("engine_paused", "engine.down", 3), 599.0, False),
        (Waits("engine_paused", "engine.down", 3), 601.0, True),
        (Waits("engine_paused", "engine.by_hand", 3), 1e6, False),
        (Waits("paused", "by command", 3), 1e6, False),
        (Waits("budget", "$9.99 of $10.00 a day are spent", 3), 0.0, True),
        (Waits("disk", "", 3), 60.0, False),
        (Waits("disk", "", 3), 121.0, True),
        (Waits("config", "the engine 'x' is no longer configured", 3), 0.0, True),
    ],
)
def test_giving_up(wait: Waits, stuck_s: float, final: bool) -> None:
    halt = decide_halt([wait, Waits("original", "", 1)], stuck_s)
    assert halt is not None
    assert halt.final is final
    assert halt.text.endswith(".")
    assert halt.hint


def test_it_does_not_give_up_while_one_reason_may_pass() -> None:
    halt = decide_halt([Waits("budget", "", 1), Waits("paused", "", 1)], 1e6)
    assert halt is not None
    assert not halt.final


# -- lengths ---------------------------------------------------------------------------------------------


def test_a_wav_says_how_long_it_is() -> None:
    head = (
        b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    )
    assert estimate_audio_s("a.wav", 320_044, head) == pytest.approx(10.0, abs=0.01)
    assert estimate_audio_s("a.wav", 320_044) == pytest.approx(1.81, abs=0.01)  # as if it were a CD's
    silent = head[:28] + bytes(4) + head[32:]
    assert estimate_audio_s("a.wav", 320_044, silent) == estimate_audio_s("a.wav", 320_044)


def test_a_flac_says_how_long_it_is() -> None:
    packed = 44_100 << 44 | 1 << 41 | 15 << 36 | 44_100 * 90
    head = b"fLaC" + bytes(14) + packed.to_bytes(8, "big")
    assert estimate_audio_s("a.flac", 9_000_000, head) == pytest.approx(90.0)
    assert estimate_audio_s("a.flac", 9_000_000, head[:20]) == pytest.approx(90.0, rel=0.1)


# -- files that have rested for long ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "lease", "ready"),
    [(61, Lease.UNKNOWN, True), (59, Lease.UNKNOWN, False), (61, Lease.BUSY, False), (6, Lease.FREE, True)],
)
def test_a_batch_does_not_wait_for_what_has_rested_long(age_s: float, lease: Lease, ready: bool) -> None:
    policy = replace(Policy.local(5.0), empty_s=0.0, aged_s=60.0)
    stat = StatKey(1, 2, 1000, 10**18, 10**18)
    seen = Observation(10.0, 10.1, 10**18 + int(age_s * 1e9), stat, lease)
    _, verdict = decide_settled(None, seen, policy)
    assert isinstance(verdict, Ready) is ready


def test_an_inbox_waits_whatever_the_file_times_say() -> None:
    stat = StatKey(1, 2, 1000, 0, 0)
    for policy in (Policy.local(5.0), Policy.network(5.0)):
        _, verdict = decide_settled(None, Observation(10.0, 10.1, 10**18, stat, Lease.UNKNOWN), policy)
        assert isinstance(verdict, Wait)


# -- patterns and words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "folder", "path", "taken"),
    [
        ("*.mp3", b"talks", b"talks/deep/a.mp3", True),
        ("2026/*.mp3", b"talks", b"talks/2026/a.mp3", True),
        ("2026/*.mp3", b"talks", b"2026/a.mp3", False),
        ("/a.mp3", b"odd [1]*", b"odd [1]*/a.mp3", True),
        ("/a.mp3", b"", b"a.mp3", True),
        ("/a.mp3", b"", b"b/a.mp3", False),
    ],
)
def test_a_pattern_is_meant_from_the_named_folder(glob: str, folder: bytes, path: bytes, taken: bool) -> None:
    rules = NameRules((anchored(glob, folder),))
    assert (not isinstance(decide_name(path, rules), Ignore)) is taken


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1.0, "1 second"), (59.0, "59 seconds"), (119.0, "119 seconds"), (150.0, "2.5 minutes"),
        (1800.0, "30 minutes"), (3600.0, "1 hour"), (9000.0, "2.5 hours"), (360_000.0, "100 hours"),
    ],
)  # fmt: skip
def test_hours(seconds: float, words: str) -> None:
    assert hours(seconds) == words


def test_stopwatch_and_dollars() -> None:
    assert [clock(span_s) for span_s in (-1, 7.4, 765, 3723)] == ["0:00", "0:07", "12:45", "1:02:03"]
    assert [dollars(usd) for usd in (0, 0.0008, 0.27, 12.3)] == ["$0.00", "$0.0008", "$0.270", "$12.30"]
