"""The quality gate: what it must doubt, what it must not, and that no true sentence is ever dropped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.model import ChunkResult, Segment
from tnfd.rules import quality
from tnfd.rules.hearing.phrases import Phrase, Sound
from tnfd.rules.quality import (
    FEW_WORDS,
    MANY_WORDS,
    NO_SPEECH_TEXT,
    PROMPT_ECHO,
    REPETITION,
    STOCK_PHRASE,
    Asked,
)

SENTENCES = (
    "The ferry was late again this morning.",
    "Nobody knew where the key had gone.",
    "We counted two hundred and eleven steps.",
    "Please put the apples on the table.",
    "In winter the harbour freezes over.",
    "He had never seen the sea before.",
    "What would you like to drink?",
    "No, no, no, that is not what I said!",
)
NOTHING = Asked()
PROMPT = Asked("A conversation about lighthouses and the harbour office.", ("Pemberton", "Kristiansund"))
TRUE = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=len(SENTENCES), unique=True)


def sound_for(text: str, *, before_s: float = 0.3, after_s: float = 0.3) -> Sound:
    """As much speech as the text takes."""
    speech_s = max(0.5, len(text) / 15)
    return Sound(before_s + speech_s + after_s, (Phrase(before_s, before_s + speech_s),))


def flags(text: str, sound: Sound | None = None, asked: Asked = NOTHING) -> set[str]:
    heard = sound or sound_for(text)
    return {one.flag for one in quality.examine(ChunkResult(text), heard, asked, heard.duration_s)}


def judged(text: str, sound: Sound, asked: Asked = NOTHING) -> ChunkResult:
    result = ChunkResult(text)
    return replace(result, doubts=quality.examine(result, sound, asked, sound.duration_s))


@given(TRUE)
def test_plain_speech_is_not_doubted(sentences: list[str]) -> None:
    assert flags(" ".join(sentences)) == set()
    assert flags(" ".join(sentences), asked=PROMPT) == set()


@pytest.mark.parametrize(
    "text",
    [
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen " * 1,
        " ".join(f"s{n:05}" for n in range(120)),
        "Ha ha ha ha! No, no, no, no. Very, very, very good.",
        "Yes. Yes. Okay. Yes. No. Yes. Okay. Yes.",
        "zero zero zero one one nine oh oh oh four",
        "Yeah, yeah, yeah, yeah, yeah, she loves you, yeah, yeah, yeah, yeah.",
        "Thank you for watching over my children while I was away.",
        "Er sagte, dass die Sitzung um neun beginnt, und dass alle kommen sollen.",
        "今日はとても良い天気ですね。散歩に行きましょう。",
    ],
)
def test_what_people_say_is_not_doubted(text: str) -> None:
    assert flags(text) == set()


@given(TRUE, st.sampled_from(SENTENCES), st.integers(5, 30))
def test_loops_are_doubted(sentences: list[str], loop: str, times: int) -> None:
    text = " ".join([*sentences, *[loop] * times])
    assert REPETITION in flags(text)


@pytest.mark.parametrize("loop", ["so ", "you know ", "ご視聴", "我们", "la la lu "])
def test_short_loops_are_doubted(loop: str) -> None:
    assert REPETITION in flags("The ferry was late. " + loop * 12)


def test_one_sentence_again_and_again_between_others_is_doubted() -> None:
    text = " ".join(f"{SENTENCES[n]} {SENTENCES[7]}" for n in range(5))
    assert flags(text) == {REPETITION}


@given(TRUE)
def test_an_echo_of_the_prompt_is_doubted(sentences: list[str]) -> None:
    text = " ".join([PROMPT.prompt, *sentences])
    assert PROMPT_ECHO in flags(text, asked=PROMPT)
    assert PROMPT_ECHO in flags("Pemberton, Kristiansund.", asked=PROMPT)
    assert flags("Mr. Pemberton went to Kristiansund.", asked=PROMPT) == set()


@given(TRUE, st.sampled_from(["Thanks for watching!", "Subtitles by the Amara.org community", "Thank you."]))
def test_closing_phrases_in_silence_are_doubted(sentences: list[str], closing: str) -> None:
    true = " ".join(sentences)
    assert STOCK_PHRASE in flags(f"{true} {closing}", sound_for(true, after_s=6.0))
    assert STOCK_PHRASE in flags(f"{closing} {true}", sound_for(true, before_s=6.0))
    assert flags(f"{true} {closing}", sound_for(f"{true} {closing}")) == set()


def test_a_closing_phrase_alone_is_doubted_where_there_is_other_sound() -> None:
    assert STOCK_PHRASE in flags("Thank you.", Sound(30.0, (Phrase(0, 30),), steady=True))
    assert STOCK_PHRASE in flags("Thank you.", Sound(30.0, (Phrase(1, 25),)))
    assert flags("Thank you.", Sound(1.6, (Phrase(0.3, 1.2),))) == set()


def test_text_where_nobody_speaks_is_doubted() -> None:
    assert flags("The ferry was late.", Sound(20.0, ())) == {NO_SPEECH_TEXT}
    assert flags("", Sound(20.0, ())) == set()
    result = ChunkResult(
        "Hello there. Goodbye now.",
        (Segment(0.5, 2, "Hello there."), Segment(12, 14, "Goodbye now.")),
        timestamps="engine",
    )
    sound = Sound(20.0, (Phrase(0.4, 2.1),))
    (doubt,) = quality.examine(result, sound, NOTHING, 20.0)
    assert (doubt.flag, doubt.start_s, doubt.end_s) == (NO_SPEECH_TEXT, 12, 14)


def test_too_few_and_too_many_words_are_doubted() -> None:
    assert flags("Well.", Sound(25.0, (Phrase(1, 24),))) == {FEW_WORDS}
    assert flags("", Sound(25.0, (Phrase(1, 24),))) == {FEW_WORDS}
    assert flags(" ".join(SENTENCES), Sound(9.0, (Phrase(1, 4),))) == {MANY_WORDS}


def test_a_doubt_says_where() -> None:
    text = "The ferry was late again. " + "and so on " * 8
    (doubt,) = quality.examine(ChunkResult(text), sound_for(text), NOTHING, 10.0)
    assert doubt.flag == REPETITION
    assert 2.0 < doubt.start_s < 4.0
    assert doubt.end_s == pytest.approx(10.0)


INVENTED = st.sampled_from(["Thanks for watching!", "Subtitles by the Amara.org community", PROMPT.prompt])


@given(TRUE, INVENTED, st.booleans())
def test_the_answer_without_inventions_is_better(sentences: list[str], invented: str, first: bool) -> None:
    true = " ".join(sentences)
    sound = sound_for(true, after_s=5.0)
    good, bad = judged(true, sound, PROMPT), judged(f"{true} {invented}", sound, PROMPT)
    one, two = (good, bad) if first else (bad, good)
    assert quality.better(one, two, sound, PROMPT) is good


@given(TRUE, TRUE, st.sampled_from(["", "loop", "closing", "echo"]), st.sampled_from(["", "loop", "closing"]))
def test_no_sentence_is_lost_for_the_sake_of_beauty(
    one: list[str], two: list[str], first_failure: str, second_failure: str
) -> None:
    added = {
        "": "",
        "loop": f" {SENTENCES[0]}" * 9,
        "closing": " Thanks for watching!",
        "echo": f" {PROMPT.prompt}",
    }
    sound = sound_for(" ".join(one), after_s=5.0)
    first = judged(" ".join(one) + added[first_failure], sound, PROMPT)
    second = judged(" ".join(two) + added[second_failure], sound, PROMPT)
    kept = quality.better(first, second, sound, PROMPT)
    if kept is second:
        words = len(" ".join(one).split())
        lost = sum(len(sentence.split()) for sentence in one if sentence not in two)
        assert lost <= 0.15 * words + 1


@given(st.text(max_size=300), st.text(max_size=60), st.lists(st.text(max_size=12), max_size=3))
def test_anything_can_be_examined(text: str, prompt: str, keywords: list[str]) -> None:
    sound = Sound(10.0, (Phrase(1, 3), Phrase(4, 9)))
    for doubt in quality.examine(ChunkResult(text), sound, Asked(prompt, tuple(keywords)), 10.0):
        assert doubt.flag in quality.DOUBTS
        assert 0 <= doubt.start_s <= doubt.end_s <= 10.0 + 1e-6


@given(st.floats(0, 5), st.floats(0.2, 20), st.floats(0, 5))
def test_a_shifted_cut_holds_all_speech(before_s: float, speech_s: float, after_s: float) -> None:
    sound = Sound(before_s + speech_s + after_s, (Phrase(before_s, before_s + speech_s),))
    shift = quality.plan_shift(sound, sound.duration_s)
    assert shift.start_s <= before_s
    assert shift.end_s >= before_s + speech_s - 1e-9
    assert shift.start_s > 0.1 or shift.pad_s > 0.1  # another cut than before
    there = Segment(before_s - shift.start_s + shift.pad_s, before_s - shift.start_s + shift.pad_s + 0.1, "x")
    (back,) = quality.shifted_back(ChunkResult("x", (there,)), shift, sound.duration_s).segments
    assert back.start_s == pytest.approx(before_s, abs=1e-6)
