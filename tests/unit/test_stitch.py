"""Stitching: offsets, clamping, gaps, and what is said of the whole."""

from __future__ import annotations

import math

import pytest

from tnfd.model import SAMPLE_RATE_HZ, ChunkResult, Cut, Gap, Segment, Timestamps, Word
from tnfd.rules.stitch import UNEXPLAINED, stitch


def cuts(*ends_s: float) -> list[Cut]:
    starts = [0.0, *ends_s[:-1]]
    return [
        Cut(n, int(start * SAMPLE_RATE_HZ), int(end * SAMPLE_RATE_HZ), f"{n}.ogg", 1)
        for n, (start, end) in enumerate(zip(starts, ends_s, strict=True))
    ]


def timed(*segments: Segment, timestamps: Timestamps = "engine") -> ChunkResult:
    return ChunkResult(" ".join(one.text for one in segments), segments, timestamps=timestamps)


def test_times_are_moved_by_the_start_of_their_cut() -> None:
    whole = stitch(
        cuts(60, 100),
        {
            0: timed(Segment(1, 2, "one")),
            1: timed(Segment(0.5, 3, "two", "Ann", (Word(0.5, 1, "two"),))),
        },
        duration_s=100,
    )
    assert whole.segments == (Segment(1, 2, "one"), Segment(60.5, 63, "two", "Ann", (Word(60.5, 61, "two"),)))
    assert whole.text == "one two"
    assert (whole.timestamps, whole.gaps, whole.duration_s) == ("engine", (), 100)


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (-3, 2, (60, 62)),
        (5, 99, (65, 70)),
        (50, 60, (70, 70)),
        (5, 3, (65, 65)),
        (math.nan, math.inf, (60, 70)),
    ],
)
def test_times_outside_of_the_cut_are_brought_into_it(
    start_s: float, end_s: float, expected: tuple[float, float]
) -> None:
    [one, two] = stitch(
        cuts(60, 70), {0: timed(Segment(0, 1, "a")), 1: timed(Segment(start_s, end_s, "b"))}, duration_s=70
    ).segments
    assert (two.start_s, two.end_s) == expected
    assert one.end_s == 1


def test_result_without_segments_becomes_one_for_the_whole_cut() -> None:
    whole = stitch(
        cuts(60, 70),
        {0: timed(Segment(0, 1, "a")), 1: ChunkResult(" b ", timestamps="engine")},
        duration_s=70,
    )
    assert whole.segments[1] == Segment(60, 70, "b")
    assert whole.timestamps == "none"


def test_segments_without_words_are_left_out() -> None:
    result = ChunkResult("a", (Segment(0, 1, " "), Segment(1, 2, " a ")), timestamps="engine")
    assert stitch(cuts(10), {0: result}, duration_s=10).segments == (Segment(1, 2, "a"),)
    blank = ChunkResult("a", (Segment(0, 1, " "),), timestamps="engine")
    assert stitch(cuts(10), {0: blank}, duration_s=10).segments == (Segment(0, 10, "a"),)


def test_missing_results_are_gaps_with_their_errors() -> None:
    whole = stitch(cuts(10, 20, 30), {1: ChunkResult("b")}, duration_s=30, errors={0: "engine.rejected"})
    assert whole.gaps == (Gap(0, 10, "engine.rejected"), Gap(20, 30, UNEXPLAINED))
    assert whole.text == "b"


def test_gaps_that_touch_are_one_only_with_the_same_error() -> None:
    errors = {0: "engine.rejected", 1: "engine.rejected", 2: "engine.too_large"}
    whole = stitch(cuts(10, 20, 30), {}, duration_s=35, errors=errors, gaps=[Gap(30, 35, "media.corrupt")])
    assert whole.gaps == (
        Gap(0, 20, "engine.rejected"),
        Gap(20, 30, "engine.too_large"),
        Gap(30, 35, "media.corrupt"),
    )


def test_cuts_count_by_time_and_not_by_index() -> None:
    first, second = cuts(10, 20)
    swapped = [Cut(7, second.start_sample, second.end_sample, "", 1), Cut(9, 0, first.end_sample, "", 1)]
    assert (
        stitch(swapped, {7: ChunkResult("later"), 9: ChunkResult("sooner")}, duration_s=20).text
        == "sooner later"
    )


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (("engine", "engine"), "engine"),
        (("engine", "aligned"), "aligned"),
        (("estimated", "aligned"), "estimated"),
        (("engine", "none"), "none"),
    ],
)
def test_timestamps_are_the_weakest(claims: tuple[Timestamps, Timestamps], expected: str) -> None:
    results = {n: timed(Segment(0, 1, "x"), timestamps=claim) for n, claim in enumerate(claims)}
    assert stitch(cuts(10, 20), results, duration_s=20).timestamps == expected


def test_silent_cut_weakens_no_timestamps_and_adds_no_segment() -> None:
    whole = stitch(cuts(10, 20), {0: timed(Segment(0, 1, "x")), 1: ChunkResult("  ")}, duration_s=20)
    assert (whole.timestamps, len(whole.segments), whole.text) == ("engine", 1, "x")


def test_nothing_at_all_is_an_empty_transcript() -> None:
    whole = stitch([], {}, duration_s=0.05, flags=("no_speech",))
    assert (whole.text, whole.segments, whole.timestamps, whole.flags) == ("", (), "none", ("no_speech",))


def test_languages_and_flags_add_up_in_order_of_appearance() -> None:
    results = {
        0: ChunkResult("a", languages=("de", "en"), flags=("draft",)),
        1: ChunkResult("b", languages=("en", "fr"), flags=("repetition", "draft")),
    }
    whole = stitch(cuts(10, 20), results, duration_s=20, flags=("truncated_media",))
    assert whole.languages == ("de", "en", "fr")
    assert whole.flags == ("truncated_media", "draft", "repetition")


def test_text_of_scripts_without_spaces_is_joined_without() -> None:
    results = {0: ChunkResult("今日は。"), 1: ChunkResult("元気ですか"), 2: ChunkResult("OK")}
    assert stitch(cuts(10, 20, 30), results, duration_s=30).text == "今日は。元気ですか OK"
