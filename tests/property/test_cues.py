"""Cues: what holds for every transcript, and what three parsers by other hands read of it."""

from __future__ import annotations

import html
import io
import math
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import pysubs2
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from tnfd.model import Gap, Segment, Timestamps, Transcript, Word
from tnfd.rules.columns import width
from tnfd.rules.formats import RENDERERS, RenderInput
from tnfd.rules.formats.breaks import pieces
from tnfd.rules.formats.cues import Cue, cues
from tnfd.rules.formats.direction import RLM
from tnfd.rules.formats.srt import JOINER
from tnfd.rules.text import clean

HOSTILE = [
    "-->", "--->", "00:00:01,000 --> 00:00:02,000", "<script>", "<i>x</i>", "</b>", "< b>", "{\\an8}",
    "{y}", "&amp;", "&", "&lt;b&gt;", "1", "1\n00:00", "\n\n2\n", "WEBVTT", "NOTE", "STYLE", "\r",
    "\x00", "\x1b[2J", "\ud800", "\u2028", "\x85", "\ufeff", "\u200b", "\u202eabc\u202c", "שלום", "مرحبا،",
    "日本語。", "東京タワー", "สวัสดีครับ", "🎉", "👩\u200d👩\u200d👧", "e\u0301", "\u00a0", "x" * 60,
    "Donaudampfschifffahrt", "—", "–", "…", "\\", "\\N", "\t", "''", "1984",
]  # fmt: skip
WORDS = [
    "a",
    "I",
    "and",
    "the",
    "Well,",
    "people.",
    "Really?",
    "budget",
    "engineers",
    "Dr.",
    "3.",
    "understanding",
    "(no)",
]
plain = st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join)
hostile = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.sampled_from(WORDS), st.text(max_size=8)), max_size=20
).map(" ".join)
japanese = st.text("今日は天気が良いので散歩に行きます。、！「」ーアイス3A", min_size=1, max_size=150)
anything = st.one_of(plain, hostile, japanese)
SPEAKERS = [None, "Ann", "Bob B.", "<b>&", "-->", "N" * 70, "東京\nタワー"]


@st.composite
def transcripts(
    draw: st.DrawFn,
    texts: st.SearchStrategy[str] = anything,
    *,
    cps: tuple[float, float] = (0.5, 60),
    speakers: Sequence[str | None] = SPEAKERS,
    timestamps: Sequence[Timestamps] = ("engine", "estimated"),
    gaps: bool = True,
    words: Sequence[bool] = (True, False),
    silence_s: float = 0.0,
) -> Transcript:
    """Segments one after another, some with words as servers send them, with pauses and gaps between them."""
    segments: list[Segment] = []
    lost: list[Gap] = []
    at = draw(st.floats(0, 5))
    for text in draw(st.lists(texts, max_size=6)):
        length = width(clean(text)) / draw(st.floats(*cps))
        said = [word.strip(".,?()") for word in text.split()]
        timed = _words(said, at, length) if draw(st.sampled_from(words)) else None
        segments.append(Segment(at, at + length, text, draw(st.sampled_from(speakers)), timed))
        at += length + draw(st.sampled_from([0.0, 0.0, 0.3, 3.0]))
        if gaps and draw(st.integers(0, 4)) == 0:
            lost.append(Gap(at, at + draw(st.floats(0, 90)), "engine.rejected"))
            at = lost[-1].end_s
    text = " ".join(segment.text for segment in segments)
    times = draw(st.sampled_from(timestamps))
    return Transcript(text, tuple(segments), at + silence_s, timestamps=times, gaps=tuple(lost))


def _words(texts: Sequence[str], start_s: float, length_s: float) -> tuple[Word, ...]:
    step = length_s / max(1, len(texts))
    return tuple(
        Word(start_s + n * step, start_s + (n + 0.8) * step, text) for n, text in enumerate(texts) if text
    )


def bare(text: str) -> str:
    """What is to be read: without spaces, and without the marks that say in which direction."""
    return "".join(clean(text).replace(RLM, "").split())


def is_gap(cue: Cue) -> bool:
    return " ".join(cue.lines).startswith("[not transcribed: ")


def columns(cue: Cue) -> int:
    return sum(map(width, cue.lines)) + len(cue.lines) - 1


@given(transcripts())
def test_all_text_survives_in_order(whole: Transcript) -> None:
    shown = "".join(bare("".join(cue.lines)) for cue in cues(whole) if not is_gap(cue))
    assert shown == "".join(bare(segment.text) for segment in whole.segments)


@given(transcripts(), st.booleans())
def test_cues_follow_one_another(whole: Transcript, named: bool) -> None:
    found = cues(whole, named=named)
    assert all(0 <= cue.start_ms < cue.end_ms for cue in found)
    assert all(before.end_ms + 80 <= after.start_ms for before, after in pairwise(found))


@given(transcripts(), st.booleans())
def test_cues_keep_their_limits(whole: Transcript, named: bool) -> None:
    for cue in cues(whole, named=named):
        assert 1 <= len(cue.lines) <= 2
        assert all(bare(line) for line in cue.lines)
        assert [line for line in cue.lines if width(line) > 42 and len(list(pieces(line))) > 1] == []
        assert is_gap(cue) or cue.end_ms - cue.start_ms <= 7000


