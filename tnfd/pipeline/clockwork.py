"""Gives times to a text that an engine returned without any: by aligning where it can, else by estimate.

Owns the order of trying. Which times are believed is decided in ``rules.hearing``; a failing ear never fails
the work, it only makes the times coarser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tnfd.errors import Fault
from tnfd.model import ChunkResult
from tnfd.ports.ear import Ear, Span
from tnfd.ports.engine import EngineChunk
from tnfd.rules.hearing import times
from tnfd.rules.hearing.phrases import Sound
from tnfd.rules.hearing.times import Stretch
from tnfd.rules.hearing.tokens import Written, written
from tnfd.rules.tongue import language_of

_DEEPEST = 8  # halvings of a cut whose text is not found at once


async def timed(
    ear: Ear, chunk: EngineChunk, result: ChunkResult, sound: Sound, *, expected: Sequence[str] = ()
) -> ChunkResult:
    """Return the result with segments and words in time, and ``timestamps`` aligned or estimated.

    One that has times, or no text, comes back as it is. ``expected`` are the languages it may be in.
    """
    if result.timestamps != "none" or not result.text.strip():
        return result
    english = _is_english(result, expected)
    pieces = written(result.text, english=english)
    words = None
    if english:
        whole = Stretch(0, len(pieces), 0.0, chunk.duration_s)
        spans = await _spans(ear, chunk, pieces, sound, whole, _DEEPEST)
        words = times.aligned(pieces, spans, sound)
    made = times.estimated(pieces, sound) if words is None else words
    return replace(
        result,
        segments=times.segments(pieces, made),
        timestamps="estimated" if words is None else "aligned",
    )


def guessed(result: ChunkResult, duration_s: float) -> ChunkResult:
    """Return the result with times by length alone: for one whose sound is gone."""
    if result.timestamps != "none" or not result.text.strip():
        return result
    pieces = written(result.text, english=False)
    made = times.estimated(pieces, Sound(duration_s, ()))
    return replace(result, segments=times.segments(pieces, made), timestamps="estimated")


def _is_english(result: ChunkResult, expected: Sequence[str]) -> bool:
    """Whether the text may be English; where nothing tells, the aligner's own failure will."""
    known = result.languages or tuple(filter(None, [language_of(result.text, expected)]))
    if known:
        return known[0].partition("-")[0] == "en"
    return result.text.isascii() and (not expected or any(one.partition("-")[0] == "en" for one in expected))


async def _spans(
    ear: Ear, chunk: EngineChunk, pieces: Sequence[Written], sound: Sound, stretch: Stretch, depth: int
) -> list[Span | None]:
    """Align a stretch, or else go on where the aligner lost it, or else align its halves."""
    own = pieces[stretch.begin : stretch.end]
    words = [word for piece in own for word in piece.said]
    lost: list[Span | None] = [None] * len(words)
    if not words:
        return lost
    try:
        spans = await ear.align(chunk, words, start_s=stretch.start_s, end_s=stretch.end_s)
    except Fault:
        return lost
    if spans[-1] is not None and times.believable(own, spans, sound):
        return spans
    if not depth:
        return lost
    rest = times.rest(pieces, spans, sound, stretch)
    if rest is not None:
        kept = sum(len(piece.said) for piece in pieces[stretch.begin : rest.begin])
        return spans[:kept] + await _spans(ear, chunk, pieces, sound, rest, depth - 1)
    halves = times.split(pieces, sound, stretch)
    if halves is None:
        return lost
    found = [await _spans(ear, chunk, pieces, sound, half, depth - 1) for half in halves]
    return found[0] + found[1]
