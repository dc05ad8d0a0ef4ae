"""Subtitles: how text is divided, when it is shown, and how srt and vtt write it down."""

from __future__ import annotations

import pytest

from tnfd.model import Gap, Segment, Timestamps, Transcript, Word
from tnfd.rules.columns import width
from tnfd.rules.formats import RENDERERS, RenderInput
from tnfd.rules.formats.breaks import CLAUSE, CLINGING, INSIDE, JOINING, SENTENCE, WORD, break_cost, pieces
from tnfd.rules.formats.cues import Cue, cues
from tnfd.rules.formats.lines import wrapped_text


def transcript(
    *segments: Segment,
    duration_s: float | None = None,
    timestamps: Timestamps = "engine",
    gaps: tuple[Gap, ...] = (),
) -> Transcript:
    length_s = max((one.end_s for one in segments), default=0.0) if duration_s is None else duration_s
    text = " ".join(segment.text for segment in segments)
    return Transcript(text, segments, length_s, timestamps=timestamps, gaps=gaps)


def calm(text: str, start_s: float = 0.0, speaker: str | None = None) -> Segment:
    """Said at 12 columns a second."""
    return Segment(start_s, start_s + width(text) / 12, text, speaker)


def texts(found: list[Cue]) -> list[str]:
    return ["|".join(cue.lines) for cue in found]


def times(found: list[Cue]) -> list[tuple[int, int]]:
    return [(cue.start_ms, cue.end_ms) for cue in found]


def srt(whole: Transcript) -> str:
    return RENDERERS["srt"](RenderInput(whole, b"talk.mp3", "ab" * 32, None)).decode()


def vtt(whole: Transcript, name: bytes = b"talk.mp3") -> str:
    return RENDERERS["vtt"](RenderInput(whole, name, "ab" * 32, None)).decode()


# -- dividing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "We closed the shop at noon. Then we all walked down to the beach to see the whale.",
            ["We closed the shop at noon.", "Then we all walked down|to the beach to see the whale."],
        ),
        (
            "When the ferry finally came in, the passengers were so tired that nobody wanted to speak.",
            ["When the ferry finally came in,", "the passengers were so tired|that nobody wanted to speak."],
        ),
        (
            "Nach der Sitzung fuhren wir mit Frau Dr. Kern in die Werkstatt, weil der Motor nicht lief.",
            ["Nach der Sitzung fuhren wir|mit Frau Dr. Kern in die Werkstatt,", "weil der Motor nicht lief."],
        ),
        (
            "それでは、来年度のインターネット事業の予算について、田中さんから説明していただきます。",
            ["それでは、来年度の|インターネット事業の予算について、", "田中さんから説明していただきます。"],
        ),
    ],
)  # fmt: skip
def test_cues_end_where_the_sense_does(text: str, expected: list[str]) -> None:
    assert texts(cues(transcript(calm(text)))) == expected


def test_short_sentences_share_a_cue() -> None:
    assert texts(cues(transcript(calm("Yes.", 0), calm("I think so.", 0.4), calm("Why not?", 1.4)))) == [
        "Yes. I think so. Why not?"
    ]


def test_a_silence_ends_a_cue() -> None:
    assert texts(cues(transcript(Segment(0, 1, "No."), Segment(2.2, 3, "Really?")))) == ["No.", "Really?"]
    found = cues(transcript(calm("I will wait", 0), calm("for you.", 3), duration_s=9))
    assert texts(found) == ["I will wait", "for you."]
    assert found[1].start_ms == 3000


@pytest.mark.parametrize(
    ("sentences", "cps", "pause_s", "expected"),
    [
        (  # a word by itself is hardly seen
            ["No.", "I know, but the old lamp was never as bright as people say it was."], 20, 0.5,
            ["No. I know, but the old lamp was never|as bright as people say it was."],
        ),
        (
            ["Everybody at the table looked at each other.", "No."], 12, 0,
            ["Everybody at the table|looked at each other. No."],
        ),
        (  # a new sentence does not begin at the end of a cue
            ["No. He left.", "The passengers were so tired that nobody wanted to eat, "
             "and the crew had all gone home."],
            12, 0,
            ["No. He left.", "The passengers were so tired|that nobody wanted to eat,",
             "and the crew had all gone home."],
        ),
        (  # what can stand with either neighbour goes where there is time
            ["We closed the shop at noon.", "No.", "Nobody had seen the letter before."], 17, 0,
            ["We closed the shop at noon.", "No. Nobody had seen the letter before."],
        ),
    ],
)  # fmt: skip
def test_sentences_are_shown_as_they_are_read_best(
    sentences: list[str], cps: float, pause_s: float, expected: list[str]
) -> None:
    segments, at = [], 0.0
    for text in sentences:
        segments.append(Segment(at, at + len(text) / cps, text))
        at = segments[-1].end_s + pause_s
    assert texts(cues(transcript(*segments, duration_s=at + 2))) == expected