@given(transcripts())
def test_a_cue_is_hard_to_read_only_where_no_time_is_left(whole: Transcript) -> None:
    found = cues(whole)
    nexts = [*(cue.start_ms - 80 for cue in found[1:]), round(whole.duration_s * 1000)]
    for cue, latest_ms in zip(found, nexts, strict=False):
        need_ms = min(7000, max(1000, math.ceil(columns(cue) * 1000 / 17)))
        assert cue.end_ms - cue.start_ms >= need_ms or cue.end_ms >= latest_ms


@given(transcripts(plain, cps=(6, 13), speakers=["Ann"], gaps=False, silence_s=1))
def test_people_can_read_what_is_spoken_calmly(whole: Transcript) -> None:
    for cue in cues(whole):
        assert columns(cue) * 1000 <= 17 * (cue.end_ms - cue.start_ms), cue
        assert cue.end_ms - cue.start_ms >= 1000


@given(transcripts(plain, cps=(4, 20), speakers=["Ann"], words=[True], gaps=False))
def test_cues_begin_with_their_words(whole: Transcript) -> None:
    starts = [word.start_s for segment in whole.segments for word in segment.words or ()]
    at = 0
    for cue in cues(whole):
        if not is_gap(cue):
            assert abs(cue.start_ms - 1000 * starts[at]) <= 401, (cue, starts[at])
            at += len(" ".join(cue.lines).split())


@given(transcripts())
def test_every_gap_is_marked_where_it_is(whole: Transcript) -> None:
    marks = [cue for cue in cues(whole) if is_gap(cue)]
    assert len(marks) == len(whole.gaps)
    for mark, gap in zip(marks, whole.gaps, strict=True):
        assert " ".join(mark.lines) == "[not transcribed: engine.rejected]"
        assert mark.speaker is None
        if gap.end_s - gap.start_s > 3:
            assert abs(mark.start_ms / 1000 - gap.start_s) < 5


@given(transcripts(timestamps=["none"], gaps=False))
def test_without_times_a_segment_is_a_cue(whole: Transcript) -> None:
    found = cues(whole)
    spoken = [segment for segment in whole.segments if bare(segment.text)]
    assert [bare("".join(cue.lines)) for cue in found] == [bare(segment.text) for segment in spoken]


def clock(at_ms: int) -> str:
    return f"{at_ms // 3_600_000:02}:{at_ms // 60_000 % 60:02}:{at_ms // 1000 % 60:02}.{at_ms % 1000:03}"


def rendered(form: str, whole: Transcript) -> str:
    data = RENDERERS[form](RenderInput(whole, b"a --> b\n\n1\xff.mp3", "ab" * 32, None))
    return data.decode("utf-8")


@given(transcripts(timestamps=("engine", "none")))
def test_srt_reads_it_as_it_was_meant(whole: Transcript) -> None:
    text = rendered("srt", whole)
    found = list(srt.parse(text))
    meant = cues(whole, named=True)
    assert [(cue.start.total_seconds(), cue.end.total_seconds()) for cue in found] == [
        (cue.start_ms / 1000, cue.end_ms / 1000) for cue in meant
    ]
    assert [cue.content.replace(JOINER, "") for cue in found] == [
        "\n".join(cue.lines).replace(JOINER, "") for cue in meant
    ]
    assert [cue.index for cue in found] == [*range(1, len(meant) + 1)]
    assert not re.search(r"-->|<[a-zA-Z/]|\{\\", "\n".join(cue.content for cue in found))


@given(transcripts(timestamps=("engine", "none")))
def test_pysubs2_reads_it_as_it_was_meant(whole: Transcript) -> None:
    found = pysubs2.SSAFile.from_string(rendered("srt", whole), format_="srt")
    meant = cues(whole, named=True)
    assert [(cue.start, cue.end) for cue in found] == [(cue.start_ms, cue.end_ms) for cue in meant]
    assert [bare(cue.text.replace("\\N", "").replace(JOINER, "")) for cue in found] == [
        bare("".join(cue.lines).replace("\\N", "").replace(JOINER, "")) for cue in meant
    ]


@given(transcripts(timestamps=("engine", "none")))
def test_webvtt_reads_it_as_it_was_meant(whole: Transcript) -> None:
    found = webvtt.from_buffer(io.BytesIO(rendered("vtt", whole).encode())).captions
    meant = cues(whole)
    assert len(found) == len(meant)
    for read, cue in zip(found, meant, strict=True):
        assert [read.start, read.end] == [clock(cue.start_ms), clock(cue.end_ms)]
        assert html.unescape(read.text) == "\n".join(cue.lines)
        assert html.unescape(read.voice or "") == (cue.speaker or "")


@given(transcripts())
def test_output_holds_no_control_characters(whole: Transcript) -> None:
    for form in ("srt", "vtt", "md"):
        text = rendered(form, whole)
        assert {char for char in text if unicodedata.category(char) in ("Cc", "Cs")} <= {"\n"}


@given(anything)
def test_pieces_are_the_text(text: str) -> None:
    found = list(pieces(text))
    assert bare("".join(piece for piece, _ in found)) == bare(text)
    assert all(piece == piece.strip() and piece for piece, _ in found)
