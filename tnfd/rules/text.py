"""Text for reading: cleaning what engines send, joining pieces, and breaking a transcript into paragraphs.

Never changes a word. Knows no file format; the formats decide how a paragraph or a gap looks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tnfd.model import Gap, Segment, Transcript

PAUSE_S = 2.0  # a silence this long starts a new paragraph
LONG_CHARS = 700  # a paragraph this long ends with its sentence; three times as long, with its segment

# A server may send anything; control characters would act on terminals, a lone surrogate has no UTF-8 form.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_MARKS, _WIDE_MARKS = ".!?…؟۔।॥។။", "。！？"
_CLOSING = "\"'”’»)\\]」』）】"
# Three letters before the mark keep "Dr. Who" and "z. B." together.
_SENTENCES = re.compile(
    rf"(?:\w{{3}}[.!?…][{_CLOSING}]*|[؟۔।॥។။][{_CLOSING}]*)(?=\s)|[{_WIDE_MARKS}]+[{_CLOSING}]*"
)
_ENDED = re.compile(rf"[{_MARKS}{_WIDE_MARKS}][{_CLOSING}]*$")
# Scripts that put no space between words: Thai to Myanmar, Khmer, kana, Han, full-width forms.
UNSPACED = r"[\u0e00-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
_UNSPACED = re.compile(UNSPACED)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Some sentences in one voice; seconds from the start of the recording."""

    start_s: float
    end_s: float
    text: str
    speaker: str | None = None


def clean(text: str) -> str:
    r"""Return the text without control characters, with ``\n`` for every kind of line break, encodable."""
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub("", _BREAKS.sub("\n", text)))


def join(pieces: Iterable[str]) -> str:
    """Join stripped pieces with one space, or with none between scripts that put none between words."""
    whole = ""
    for piece in map(str.strip, pieces):
        whole += f" {piece}" if needs_space(whole, piece) else piece
    return whole


def needs_space(left: str, right: str) -> bool:
    """Whether a space belongs between two pieces: not beside nothing, not between unspaced scripts."""
    return bool(left and right and not (_UNSPACED.match(left[-1]) and _UNSPACED.match(right)))


def clock(at_s: float, *, up: bool = False) -> str:
    """Return ``m:ss`` padded to ``mm:ss``, or ``h:mm:ss``; whole seconds, rounded down or up."""
    minutes, seconds = divmod(math.ceil(at_s) if up else int(at_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def blocks(transcript: Transcript) -> Iterator[Paragraph | Gap]:
    """Give paragraphs and gaps in the order of the recording.

    A paragraph ends at a pause (where times are known) once its sentence has ended, at a change of speaker, a
    gap, a line break of the engine's own, and with the sentence in which it has become long. Text without any
    marks has no sentences; there every pause counts.
    """
    timed = transcript.timestamps != "none"
    marked = _has_marks(transcript)
    gaps = sorted(transcript.gaps, key=lambda gap: gap.start_s)
    held: list[Segment] = []
    for piece in _pieces(transcript):
        passed = [gap for gap in gaps if gap.start_s <= piece.start_s]
        if held and (passed or _breaks(held, piece, timed=timed, marked=marked)):
            yield _paragraph(held)
            held = []
        yield from passed
        gaps = gaps[len(passed) :]
        held.append(piece)
    if held:
        yield _paragraph(held)
    yield from gaps


def _pieces(transcript: Transcript) -> Iterator[Segment]:
    """Give one segment a sentence; a line break of the engine's own stays at the end of its piece."""
    segments = transcript.segments or (Segment(0.0, transcript.duration_s, transcript.text),)
    for segment in segments:
        lines = [line for line in clean(segment.text).split("\n") if line.strip()]
        for n, line in enumerate(lines, 1):
            sentences = _sentences(line)
            if n < len(lines):
                sentences[-1] += "\n"
            ours = segment if len(lines) == 1 else replace(segment, words=None)
            for sentence, (start_s, end_s) in zip(sentences, _spans(ours, sentences), strict=True):
                yield Segment(start_s, end_s, sentence, segment.speaker)


def _sentences(line: str) -> list[str]:
    """Divide a line behind its sentences."""
    found, start = [], 0
    for mark in _SENTENCES.finditer(line):
        found.append(line[start : mark.end()])
        start = mark.end()
    return [part for part in (*found, line[start:]) if part.strip()]


def _spans(segment: Segment, sentences: list[str]) -> Iterator[tuple[float, float]]:
    """When each sentence of a segment is said: by its words, where these are spelt as the text is."""
    words = segment.words or ()
    letters = [_letters(word.text) for word in words]
    if sum(letters) != sum(map(_letters, sentences)):
        words, letters = (), []
    at = passed = told = 0
    for sentence in sentences:
        told += _letters(sentence)
        first = at
        while at < len(words) and passed + letters[at] <= told:
            passed += letters[at]
            at += 1
        if at > first:
            yield words[first].start_s, words[at - 1].end_s
        else:
            yield segment.start_s, segment.end_s


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _has_marks(transcript: Transcript) -> bool:
    """Whether the engine writes the ends of sentences."""
    texts = [segment.text for segment in transcript.segments] or [transcript.text]
    return any(_ENDED.search(sentence.strip()) for text in texts for sentence in _sentences(text))


def _breaks(held: list[Segment], piece: Segment, *, timed: bool, marked: bool) -> bool:
    """Whether a new paragraph starts with ``piece``."""
    last = held[-1]
    if piece.speaker != last.speaker or last.text.endswith("\n"):
        return True
    ended = not marked or bool(_ENDED.search(last.text.strip()))
    if timed and ended and piece.start_s - last.end_s >= PAUSE_S:
        return True
    chars = sum(len(one.text) for one in held)
    return chars >= 3 * LONG_CHARS or (chars >= LONG_CHARS and bool(_ENDED.search(last.text.strip())))


def _paragraph(held: list[Segment]) -> Paragraph:
    return Paragraph(held[0].start_s, held[-1].end_s, join(one.text for one in held), held[0].speaker)