def test_a_single_long_word_stays_whole() -> None:
    word = "Donaudampfschifffahrtsgesellschaftskapitänsmütze"
    assert texts(cues(transcript(calm(f"Die {word} ist weg.")))) == [f"Die|{word}", "ist weg."]


def test_text_without_spaces_is_cut_to_the_width() -> None:
    for text in ("天" * 100, "ก" * 200, "ア" * 60, "🎉" * 60):
        found = cues(transcript(calm(text)))
        assert "".join(line for cue in found for line in cue.lines) == text
        assert max(width(line) for cue in found for line in cue.lines) <= 42


@pytest.mark.parametrize(
    ("left", "right", "cost"),
    [
        ("end.", "Then", SENTENCE),
        ('end."', "Then", SENTENCE),
        ("really?", "yes", SENTENCE),
        ("2020.", "Then", SENTENCE),
        ("well…", "then", WORD),
        ("well...", "then", WORD),
        ("Frau", "Schneider", INSIDE),
        ("etc.", "The", INSIDE),
        ("12.", "Mai", CLINGING),
        ("Dr.", "Who", INSIDE),
        ("J.", "Smith", INSIDE),
        ("z.", "B.", INSIDE),
        ("p.m.", "Then", INSIDE),
        ("3.", "Mai", CLINGING),
        ("20", "dollars", CLINGING),
        ("come,", "but", CLAUSE),
        ("come", "– and", CLAUSE),
        ("came", "because", JOINING),
        ("because", "it", CLINGING),
        ("and", "when", CLINGING),
        ("we", "with", JOINING),
        ("move", "on", JOINING),
        ("on", "to", JOINING),
        ("the", "house", CLINGING),
        ("house", "burned", WORD),
    ],
)
def test_a_break_costs_what_it_hurts(left: str, right: str, cost: int) -> None:
    assert break_cost(left, right, spaced=True) == cost


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b\tc\u2028d", ["a", "b", "c", "d"]),
        ("10\u00a0000 Quoi\u202f?", ["10\u00a0000", "Quoi\u202f?"]),
        ("wait—what", ["wait—", "what"]),
        ("well-known", ["well-known"]),
        ("お集まりいただき、本当に", ["お集まりいただき、", "本当に"]),
        ("「はい」と言った", ["「はい」", "と", "言った"]),
        ("第3回は12月です", ["第3回は", "12月です"]),
        ("人類史上最大規模調査3年", [*"人類史上最大規模調査", "3年"]),
        ("안녕하세요 여러분", ["안녕하세요", "여러분"]),
        ("ok👍🏽👩\u200d👧ok", ["ok👍🏽", "👩\u200d👧", "ok"]),
        ("ទី\u200bនេះ", ["ទី\u200b", "នេះ"]),
    ],
)
def test_pieces_are_what_no_line_may_divide(text: str, expected: list[str]) -> None:
    assert [piece for piece, _ in pieces(text)] == expected


def test_lines_are_of_like_length() -> None:
    assert wrapped_text("The quick brown foxes jumped over several lazy dogs") == (
        "The quick brown foxes jumped",
        "over several lazy dogs",
    )


# -- times -----------------------------------------------------------------------------------------------


def test_words_say_when_their_text_is_shown() -> None:
    words = (Word(5, 5.4, "wait"), Word(8.2, 8.4, "five"), Word(8.4, 8.9, "thousand"), Word(9, 10, "more"))
    found = cues(transcript(Segment(0, 20, "Wait! £5,000 more.", None, words)))
    assert texts(found) == ["Wait!", "£5,000 more."]
    assert times(found) == [(5000, 6000), (8200, 10000)]


def test_words_that_differ_from_the_text_do_not_lose_the_clock() -> None:
    said = ["uh", "One", "too", "three", "uh", "four", "five"]
    words = tuple(Word(2.0 * n, 2.0 * n + 0.5, word) for n, word in enumerate(said))
    found = cues(transcript(Segment(0, 14, "One, two, three, (ahem) four, five.", None, words)))
    assert [(cue.lines[0], cue.start_ms) for cue in found] == [
        ("One,", 2000),
        ("two,", 4000),
        ("three,", 6000),
        ("(ahem)", 8000),
        ("four,", 10000),
        ("five.", 12000),
    ]


