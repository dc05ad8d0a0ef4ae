"""Where speech is, by loudness alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.hearing.phrases import FRAME_S, Phrase, Sound, hear


def levels(*parts: tuple[float, int]) -> bytes:
    """Seconds and decibels, with the flutter that speech has."""
    found = bytearray()
    for seconds, level in parts:
        for n in range(round(seconds / FRAME_S)):
            found.append(max(0, level + (n * 7 % 5 - 2 if level > 20 else 0)))
    return bytes(found)


def spans(sound: Sound) -> list[tuple[float, float]]:
    return [(round(phrase.start_s, 1), round(phrase.end_s, 1)) for phrase in sound.phrases]


def test_speech_between_silences_is_found_where_it_is() -> None:
    sound = hear(levels((1, 30), (2, 75), (0.6, 30), (1, 72), (1, 30)))
    assert spans(sound) == [(1.0, 3.1), (3.6, 4.7)]
    assert not sound.steady
    assert sound.duration_s == pytest.approx(5.6)


def test_a_dip_within_a_word_and_a_click_are_no_borders() -> None:
    sound = hear(levels((1, 30), (1, 75), (0.1, 35), (1, 75), (1, 30), (0.06, 75), (1, 30)))
    assert spans(sound) == [(1.0, 3.2)]


@pytest.mark.parametrize("level", [0, 20, 38])
def test_silence_holds_no_speech(level: int) -> None:
    assert hear(levels((30, level))) == Sound(30.0, ())


def test_loud_sound_that_never_changes_may_be_anything() -> None:
    sound = hear(levels((20, 75)))
    assert sound.steady
    assert sound.phrases == (Phrase(0.0, 20.0),)


def test_digital_silence_beside_speech_makes_no_speech_of_faint_noise() -> None:
    sound = hear(levels((5, 0), (2, 75), (5, 0), (2, 33), (5, 0)))
    assert spans(sound) == [(5.0, 7.1)]


def test_two_backgrounds_in_one_recording_have_a_threshold_each() -> None:
    quiet, loud = [(1.5, 28), (1, 70)] * 6, [(1.5, 58), (1, 85)] * 6
    sound = hear(levels(*quiet, *loud))
    assert len(sound.phrases) >= 11  # where they meet, one takes a pause for speech


def test_speech_between_two_moments_is_counted() -> None:
    sound = Sound(10.0, (Phrase(1, 3), Phrase(5, 6)))
    assert sound.speech_s == 3
    assert sound.speech_between(2, 5.5) == pytest.approx(1.5)
    assert sound.between(2, 5.5).phrases == (Phrase(2, 3), Phrase(5, 5.5))


@given(st.binary(max_size=800))
def test_phrases_are_in_order_and_within(data: bytes) -> None:
    sound = hear(data)
    for phrase in sound.phrases:
        assert 0 <= phrase.start_s < phrase.end_s <= sound.duration_s + 1e-9
    for before, after in itertools.pairwise(sound.phrases):
        assert before.end_s <= after.start_s
