"""The media room's decisions: which stream, where silence belongs, how long is stuck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.media.limits import time_limit_s
from tnfd.media.streams import AudioFacts, canonical_language, decide_stream
from tnfd.media.timeline import Timeline

ENGLISH = AudioFacts(1, language="eng", default=True, channels=2, duration_s=60)
GERMAN = AudioFacts(2, language="ger", channels=6, duration_s=60)
FRENCH = AudioFacts(3, language="fr-CA", channels=2, duration_s=60)
COMMENTARY = AudioFacts(4, language="deu", aside=True, channels=8, duration_s=60)
FILM = [ENGLISH, GERMAN, FRENCH, COMMENTARY]


@pytest.mark.parametrize(
    ("streams", "languages", "expected"),
    [
        (FILM, (), ENGLISH),
        (FILM, ("de",), GERMAN),
        (FILM, ("deu",), GERMAN),
        (FILM, ("DE-at",), GERMAN),
        (FILM, ("it", "fra", "de"), FRENCH),
        (FILM, ("it",), ENGLISH),
        ([COMMENTARY, ENGLISH], ("de",), COMMENTARY),  # asked for, and nothing better speaks it
        ([COMMENTARY, FRENCH], (), FRENCH),
        ([AudioFacts(0, channels=1), AudioFacts(1, channels=2)], (), AudioFacts(1, channels=2)),
        ([AudioFacts(0, duration_s=5), AudioFacts(1, duration_s=9)], (), AudioFacts(1, duration_s=9)),
        ([AudioFacts(3), AudioFacts(1)], (), AudioFacts(1)),
        ([AudioFacts(0, default=True, decodable=False), FRENCH], (), FRENCH),
        ([AudioFacts(0, decodable=False)], (), None),
        ([], ("de",), None),
    ],
)
def test_stream_is_decided(
    streams: list[AudioFacts], languages: tuple[str, ...], expected: AudioFacts | None
) -> None:
    assert decide_stream(streams, languages) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("de", "deu"), ("ger", "deu"), ("deu", "deu"), ("de_AT", "deu"), (" EN ", "eng"), ("zh-Hans", "zho"),
        ("und", "und"), ("", ""), ("xyz", "xyz"),
    ],
)  # fmt: skip
def test_language_tags_meet(tag: str, expected: str) -> None:
    assert canonical_language(tag) == expected


def silences(
    origin_s: float | None, frames: list[tuple[float | None, float]], *, length_s: float | None = None
) -> list[float]:
    timeline = Timeline(origin_s, length_s)
    return [round(timeline.place(at_s, duration_s), 6) for at_s, duration_s in frames]


def test_steady_audio_needs_no_silence() -> None:
    assert silences(0.0, [(n * 0.5 + 0.02, 0.5) for n in range(10)]) == [0.0] * 10


def test_hole_is_filled_once() -> None:
    assert silences(0.0, [(0.0, 1.0), (3.0, 1.0), (4.0, 1.0)]) == [0.0, 2.0, 0.0]


def test_late_start_is_filled() -> None:
    assert silences(1.5, [(4.0, 1.0), (5.0, 1.0)]) == [2.5, 0.0]


def test_unknown_origin_is_the_first_frame() -> None:
    assert silences(None, [(4.0, 1.0), (5.0, 1.0)]) == [0.0, 0.0]


def test_small_losses_add_up_to_a_hole() -> None:
    assert silences(0.0, [(0.0, 1.0), (1.2, 1.0), (2.4, 1.0)]) == [0.0, 0.0, 0.4]


def test_leap_is_a_new_clock() -> None:
    assert silences(0.0, [(0.0, 1.0), (500.0, 1.0), (501.0, 1.0), (0.0, 1.0), (1.0, 1.0)]) == [0.0] * 5


@pytest.mark.parametrize(("length_s", "silence_s"), [(None, 50.0), (52.0, 50.0), (51.0, 50.0), (50.0, 0.0)])
def test_silence_ends_with_the_recording(length_s: float | None, silence_s: float) -> None:
    assert silences(0.0, [(0.0, 1.0), (51.0, 1.0)], length_s=length_s) == [0.0, silence_s]


def test_frames_without_time_are_taken_as_they_come() -> None:
    assert silences(0.0, [(None, 1.0), (None, 1.0), (2.0, 1.0)]) == [0.0, 0.0, 0.0]


@given(st.lists(st.tuples(st.none() | st.floats(-1e6, 1e6), st.floats(1e-4, 10.0)), max_size=200))
def test_silence_never_outweighs_the_audio(frames: list[tuple[float | None, float]]) -> None:
    heard_s = sum(duration_s for _, duration_s in frames)
    filled = silences(0.0, frames)
    assert min(filled, default=0.0) >= 0.0
    assert sum(filled) <= heard_s + 60.0 + 1e-3


def test_time_limit_grows_with_length_and_size() -> None:
    assert time_limit_s(0, None) == 60.0
    assert time_limit_s(10_000_000, 3600.0) == 60.0 + 900.0 + 10.0
    assert time_limit_s(7_500_000, None) == 60.0 + 2500.0 + 7.5
    assert time_limit_s(10**9, 1e12) == 60.0 + 12 * 3600 + 1000.0