def test_words_that_last_through_the_silence_behind_them_are_cut() -> None:
    words = (Word(0, 0.5, "I"), Word(0.5, 9, "see"), Word(9, 9.5, "Really"))
    found = cues(transcript(Segment(0, 10, "I see. Really?", None, words)))
    assert texts(found) == ["I see.", "Really?"]
    assert found[0].end_ms < 4000


def test_a_segment_with_little_text_is_shown_as_a_whole() -> None:
    assert times(cues(transcript(Segment(10, 40, "Thank you.")))) == [(10000, 17000)]


def test_a_cue_stays_until_it_is_read() -> None:
    fast = Segment(0, 2, "Forty columns of text in two seconds flat.")
    assert times(cues(transcript(fast, duration_s=60))) == [(0, 2471)]
    assert times(cues(transcript(Segment(5, 5.1, "No."), duration_s=60))) == [(5000, 6000)]


def test_a_short_pause_between_cues_is_bridged() -> None:
    first, second = "This is said first, as you can see here.", "And this is said somewhat later than that."
    gap = Segment(width(first) / 12 + 0.4, 8, second)
    found = cues(transcript(calm(first), gap))
    assert found[0].end_ms + 80 == found[1].start_ms


def test_neighbours_give_what_they_can_spare() -> None:
    long = "It goes on and on, twenty columns a second."
    whole = transcript(
        Segment(3, 3 + width(long) / 20, long, "A"),
        Segment(3 + width(long) / 20, 9, "I see.", "B"),
        duration_s=20,
    )
    first, second = cues(whole)
    assert first.start_ms < 3000
    assert second.start_ms - 3000 - 50 * width(long) <= 400
    assert first.end_ms - first.start_ms >= 1000 * width(long) / 17


def test_voices_that_overlap_are_shown_in_turn() -> None:
    long = "I will go on and on about it, no matter what you say, and nobody can ever stop me from talking."
    whole = transcript(calm(long, 0, "A"), calm("Please stop it now.", 4, "B"))
    assert texts(cues(whole, named=True)) == [
        "A: I will go on and on about it,|no matter what you say,",
        "B: Please stop it now.",
        "A: and nobody can ever|stop me from talking.",
    ]


def test_the_end_of_a_segment_gives_way_to_the_next() -> None:
    text = "I thought so. " * 6 + "Really?"
    found = cues(transcript(Segment(0, 4, text, "A"), Segment(3.2, 6, "No, I am not.", "B")))
    assert [cue.speaker for cue in found] == ["A", "A", "A", "B"]
    assert found[2].start_ms < 2000  # at two thirds of 3.2 s, less what a hurried cue begins early


def test_words_that_go_back_in_time_do_not_take_the_text_along() -> None:
    words = (Word(2, 3, "one"), Word(0.5, 1, "two"), Word(2.5, 4, "three"))
    (cue,) = cues(transcript(Segment(0, 4, "One two three.", None, words)))
    assert (cue.lines, cue.start_ms) == (("One two three.",), 2000)


def test_words_that_are_all_spelt_otherwise_still_tell_the_time() -> None:
    words = (Word(5, 5.5, "ein"), Word(5.5, 6, "zwei"))
    (cue,) = cues(transcript(Segment(0, 9, "1, 2.", None, words)))
    assert (cue.start_ms, cue.end_ms) == (5000, 6000)


def test_segments_of_text_without_spaces_are_joined_without_one() -> None:
    assert texts(cues(transcript(Segment(0, 2, "はい、"), Segment(2, 4, "そうです。")))) == [
        "はい、そうです。"
    ]


def test_segments_at_one_moment_still_follow_each_other() -> None:
    whole = transcript(*(Segment(1, 1, f"{n}.", f"Voice {n}") for n in range(5)))
    found = cues(whole)
    assert texts(found) == ["0.", "1.", "2.", "3.", "4."]
    assert all(cue.end_ms > cue.start_ms for cue in found)


# -- gaps, names, no times -------------------------------------------------------------------------------


def test_a_gap_is_marked_for_as_long_as_it_lasts() -> None:
    whole = transcript(calm("Before."), calm("After.", 100), gaps=(Gap(3, 99, "engine.rejected"),))
    found = cues(whole)
    assert texts(found) == ["Before.", "[not transcribed: engine.rejected]", "After."]
    assert times(found)[1] == (3000, 99000)


