"""Examples of times: where a text pauses, what is believed of an aligner."""

from __future__ import annotations

from tnfd.rules.hearing import times
from tnfd.rules.hearing.phrases import Phrase, Sound
from tnfd.rules.hearing.times import Stretch
from tnfd.rules.hearing.tokens import written

SOUND = Sound(12.0, (Phrase(1, 3), Phrase(5, 8), Phrase(9, 11)))
TEXT = "The sea was calm. Then a storm came up from the west, and the lamp went out."


def test_sentences_begin_with_the_phrases_they_fit() -> None:
    words = times.estimated(written(TEXT, english=False), SOUND)
    starts = {word.text: word.start_s for word in words}
    assert starts["The"] == 1.0
    assert starts["Then"] == 5.0
    assert abs(starts["and"] - 9.0) < 0.01


def test_a_text_without_sound_is_spread_over_the_cut() -> None:
    words = times.estimated(written("one two", english=False), Sound(4.0, ()))
    assert words[0].start_s == 0.0
    assert 1.5 < words[1].start_s < 2.5
    assert times.estimated([], SOUND) == []


def test_words_in_silence_or_without_end_are_not_believed() -> None:
    pieces = written("a storm came", english=True)
    assert times.believable(pieces, [(5, 5.1), (5.2, 5.8), (6, 6.4)], SOUND)
    assert not times.believable(pieces, [(3.6, 3.7), (3.8, 4.0), (4.1, 4.4)], SOUND)
    assert not times.believable(pieces, [(1.0, 3.0), (5.0, 8.0), (9.0, 11.0)], SOUND)
    assert not times.believable(pieces, [None, None, None], SOUND)


def test_what_was_lost_begins_two_words_before_the_aligner_lost_its_way() -> None:
    pieces = written("a storm came up from the west", english=True)
    spans = [(5, 5.1), (5.2, 5.8), (6, 6.4), (6.5, 6.6), (6.7, 6.9), None, None]
    rest = times.rest(pieces, spans, SOUND, Stretch(0, 7, 0.0, 12.0))
    assert rest == Stretch(3, 7, 6.4, 12.0)
    assert times.rest(pieces, [(5, 5.1), *[None] * 6], SOUND, Stretch(0, 7, 0.0, 12.0)) is None


def test_a_number_stands_between_its_neighbours() -> None:
    pieces = written("storm — came", english=True)
    words = times.aligned(pieces, [(5.0, 5.5), (6.5, 7.0)], SOUND)
    assert words is not None
    assert 5.5 <= words[1].start_s <= words[1].end_s <= 6.5


def test_too_few_found_words_are_no_alignment() -> None:
    pieces = written("a storm came up", english=True)
    assert times.aligned(pieces, [(5, 5.2), None, None, None], SOUND) is None
    assert times.aligned(written("日本語です。", english=True), [], SOUND) is None


def test_a_segment_ends_with_a_sentence_and_at_a_silence() -> None:
    pieces = written("Yes. The sea, calm", english=True)
    words = times.aligned(pieces, [(1, 1.4), (1.5, 1.6), (1.7, 2.2), (5, 5.5)], SOUND)
    assert words is not None
    assert [one.text for one in times.segments(pieces, words)] == ["Yes.", "The sea,", "calm"]
