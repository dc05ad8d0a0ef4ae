"""Times for texts that came without any: whatever the text and the sound, they rise and lie within."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tnfd.model import Word
from tnfd.rules.hearing import times
from tnfd.rules.hearing.phrases import Phrase, Sound
from tnfd.rules.hearing.times import Stretch
from tnfd.rules.hearing.tokens import Written, written

WORDS = st.sampled_from(
    ["the", "sea", "lighthouse,", "stood.", "42", "—", "Kristiansund", "why?", "日本語です。"]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=60).map(" ".join)


@st.composite
def sounds(draw: st.DrawFn) -> Sound:
    at = draw(st.floats(0, 3))
    phrases = []
    for _ in range(draw(st.integers(0, 8))):
        end = at + draw(st.floats(0.1, 6))
        phrases.append(Phrase(at, end))
        at = end + draw(st.floats(0.2, 3))
    return Sound(at + draw(st.floats(0.1, 5)), tuple(phrases))


def check(words: Sequence[Word], pieces: Sequence[Written], sound: Sound) -> None:
    assert [word.text for word in words] == [piece.text for piece in pieces]
    for word in words:
        assert -1e-9 <= word.start_s <= word.end_s <= sound.duration_s + 1e-6
    for before, after in itertools.pairwise(words):
        assert before.start_s <= after.start_s + 1e-9


@given(TEXTS, sounds())
def test_an_estimate_places_every_word_in_order(text: str, sound: Sound) -> None:
    pieces = written(text, english=False)
    check(times.estimated(pieces, sound), pieces, sound)


@given(TEXTS, sounds(), st.randoms(use_true_random=False), st.floats(0, 1))
def test_what_an_aligner_missed_lies_between_its_neighbours(
    text: str, sound: Sound, chance: random.Random, missing: float
) -> None:
    pieces = written(text, english=True)
    count = sum(len(piece.said) for piece in pieces)
    moments = sorted(chance.uniform(0, sound.duration_s) for _ in range(2 * count))
    spans = [
        None if chance.random() < missing else (moments[2 * n], moments[2 * n + 1]) for n in range(count)
    ]
    words = times.aligned(pieces, spans, sound)
    if words is not None:
        check(words, pieces, sound)


@given(TEXTS, sounds())
def test_segments_hold_the_whole_text(text: str, sound: Sound) -> None:
    pieces = written(text, english=False)
    words = times.estimated(pieces, sound)
    segments = times.segments(pieces, words)
    assert "".join("".join(one.text.split()) for one in segments) == "".join(text.split())
    assert [word for one in segments for word in one.words or ()] == words


@given(TEXTS, sounds())
def test_halves_are_the_whole(text: str, sound: Sound) -> None:
    pieces = written(text, english=True)
    whole = Stretch(0, len(pieces), 0.0, sound.duration_s)
    halves = times.split(pieces, sound, whole)
    if halves is not None:
        left, right = halves
        assert (left.begin, left.end, right.end) == (0, right.begin, len(pieces))
        assert left.begin < left.end < right.end
        assert (left.start_s, right.end_s) == (0.0, sound.duration_s)
        assert left.end_s == right.start_s
