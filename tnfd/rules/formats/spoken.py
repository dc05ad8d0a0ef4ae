"""A transcript as pieces of text in time: each word, or each character where no spaces are written.

Takes the engine's words for the clock and the segment's text for the letters: servers send words without
punctuation, or spelt differently. Where there are none, text is spread over its segment by length.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tnfd.model import Segment, Transcript, Word
from tnfd.rules.columns import width
from tnfd.rules.formats.breaks import pieces
from tnfd.rules.text import clean, needs_space

SLOWEST_CPS = 4.0  # columns a second; what would be slower has silence in it
_OVERLAP_S = 1.0  # segments that overlap by no more are taken for neighbours
_AHEAD = 16  # letters of the text that may be missing among the words


@dataclass(frozen=True, slots=True)
class Piece:
    """What no line end may divide; seconds. It is said until ``end_s`` and may be shown until ``until_s``."""

    text: str
    spaced: bool  # a space stands before it
    start_s: float
    end_s: float
    until_s: float
    segment: int
    speaker: str | None


def spoken(transcript: Transcript) -> Iterator[Piece]:
    """Give all pieces of a transcript; times rise within a segment."""
    segments = transcript.segments or (Segment(0.0, transcript.duration_s, transcript.text),)
    last = ""
    for n, segment in enumerate(segments):
        parts = list(pieces(segment.text))
        if not parts:
            continue
        end_s = segment.end_s
        if n + 1 < len(segments) and 0 <= end_s - segments[n + 1].start_s <= _OVERLAP_S:
            end_s = max(segment.start_s, segments[n + 1].start_s)
        parts[0] = (parts[0][0], needs_space(last, parts[0][0]))
        speaker = " ".join(clean(segment.speaker or "").split()) or None
        spans = _spans([text for text, _ in parts], segment.start_s, end_s, segment.words or ())
        for at, ((text, spaced), (from_s, to_s)) in enumerate(zip(parts, spans, strict=True)):
            until_s = max(end_s, to_s) if at == len(parts) - 1 and not segment.words else to_s
            yield Piece(text, spaced, from_s, to_s, until_s, n, speaker)
        last = parts[-1][0]


def _spans(
    parts: Sequence[str], start_s: float, end_s: float, words: Sequence[Word]
) -> list[tuple[float, float]]:
    """Return the start and end of each part."""
    letters = [_letters(part) for part in parts]
    knots = _knots("".join(letters), words)
    if knots:
        ends = list(accumulate(map(len, letters)))
        first, last = knots[0], knots[-1]
        missing = ends[-1] - last[0]
        knots.insert(0, (0, min(first[1], max(start_s, first[1] - first[0] / SLOWEST_CPS))))
        knots.append((ends[-1], max(last[1], min(end_s, last[1] + missing / SLOWEST_CPS))))
    else:
        ends = list(accumulate(width(part) + 1 for part in parts))  # a short word takes its time, too
        longest_s = ends[-1] / SLOWEST_CPS
        knots = [(0, start_s), (ends[-1], max(start_s, min(end_s, start_s + longest_s)))]
    offsets = [offset for offset, _ in knots]
    spans = []
    for begin, end in zip([0, *ends], ends, strict=False):
        right = bisect.bisect_right(offsets, begin)  # of a pause at this letter: its end
        left = bisect.bisect_left(offsets, end)  # and its beginning
        from_s = _between(knots[right - 1], knots[right], begin)
        spans.append((from_s, max(from_s, _between(knots[left - 1], knots[left], end))))
    return spans


def _between(before: tuple[int, float], after: tuple[int, float], offset: int) -> float:
    return before[1] + (after[1] - before[1]) * (offset - before[0]) / (after[0] - before[0])


def _knots(letters: str, words: Sequence[Word]) -> list[tuple[int, float]]:
    """Return letters whose moment is known: where words that stand in the text begin and end.

    What stands between two of them is taken for the words between them, though spelt otherwise.
    """
    knots: list[tuple[int, float]] = []
    at = 0
    missed: list[Word] = []
    for word in words:
        said = _letters(word.text)
        # A short word may be found by chance: only right here, or as far on as words are missing.
        ahead = 2 * sum(len(one.text) for one in missed[-_AHEAD:]) + (_AHEAD if width(said) > 2 else 0)
        found = letters.find(said, at, at + len(said) + min(ahead, 10 * _AHEAD)) if said else -1
        if found < 0:
            missed += [word] if said else []
            continue
        _tie(knots, at, found, missed)
        _tie(knots, found, found + len(said), [word])
        at, missed = found + len(said), []
    _tie(knots, at, len(letters), missed)
    return knots


def _tie(knots: list[tuple[int, float]], begin: int, end: int, words: Sequence[Word]) -> None:
    """Add the moments of the letters [begin, end), said as ``words``; they never go back."""
    if begin == end or not words:
        return
    start_s = max(words[0].start_s, knots[-2][1]) if knots else words[0].start_s
    if knots and knots[-1][1] > start_s:
        knots[-1] = (knots[-1][0], start_s)
    # Engines let a word last through the silence behind it.
    last = words[-1]
    end_s = min(last.end_s, last.start_s + 1.0 + width(last.text) / SLOWEST_CPS)
    knots += [(begin, start_s), (end, max(start_s, end_s))]


def _letters(text: str) -> str:
    """Return what must be equal for a word to be the same: letters and digits, or else all of it."""
    folded = clean(text).casefold()
    return "".join(char for char in folded if char.isalnum()) or "".join(folded.split())
