"""The formats: what stands in the files."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tnfd.model import Doubt, EngineChoice, Gap, Segment, Transcript, Word
from tnfd.rules.formats import RENDERERS, RenderInput, available
from tnfd.rules.text import LONG_CHARS, clock
from tnfd.schemas import schema

SHA = "ab" * 32


def given(
    transcript: Transcript, name: bytes = b"talk.mp3", engine: EngineChoice | None = None
) -> RenderInput:
    return RenderInput(transcript, name, SHA, engine)


def untimed(*texts: str, gaps: tuple[Gap, ...] = ()) -> Transcript:
    segments = tuple(Segment(n * 100.0, n * 100.0 + 100, text) for n, text in enumerate(texts))
    return Transcript(" ".join(texts), segments, 100.0 * len(texts), gaps=gaps)


def txt(transcript: Transcript) -> str:
    return RENDERERS["txt"](given(transcript)).decode()


def as_json(transcript: Transcript, **more: Any) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(RENDERERS["json"](given(transcript, **more)))
    jsonschema.Draft202012Validator(schema("transcript-1")).validate(whole)
    return whole


def test_available_formats_are_those_with_a_renderer() -> None:
    assert set(available()) == {"txt", "md", "srt", "vtt", "json"}


def test_txt_is_the_text_and_a_newline() -> None:
    assert txt(untimed("Grüße aus Köln.")) == "Grüße aus Köln.\n"


def test_txt_of_nothing_is_an_empty_file() -> None:
    assert RENDERERS["txt"](given(Transcript("", (), 3.0))) == b""


def test_txt_of_a_transcript_without_segments_still_has_its_text() -> None:
    assert txt(Transcript("Hello.", (), 3.0)) == "Hello.\n"


def test_txt_flows_over_cuts_without_times() -> None:
    assert txt(untimed("It went on", "and on.")) == "It went on and on.\n"


def test_txt_marks_each_gap_where_it_is() -> None:
    gaps = (Gap(100.0, 200.4, "engine.rejected"), Gap(3600, 3725, "engine.too_large"))
    whole = Transcript("a b", (Segment(0, 100, "a"), Segment(201, 300, "b")), 3725, gaps=gaps)
    assert txt(whole) == (
        "a\n\n[01:40 - 03:21: not transcribed: engine.rejected]\n\nb\n\n"
        "[1:00:00 - 1:02:05: not transcribed: engine.too_large]\n"
    )


def test_txt_of_one_long_gap_is_its_mark() -> None:
    assert txt(Transcript("", (), 60, gaps=(Gap(0, 60, "media.corrupt"),))) == (
        "[00:00 - 01:00: not transcribed: media.corrupt]\n"
    )


def test_txt_breaks_at_pauses_only_where_times_are_known() -> None:
    segments = (Segment(0, 1, "One."), Segment(1.5, 2, "Two."), Segment(4.1, 5, "Three."))
    whole = Transcript("One. Two. Three.", segments, 5, timestamps="engine")
    assert txt(whole) == "One. Two.\n\nThree.\n"
    assert txt(Transcript(whole.text, segments, 5, timestamps="none")) == "One. Two. Three.\n"


def test_txt_never_breaks_inside_a_sentence() -> None:
    segments = (Segment(0, 1, "One thing"), Segment(9, 10, "is sure. Two"), Segment(19, 20, "are not."))
    whole = Transcript("", segments, 20, timestamps="engine")
    assert txt(whole) == "One thing is sure. Two are not.\n"


def test_txt_breaks_at_pauses_within_a_segment_by_its_words() -> None:
    words = (Word(0, 1, "One."), Word(1.2, 2, "Two."), Word(6, 7, "Three."))
    whole = Transcript("", (Segment(0, 7, "One. Two. Three.", None, words),), 7, timestamps="engine")
    assert txt(whole) == "One. Two.\n\nThree.\n"


def test_txt_breaks_at_every_pause_where_nobody_writes_marks() -> None:
    segments = (Segment(0, 1, "one two"), Segment(1.2, 2, "three"), Segment(5, 6, "four"))
    assert txt(Transcript("", segments, 6, timestamps="engine")) == "one two three\n\nfour\n"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("今日は晴れです。明日は", "雨です。"), "今日は晴れです。明日は雨です。\n"),
        (("今日は晴れです。", "明日は雨です。"), "今日は晴れです。\n\n明日は雨です。\n"),
        (("यह सच है।", "वह नहीं।"), "यह सच है।\n\nवह नहीं।\n"),
        (("He said: “It is done.”", "Then he left."), "He said: “It is done.”\n\nThen he left.\n"),
        (("สวัสดีครับ", "ผมชื่อ"), "สวัสดีครับ\n\nผมชื่อ\n"),  # Thai has no marks
    ],
)
def test_txt_knows_the_sentences_of_other_scripts(texts: tuple[str, str], expected: str) -> None:
    first, second = texts
    segments = (Segment(0, 1, first), Segment(5, 6, second))
    assert txt(Transcript("", segments, 6, timestamps="engine")) == expected


def test_txt_breaks_where_the_voice_changes_and_names_it() -> None:
    segments = (Segment(0, 1, "Hi.", "Ann"), Segment(1, 2, "So.", "Ann"), Segment(2, 3, "Yes.", "Bob"))
    assert txt(Transcript("", segments, 3, timestamps="engine")) == "Ann: Hi. So.\n\nBob: Yes.\n"


def test_txt_ends_long_paragraphs_with_a_sentence_and_loses_no_word() -> None:
    sentence = "Then Dr. Who said that it went on and on for ever."
    text = " ".join([sentence] * 60)
    rendered = txt(untimed(text))
    paragraphs = rendered.strip().split("\n\n")
    assert len(paragraphs) > 3
    assert all(one.endswith("ever.") and len(one) < LONG_CHARS + 2 * len(sentence) for one in paragraphs)
    assert rendered.split() == text.split()


def test_txt_ends_very_long_paragraphs_without_any_full_stop() -> None:
    segments = tuple(Segment(n, n + 1, "and then we went on") for n in range(1000))
    paragraphs = txt(Transcript("", segments, 1000, timestamps="engine")).strip().split("\n\n")
    assert max(map(len, paragraphs)) < 4 * LONG_CHARS


def test_txt_keeps_line_breaks_of_the_engine_as_paragraphs() -> None:
    assert txt(untimed("First.\r\nSecond.\n\n\nThird.")) == "First.\n\nSecond.\n\nThird.\n"


@pytest.mark.parametrize("form", ["txt", "json"])
def test_what_a_server_sends_cannot_break_the_file(form: str) -> None:
    data = RENDERERS[form](given(untimed("a\x1b[2Jb\x00c \ud800 d\x9be")))
    assert "a[2Jbc \ufffd de" in data.decode()


@pytest.mark.parametrize("form", sorted(RENDERERS))
def test_rendering_twice_gives_the_same_bytes(form: str) -> None:
    whole = untimed("One. Two.", "Three.", gaps=(Gap(5, 6, "media.corrupt"),))
    assert RENDERERS[form](given(whole)) == RENDERERS[form](given(whole))


def test_json_is_the_schema_of_the_contract() -> None:
    words = (Word(0.1234567, 0.5, "Hi."),)
    whole = as_json(
        Transcript(
            "Hi. Ho.",
            (Segment(0.1234567, 0.5, "Hi.", "Ann", words), Segment(1, 2, "Ho.")),
            10.00049,
            languages=("en",),
            timestamps="engine",
            flags=("draft",),
            gaps=(Gap(5, 10, "engine.rejected"),),
            doubts=(Doubt("repetition", 1, 1.50049),),
        ),
        engine=EngineChoice("openai", "openai", "gpt-transcribe"),
    )
    assert whole == {
        "schema": "tnfd.transcript/1",
        "source": {"name": "talk.mp3", "sha256": SHA},
        "duration_s": 10.0,
        "languages": ["en"],
        "engine": {"name": "openai", "type": "openai", "model": "gpt-transcribe"},
        "timestamps": "engine",
        "flags": ["draft"],
        "text": "Hi. Ho.",
        "segments": [
            {
                "start_s": 0.123,
                "end_s": 0.5,
                "text": "Hi.",
                "speaker": "Ann",
                "words": [{"start_s": 0.123, "end_s": 0.5, "text": "Hi."}],
            },
            {"start_s": 1, "end_s": 2, "text": "Ho.", "speaker": None, "words": None},
        ],
        "gaps": [{"start_s": 5, "end_s": 10, "error": "engine.rejected"}],
        "doubts": [{"start_s": 1, "end_s": 1.5, "flag": "repetition"}],
    }


def test_json_of_an_undecodable_name_carries_its_bytes() -> None:
    whole = as_json(untimed("x"), name=b"caf\xe9.mp3")
    assert whole["source"] == {"name": "caf\\xe9.mp3", "sha256": SHA, "name_base64": "Y2Fm6S5tcDM="}
    assert whole["engine"] is None


def test_json_of_nothing_is_valid() -> None:
    assert as_json(Transcript("", (), 0.05))["segments"] == []


@pytest.mark.parametrize(
    ("at_s", "up", "expected"),
    [
        (0, False, "00:00"),
        (59.9, False, "00:59"),
        (59.9, True, "01:00"),
        (3600, True, "1:00:00"),
        (45296, False, "12:34:56"),
    ],
)
def test_clock_shows_whole_seconds(at_s: float, up: bool, expected: str) -> None:
    assert clock(at_s, up=up) == expected