def test_a_gap_inside_a_segment_divides_it() -> None:
    text = "one two three four five six seven eight nine ten."
    whole = transcript(Segment(0, 8, text), gaps=(Gap(4, 4.5, "media.corrupt"),))
    before, mark, after = texts(cues(whole))
    assert mark == "[not transcribed: media.corrupt]"
    assert f"{before} {after}".replace("|", " ") == text


def test_without_times_each_chunk_is_one_cue() -> None:
    text = "And so it went on for quite a while. " * 20
    whole = transcript(
        Segment(0, 600, text),
        Segment(660, 1200, "The end."),
        timestamps="none",
        gaps=(Gap(600, 660, "engine.rejected"),),
    )
    found = cues(whole)
    assert times(found) == [(0, 599920), (600000, 659920), (660000, 1200000)]
    assert max(map(len, found[0].lines)) <= 42
    assert " ".join(found[0].lines) == text.strip()


def test_a_transcript_without_segments_still_has_its_text() -> None:
    assert texts(cues(Transcript("Hello there.", (), 3.0))) == ["Hello there."]
    assert texts(cues(Transcript("Hello there.", (), 0.0))) == ["Hello there."]


def test_names_stand_where_the_voice_changes() -> None:
    whole = transcript(calm("Hi.", 0, "Ann"), calm("So.", 3, "Ann"), calm("Yes.", 6, "Bob"), calm("Well.", 9))
    assert texts(cues(whole, named=True)) == ["Ann: Hi.", "So.", "Bob: Yes.", "Well."]
    assert [cue.speaker for cue in cues(whole)] == ["Ann", "Ann", "Bob", None]


def test_names_count_as_text() -> None:
    text = "This line has exactly forty-two columns ok"
    assert texts(cues(transcript(calm(text, 0, "Ann")), named=True)) == [
        "Ann: This line has exactly|forty-two columns ok"
    ]


def test_a_name_without_end_is_cut() -> None:
    (cue,) = cues(transcript(calm("Hi.", 0, "N" * 70)), named=True)
    assert cue.lines == (f"{'N' * 15}…: Hi.",)
    assert cue.speaker == "N" * 70


# -- files -----------------------------------------------------------------------------------------------


def test_srt_as_a_whole() -> None:
    whole = transcript(calm("Hello there.", 0.5, "Ann"), calm("Bye.", 3725.25), duration_s=3730)
    assert srt(whole) == (
        "1\n00:00:00,500 --> 00:00:01,500\nAnn: Hello there.\n\n2\n01:02:05,250 --> 01:02:06,250\nBye.\n\n"
    )


def test_vtt_as_a_whole() -> None:
    whole = transcript(calm("Hello there.", 0.5, "Ann & <b>"), calm("Bye.", 3725.25), duration_s=3730)
    assert vtt(whole) == (
        "WEBVTT\n\nNOTE Source: talk.mp3\n\n"
        "00:00:00.500 --> 00:00:01.500\n<v Ann &amp; &lt;b&gt;>Hello there.\n\n"
        "01:02:05.250 --> 01:02:06.250\nBye.\n"
    )


def test_nothing_said_is_a_valid_file() -> None:
    assert srt(Transcript("", (), 3.0)) == ""
    assert vtt(Transcript("", (), 3.0)) == "WEBVTT\n\nNOTE Source: talk.mp3\n"


def test_srt_keeps_the_text_from_being_markup() -> None:
    whole = transcript(calm("a --> b <i>c</i> {\\an8} 1 < 2 > 0 00:00:01,000", 0))
    assert srt(whole).split("\n", 2)[2].split() == [
        "a", "--\u2060>", "b", "<\u2060i>c<\u2060/i>", "{\u2060\\an8}", "1", "<", "2", ">", "0",
        "00:00:01\u2060,000",
    ]  # fmt: skip


def test_vtt_escapes_the_text() -> None:
    whole = transcript(calm("a --> b <i>R&amp;D</i>"))
    assert vtt(whole).endswith("\na --&gt; b &lt;i&gt;R&amp;amp;D&lt;/i&gt;\n")


def test_vtt_note_cannot_hold_an_arrow_or_a_line_break() -> None:
    assert "\n\nNOTE Source: a -- > b c\\xff.mp3\n\n" in vtt(transcript(calm("x")), b"a --> b\n\nc\xff.mp3")
